// Drawings of structures, in the colours of the page; where the server cannot draw, the SMILES.

import { key } from "./access.js";
import * as api from "./api.js";
import { h } from "./dom.js";

export const isDark = () =>
  (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

/** A figure of a structure. */
export function drawing(smiles, name, { width = 320, height = 220, substructure = "", eager = false } = {}) {
  const source = () => api.drawing(smiles, { width, height, substructure, dark: isDark() });
  const failed = () => figure.replaceChildren(h("code", { className: "smiles", title: "This structure cannot be drawn here" }, smiles));
  const image = h("img", {
    alt: `Structure of ${name || smiles}`,
    width,
    height,
    loading: eager ? "eager" : "lazy",
    decoding: "async",
    onerror: failed,
  });
  image.dataset.redraw = "";
  image.redraw = async () => {
    if (!key()) {
      image.src = source();
      return;
    }
    // An image's own request cannot carry a key.
    try {
      image.src = URL.createObjectURL(await api.blob(source(), "image/svg+xml"));
      image.onload = () => URL.revokeObjectURL(image.src);
    } catch {
      failed();
    }
  };
  image.redraw();
  const figure = h("div", { className: "drawing" }, image);
  return figure;
}

/** Draws everything again, after the colours of the page have changed. */
export function redrawAll() {
  for (const image of document.querySelectorAll("img[data-redraw]")) image.redraw();
}

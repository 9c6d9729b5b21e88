// The structure editor: it lives in a page of its own and speaks with this one in messages.

import { announce, h } from "./dom.js";
import { isDark } from "./drawing.js";

/** Opens the editor with a structure in it; `done` gets the SMILES of what was drawn. */
export function openSketcher(structure, done) {
  const opener = document.activeElement;
  let smiles = "";
  const frame = h("iframe", { src: `/sketcher/index.html${isDark() ? "?dark" : ""}`, title: "Structure editor" });
  const shown = h("output", { className: "smiles", ariaLabel: "SMILES of the drawing" });
  const use = h("button", { type: "button", className: "primary", disabled: true, onclick: take }, "Use this structure");
  const dialog = h(
    "dialog",
    { className: "sketch" },
    h("header", {}, h("h2", { id: "sketch-title" }, "Draw a structure"), h("button", { type: "button", className: "quiet", ariaLabel: "Close", onclick: () => dialog.close() }, "✕")),
    frame,
    h("footer", {}, shown, use),
  );
  dialog.setAttribute("aria-labelledby", "sketch-title");
  addEventListener("message", heard);
  dialog.addEventListener("close", () => {
    removeEventListener("message", heard);
    dialog.remove();
    opener?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();

  function heard(event) {
    if (event.source !== frame.contentWindow || event.origin !== location.origin || typeof event.data !== "object" || event.data === null) return;
    if (event.data.ready) {
      announce("The structure editor is ready.");
      if (structure) frame.contentWindow.postMessage({ structure }, location.origin);
    } else if (typeof event.data.smiles === "string") {
      smiles = event.data.smiles.slice(0, 5000);
      shown.textContent = smiles;
      use.disabled = !smiles;
    }
  }

  function take() {
    dialog.close();
    done(smiles);
  }
}

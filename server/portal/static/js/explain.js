// "Why this hit?": phrases of the query and the atoms they point at, in the same colours, and what each leg said.

import * as api from "./api.js";
import { legList, titleOf } from "./cards.js";
import { fill, h } from "./dom.js";
import { drawing } from "./drawing.js";

/** Opens the view; `opener` gets the focus back. */
export async function openExplanation(hit, { text, substructure }, opener) {
  const title = titleOf(hit.compound);
  const place = h("div", { className: "explanation", ariaBusy: "true" }, drawing(hit.compound.smiles, title, { width: 460, height: 320, substructure, eager: true }));
  const dialog = h(
    "dialog",
    { className: "why", ariaLabelledby: "why-title" },
    h(
      "header",
      {},
      h("h2", { id: "why-title" }, `Why ${title}?`),
      h("button", { type: "button", className: "quiet", onclick: () => dialog.close(), ariaLabel: "Close" }, "✕"),
    ),
    place,
    words(hit),
    h("section", { ariaLabel: "Scores" }, h("h3", {}, "What each way of searching said"), legList(hit.legs ?? []) ?? h("p", {}, "One way alone answered.")),
  );
  dialog.setAttribute("aria-labelledby", "why-title");
  dialog.addEventListener("close", () => {
    dialog.remove();
    opener?.focus();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  try {
    if (text || substructure) fill(place, ...explained(await api.explain({ compound: hit.compound.name, text, substructure, draw: true }), text, title));
    else place.append(h("p", { className: "hint" }, "The query was a structure: the scores below tell how near this one is."));
  } catch (error) {
    const said = error.reason === "UNIMPLEMENTED" ? "This server cannot tell which phrases point at which atoms." : error.message;
    place.append(h("p", { className: "hint" }, said));
  }
  place.removeAttribute("aria-busy");
}

function explained(answer, text, title) {
  const phrases = answer.phrases ?? [];
  return [
    answer.svg ? h("div", { className: "drawing paper" }, h("img", { src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(answer.svg)}`, alt: `Structure of ${title}, its atoms coloured by the phrases that point at them`, width: 460, height: 320 })) : drawing(answer.smiles, title, { width: 460, height: 320, eager: true }),
    text ? h("p", { className: "phrases", ariaLabel: "The query; phrases have the colour of the atoms they point at" }, ...coloured(text, phrases)) : null,
    phrases.length
      ? h(
          "table",
          { className: "weights" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Phrase"), h("th", { scope: "col" }, "Share of the meaning"), h("th", { scope: "col" }, "Atoms"))),
          h("tbody", {}, ...[...phrases].sort((a, b) => (b.weight ?? 0) - (a.weight ?? 0)).map(row)),
        )
      : null,
    answer.score ? h("p", { className: "hint" }, `Similarity of text and molecule: ${answer.score.toFixed(3)}`) : null,
  ];
}

function coloured(text, phrases) {
  const parts = [];
  // The service counts characters as people do, JavaScript counts half surrogates.
  const characters = [...text];
  let end = 0;
  for (const phrase of [...phrases].sort((a, b) => (a.start ?? 0) - (b.start ?? 0))) {
    const start = phrase.start ?? 0;
    if (start < end) continue;
    parts.push(characters.slice(end, start).join(""));
    const part = h("span", { className: phrase.colour ? "phrase" : "" }, characters.slice(start, phrase.end).join(""));
    if (phrase.colour) part.style.setProperty("--phrase", phrase.colour);
    parts.push(part);
    end = phrase.end;
  }
  parts.push(characters.slice(end).join(""));
  return parts;
}

function row(phrase) {
  const swatch = h("span", { className: "swatch" });
  if (phrase.colour) swatch.style.setProperty("--phrase", phrase.colour);
  const share = phrase.weight ?? 0;
  const atoms = (phrase.atomWeights ?? []).map((weight, atom) => [weight, atom]).filter(([weight]) => weight >= 0.08).sort((a, b) => b[0] - a[0]).slice(0, 8);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, swatch, phrase.text),
    h("td", {}, h("meter", { min: 0, max: 1, value: share, ariaLabel: `${Math.round(share * 100)} percent` }), ` ${Math.round(share * 100)} %`),
    h("td", {}, phrase.colour ? atoms.map(([, atom]) => atom + 1).join(", ") : "–"),
  );
}

function words(hit) {
  return hit.matchedWords?.length
    ? h("p", { className: "words" }, "Words of the query in its names and texts: ", ...hit.matchedWords.flatMap((word, place) => [place ? ", " : "", h("mark", {}, word)]))
    : null;
}

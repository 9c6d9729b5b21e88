// What the model makes up: molecules for words, and words for a molecule. Each proposal is checked, and says what is known of its kind.

import * as api from "./api.js";
import { compoundAddress, formula } from "./cards.js";
import { announce, fill, h, link, number } from "./dom.js";
import { drawing } from "./drawing.js";

/** Hides itself where the server makes nothing up, else shows what comes of `start`. */
async function proposals(place, button, start, show) {
  const leaving = new AbortController();
  button.disabled = true;
  fill(place, h("p", { className: "hint", role: "status" }, "The model is at work…"), h("progress", { ariaLabel: "The model is at work" }));
  try {
    const operation = await start();
    const done = await api.watch(operation.name, () => place.isConnected || leaving.abort(), leaving.signal);
    if (done.error?.message) throw new api.Refusal(0, "", done.error.message);
    fill(place, show(done.response));
    announce("The model's proposals are here.");
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(place, h("p", { className: "notice" }, error.reason === "UNIMPLEMENTED" || error.reason === "NO_SUCH_PATH" ? "This server has no model that writes." : error.message));
  }
  button.disabled = false;
}

/** A section that proposes new molecules for words. */
export function moleculesFor(text, library, filter, label = "Propose new molecules for these words") {
  const place = h("div");
  const button = h("button", { type: "button", onclick: () => proposals(place, button, () => api.generate(library || "-", text, filter), candidates) }, label);
  return h("section", { className: "generated", ariaLabel: "New molecules" }, button, place);
}

function candidates(response) {
  const found = response.candidates ?? [];
  if (!found.length) return h("p", { className: "notice" }, "No proposal passed the checks.");
  return h(
    "div",
    {},
    h("p", { className: "hint" }, `${number.format(found.length)} proposals of ${number.format(response.counts?.attempted ?? 0)} attempts; made up by a model, not from any library.`),
    h("ol", { className: "cards" }, ...found.map(candidate)),
  );
}

function candidate(each) {
  const [nearest] = each.nearest ?? [];
  return h(
    "li",
    { className: "card" },
    h(
      "article",
      {},
      h("div", { className: "picture" }, drawing(each.smiles, each.inchikey)),
      h(
        "div",
        { className: "body" },
        h("h3", {}, each.known ? "Known in the library" : "New"),
        h("p", { className: "facts" }, each.descriptors?.formula ? formula(each.descriptors.formula) : null, h("span", {}, `alignment ${(each.alignment ?? 0).toFixed(2)}`)),
        h("p", { className: "text" }, h("code", {}, each.smiles)),
        nearest ? h("p", { className: "facts" }, "Nearest: ", link(compoundAddress(nearest.compound), {}, nearest.displayName || "a compound"), ` (${(nearest.tanimoto ?? 0).toFixed(2)})`) : null,
      ),
      h("div", { className: "actions" }, link(`/?${new URLSearchParams({ structure: each.smiles })}`, { className: "button quiet" }, "Search by it")),
    ),
  );
}

/** A section that describes a molecule in words. */
export function wordsFor(compound, library) {
  const place = h("div");
  const button = h("button", { type: "button", onclick: () => proposals(place, button, () => api.describe(library, compound.name), descriptions) }, "Describe it in the model's words");
  return h("section", { className: "generated", ariaLabel: "The model's description" }, button, place);
}

function descriptions(response) {
  const neighbours = response.neighbours ?? [];
  return h(
    "div",
    {},
    ...(response.descriptions ?? []).map((each) => h("blockquote", {}, h("p", {}, each.text), each.droppedSentences?.length ? h("p", { className: "hint" }, `${each.droppedSentences.length} sentences left out, because the structure contradicts them.`) : null)),
    h("p", { className: "hint" }, "Written by a model. ", ...(neighbours.length ? ["It was shown the descriptions of ", ...neighbours.flatMap((each, place) => [place ? ", " : "", link(compoundAddress(each.compound), {}, each.displayName || each.smiles)]), "."] : [])),
  );
}

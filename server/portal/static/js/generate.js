// What the model makes up: molecules for words, and words for a molecule. Each proposal is checked, and says what is known of its kind.

import * as api from "./api.js";
import { compoundAddress, facts } from "./cards.js";
import { announce, fill, h, link, number } from "./dom.js";
import { drawing } from "./drawing.js";

const DROPPED = {
  DUPLICATE: "found before",
  FILTERED: "not as the conditions ask",
  TOO_LARGE: "larger than the model reads",
  INVALID_SMILES: "no valid structure",
  CONTRADICTED: "contradicted by the structure",
};
const SHORT = { BUDGET: "the attempts were used up", DEADLINE: "the time was up" };

/** Follows what `start` begins; `show` is called with what was found so far, as often as there is more, and whether that is all. */
export async function follow(place, start, show, signal) {
  fill(place, h("p", { className: "hint", role: "status" }, "The model is at work…"), h("progress", { ariaLabel: "The model is at work" }));
  let name = "";
  try {
    name = (await start()).name;
    if (signal.aborted) throw new DOMException("", "AbortError");
    const done = await api.watch(name, (operation) => operation.done || show({ ...operation.metadata, operation: operation.name }, false), signal);
    const cancelled = done.metadata?.state === "CANCELLED";
    if (done.error?.message && !cancelled) throw new api.Refusal(0, "", done.error.message);
    show({ ...done.metadata, ...done.response, operation: name }, true);
    announce("The model's proposals are here.");
  } catch (error) {
    if (error.name === "AbortError") {
      // Nobody looks at it any more.
      if (name) api.cancel(name).catch(() => {});
      return;
    }
    fill(place, h("p", { className: "notice", role: "alert" }, error.reason === "UNIMPLEMENTED" || error.reason === "NO_SUCH_PATH" ? "This server has no model that writes." : `${error.message} `, error.reason ? h("code", {}, error.reason) : null));
  }
}

/** Shows candidates as they come: cards stay while better ones take their places. */
export function candidateList(place) {
  const cards = new Map();
  const status = h("p", { className: "hint", role: "status" });
  const list = h("ol", { className: "cards" });
  return (answer, all) => {
    if (!list.isConnected) fill(place, status, list);
    const found = answer.candidates ?? [];
    const counts = answer.counts ?? {};
    const dropped = Object.entries(counts.droppedByReason ?? {}).map(([reason, times]) => `${number.format(times)} ${DROPPED[reason] ?? reason}`);
    status.textContent = [
      `${number.format(found.length)} proposals of ${number.format(counts.attempted ?? 0)} attempts${dropped.length ? `; dropped: ${dropped.join(", ")}` : ""}.`,
      all ? "Made up by a model, not from any library." : "The model is at work…",
      answer.state === "CANCELLED" ? "Stopped." : answer.shortfallReason ? `Fewer than wanted: ${SHORT[answer.shortfallReason] ?? answer.shortfallReason}.` : "",
      answer.seed ? `Seed ${answer.seed}.` : "",
    ].join(" ");
    for (const each of found) if (!cards.has(each.inchikey)) cards.set(each.inchikey, candidate(each));
    const order = found.map((each) => cards.get(each.inchikey));
    if (order.some((card, at) => list.children[at] !== card)) fill(list, ...order);
  };
}

/** A section that proposes new molecules for words. */
export function moleculesFor(text, library, filter, label = "Propose new molecules for these words") {
  const place = h("div");
  const leaving = new AbortController();
  const show = candidateList(place);
  const button = h("button", { type: "button", onclick: propose }, label);
  return h("section", { className: "generated", ariaLabel: "New molecules" }, button, place);

  async function propose() {
    button.disabled = true;
    await follow(place, () => api.generate(library || "-", { text, filter, count: 12 }), (answer, all) => (place.isConnected ? show(answer, all) : leaving.abort()), leaving.signal);
    button.disabled = false;
  }
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
        facts(
          each.descriptors,
          h("span", { title: "Cosine of the molecule's vector and the text's" }, `alignment ${(each.alignment ?? 0).toFixed(2)}`),
          h("span", { title: "Natural logarithm of the probability with which the model writes it" }, `log-probability ${(each.logProbability ?? 0).toFixed(1)}`),
        ),
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
  const leaving = new AbortController();
  const button = h("button", { type: "button", onclick: describe }, "Describe it in the model's words");
  return h("section", { className: "generated", ariaLabel: "The model's description" }, button, place);

  async function describe() {
    button.disabled = true;
    await follow(place, () => api.describe(library, compound.name), (answer, all) => (place.isConnected ? all && fill(place, descriptions(answer)) : leaving.abort()), leaving.signal);
    button.disabled = false;
  }
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

// Hits as cards: the structure, what it is called, what is said of it, and what each way of searching thought.

import { h, link, number } from "./dom.js";
import { drawing } from "./drawing.js";

const LEGS = {
  molecules: ["Molecule", "Meaning of the query against the structure"],
  texts: ["Text", "Meaning of the query against what is said of the compound"],
  lexical: ["Words", "Words of the query in names and descriptions"],
  fingerprints: ["Fingerprint", "Tanimoto similarity of the structures"],
  fragments: ["Fragments", "Phrases of the query against fragments of the structure"],
};

export const compoundAddress = (name) => `/?compound=${encodeURIComponent(name)}`;

/** A name people know, of whatever a compound has. */
export const titleOf = (compound) => compound.displayName || compound.sourceIds?.[0] || compound.inchikey || compound.smiles;

/** The formula with its numbers set low. */
export function formula(text) {
  return h("span", { className: "formula" }, ...text.split(/(\d+)/).map((part) => (/^\d+$/.test(part) ? h("sub", {}, part) : part)));
}

/** A line of what a molecule is, and of what else is to be said of it. */
export function facts(descriptors, ...more) {
  const { formula: elements, molecularWeight: weight } = descriptors ?? {};
  const mass = weight ? h("span", {}, `${number.format(Math.round(weight * 100) / 100)} g/mol`) : null;
  return h("p", { className: "facts" }, elements ? formula(elements) : null, mass, ...more);
}

/** The text with the words that were found marked. */
export function marked(text, words) {
  if (!words?.length) return [text];
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return text.split(new RegExp(`(\\b(?:${escaped.join("|")})s?\\b)`, "giu")).map((part, place) => (place % 2 ? h("mark", {}, part) : part));
}

/** One hit. */
export function card(hit, { why, substructure = "", similar = null, place = 99 }) {
  const { compound } = hit;
  const title = titleOf(compound);
  const text = compound.descriptions?.[0] ?? "";
  return h(
    "li",
    { className: "card" },
    h(
      "article",
      { ariaLabel: `${hit.rank}. ${title}` },
      link(
        compoundAddress(compound.name),
        { className: "picture", tabIndex: -1, ariaHidden: "true" },
        drawing(compound.smiles, title, { substructure, eager: place < 6 }),
      ),
      h("span", { className: "rank", ariaHidden: "true" }, hit.rank),
      h(
        "div",
        { className: "body" },
        h("h3", {}, link(compoundAddress(compound.name), {}, ...marked(title, hit.matchedWords))),
        facts(compound.descriptors, compound.sourceIds?.length ? h("span", {}, compound.sourceIds[0]) : null),
        text ? h("p", { className: "text" }, ...marked(text, hit.matchedWords)) : null,
      ),
      legList(hit.legs ?? []),
      why || similar ? h(
        "div",
        { className: "actions" },
        why ? h("button", { type: "button", className: "quiet", onclick: (event) => why(hit, event.currentTarget), ariaLabel: `Why ${title}?` }, "Why?") : null,
        similar ? link(similar(compound.name), { className: "button quiet", ariaLabel: `Compounds similar to ${title}` }, "Similar") : null,
      ) : null,
    ),
  );
}

const order = (leg) => [...Object.keys(LEGS), leg.leg].indexOf(leg.leg);

/** What each leg of the search said of a hit. */
export function legList(legs) {
  if (!legs.length) return null;
  return h(
    "dl",
    { className: "legs" },
    ...[...legs].sort((a, b) => order(a) - order(b)).map((leg) => {
      const [label, meaning] = LEGS[leg.leg] ?? [leg.leg, ""];
      const place = leg.rank ? `no. ${leg.rank}` : "far down";
      return h(
        "div",
        { className: leg.weight === 0 ? "leg unused" : "leg", title: `${meaning}. Score ${leg.score.toFixed(3)}, ${place}, weight ${leg.weight ?? 0}` },
        h("dt", {}, label),
        h("dd", {}, h("span", { className: "score" }, leg.score.toFixed(leg.score >= 10 ? 1 : 2)), h("span", { className: "place" }, leg.rank ? `#${leg.rank}` : "–")),
      );
    }),
  );
}

// A molecule's own page: what it looks like, what it is called, what is said of it, its properties, and what is similar.

import * as api from "./api.js";
import { card, formula, titleOf } from "./cards.js";
import { copyButton, fill, h, link } from "./dom.js";
import { drawing } from "./drawing.js";
import { moleculesFor, wordsFor } from "./generate.js";
import { failure } from "./search.js";

const PROPERTIES = [
  ["molecularWeight", "Molecular weight", "g/mol", 3],
  ["exactMass", "Monoisotopic mass", "Da", 5],
  ["clogp", "logP (Wildman–Crippen)", "", 2],
  ["tpsa", "Topological polar surface area", "Å²", 1],
  ["hbd", "Hydrogen-bond donors", "", 0],
  ["hba", "Hydrogen-bond acceptors", "", 0],
  ["rotatableBonds", "Rotatable bonds", "", 0],
  ["rings", "Rings", "", 0],
  ["aromaticRings", "Aromatic rings", "", 0],
  ["heavyAtoms", "Heavy atoms", "", 0],
  ["charge", "Charge", "", 0],
  ["stereoCentres", "Stereocentres", "", 0],
  ["fractionCsp3", "Fraction of sp³ carbon", "", 2],
];
const SHOWN_NAMES = 12;

export function compoundPage(place, parameters) {
  const name = parameters.get("compound");
  document.title = "Compound, Atomas";
  let left = false;
  fill(place, h("p", { className: "hint", ariaBusy: "true" }, "One moment…"));
  api.compound(name).then(
    (compound) => {
      if (!left) show(place, compound);
    },
    (error) => {
      if (!left) fill(place, failure(error));
    },
  );
  return () => {
    left = true;
  };
}

function show(place, compound) {
  const title = titleOf(compound);
  const [, library] = compound.name.split("/");
  document.title = `${title}, Atomas`;
  const similar = h("section", { className: "similar", ariaLabel: "Similar compounds" });
  fill(
    place,
    h(
      "article",
      { className: "compound" },
      h("header", {}, h("p", { className: "crumbs" }, link(`/?${new URLSearchParams({ library })}`, {}, library)), h("h1", {}, title), compound.descriptors?.formula ? h("p", { className: "subtitle" }, formula(compound.descriptors.formula)) : null),
      h("div", { className: "sheet" }, h("div", { className: "left" }, drawing(compound.smiles, title, { width: 480, height: 360, eager: true }), identity(compound)), h("div", { className: "right" }, ...texts(compound), names(compound), properties(compound.descriptors), metadata(compound.metadata), wordsFor(compound, library), ...proposals(compound, library))),
      similar,
    ),
  );
  nearest(similar, compound, library);
}

function identity(compound) {
  const rows = [
    ["SMILES", compound.smiles],
    ["InChIKey", compound.inchikey],
    compound.parentInchikey && compound.parentInchikey !== compound.inchikey ? ["Parent", compound.parentSmiles] : null,
    compound.sourceIds?.length ? ["Ids", compound.sourceIds.join(", ")] : null,
  ].filter(Boolean);
  return h("dl", { className: "identity" }, ...rows.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, h("code", {}, value), copyButton(value, label)))));
}

function texts(compound) {
  return (compound.descriptions ?? []).map((text) => h("p", { className: "description" }, text));
}

function proposals(compound, library) {
  const [said] = compound.descriptions ?? [];
  return said ? [moleculesFor(said, library, "", "Propose new molecules for its description")] : [];
}

function names(compound) {
  const all = compound.synonyms ?? [];
  if (!all.length) return null;
  const list = (some) => h("ul", { className: "names" }, ...some.map((each) => h("li", {}, each)));
  return h(
    "section",
    {},
    h("h2", {}, "Also called"),
    list(all.slice(0, SHOWN_NAMES)),
    all.length > SHOWN_NAMES ? h("details", {}, h("summary", {}, `${all.length - SHOWN_NAMES} more names`), list(all.slice(SHOWN_NAMES))) : null,
  );
}

function properties(descriptors) {
  if (!descriptors) return null;
  return h(
    "section",
    {},
    h("h2", {}, "Properties"),
    h("table", { className: "properties" }, h("tbody", {}, ...PROPERTIES.map(([field, label, unit, digits]) => h("tr", {}, h("th", { scope: "row" }, label), h("td", {}, (descriptors[field] ?? 0).toFixed(digits), unit ? h("span", { className: "unit" }, ` ${unit}`) : null))))),
  );
}

function metadata(values) {
  const fields = Object.entries(values ?? {});
  if (!fields.length) return null;
  const shown = (value) => (Array.isArray(value) ? h("ul", { className: "names" }, ...value.map((each) => h("li", {}, typeof each === "object" ? JSON.stringify(each) : String(each)))) : typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));
  return h("section", {}, h("h2", {}, "From its source"), h("table", { className: "properties from-source" }, h("tbody", {}, ...fields.map(([field, value]) => h("tr", {}, h("th", { scope: "row" }, field), h("td", {}, shown(value)))))));
}

async function nearest(place, compound, library) {
  try {
    const answer = await api.search(library, { compound: compound.name, pageSize: 8 });
    if (!answer.hits?.length) return;
    fill(
      place,
      h("div", { className: "heading" }, h("h2", {}, "Similar compounds"), h("p", {}, link(`/?${new URLSearchParams({ similar: compound.name, library })}`, {}, `All of ${library} by similarity`))),
      h("ol", { className: "cards" }, ...answer.hits.map((hit) => card(hit, { why: null }))),
    );
  } catch (error) {
    fill(place, failure(error));
  }
}


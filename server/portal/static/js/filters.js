// The form of conditions, and the filter in the server's language that it stands for.

import { h } from "./dom.js";

// Field, label, step of its numbers.
const RANGES = [
  ["molecular_weight", "Molecular weight", "g/mol"],
  ["clogp", "logP", ""],
  ["tpsa", "Polar surface", "Å²"],
  ["hbd", "H-bond donors", ""],
  ["hba", "H-bond acceptors", ""],
  ["rings", "Rings", ""],
  ["rotatable_bonds", "Rotatable bonds", ""],
  ["heavy_atoms", "Heavy atoms", ""],
  ["charge", "Charge", ""],
];

/** The text in quotes, as filters write it. */
export const quoted = (text) => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/** A form of ranges; `values` are those of the address, `changed` is called when one changes. */
export function filterForm(values, changed, draw) {
  const fields = RANGES.map(([field, label, unit]) => {
    const edge = (name, word) =>
      h("input", {
        type: "number",
        step: "any",
        name: `${field}.${name}`,
        value: values.get(`${field}.${name}`) ?? "",
        placeholder: name,
        ariaLabel: `${label}, ${word}`,
        inputMode: "decimal",
        onchange: changed,
      });
    return h(
      "fieldset",
      { className: "range" },
      h("legend", {}, label, unit ? h("span", { className: "unit" }, ` ${unit}`) : null),
      edge("min", "at least"),
      h("span", { ariaHidden: "true" }, "–"),
      edge("max", "at most"),
    );
  });
  const substructure = h("input", {
    id: "substructure",
    type: "text",
    name: "substructure",
    value: values.get("substructure") ?? "",
    placeholder: "SMARTS or SMILES, such as c1ccccc1C(=O)O",
    spellcheck: false,
    autocapitalize: "off",
    onchange: changed,
  });
  const expression = h("input", {
    id: "expression",
    type: "text",
    name: "expression",
    value: values.get("expression") ?? "",
    placeholder: 'formula = "C9H8O4" OR metadata.source = "x"',
    spellcheck: false,
    autocapitalize: "off",
    onchange: changed,
  });
  return h(
    "div",
    { className: "filters" },
    h("div", { className: "ranges" }, fields),
    h(
      "div",
      { className: "conditions" },
      h(
        "div",
        { className: "field" },
        h("label", { htmlFor: "substructure" }, "Contains the substructure"),
        h(
          "div",
          { className: "joined" },
          substructure,
          h("button", { type: "button", className: "quiet", onclick: () => draw(substructure) }, "Draw"),
        ),
      ),
      h("div", { className: "field" }, h("label", { htmlFor: "expression" }, "Any other condition"), expression),
    ),
  );
}

/** The filter that named values stand for; empty without any. */
export function filterText(values) {
  const parts = [];
  for (const [field] of RANGES) {
    const [low, high] = [values.get(`${field}.min`), values.get(`${field}.max`)];
    if (low) parts.push(`${field} >= ${low}`);
    if (high) parts.push(`${field} <= ${high}`);
  }
  if (values.get("substructure")) parts.push(`substructure(${quoted(values.get("substructure"))})`);
  if (values.get("expression")) parts.push(parts.length ? `(${values.get("expression")})` : values.get("expression"));
  return parts.join(" AND ");
}

/** Names of the values that are conditions. */
export const isCondition = (name) => name === "substructure" || name === "expression" || /\.(min|max)$/.test(name);

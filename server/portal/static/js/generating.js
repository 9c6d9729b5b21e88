// The page that proposes molecules for words: what they shall be, under which conditions, and the candidates as they are found.

import * as api from "./api.js";
import { announce, fill, h, number } from "./dom.js";
import { filterForm, filterText, isCondition } from "./filters.js";
import { candidateList, follow } from "./generate.js";
import { openSketcher } from "./sketch.js";

const MOST = 100;
const COUNT = 20;

export function generatePage(place, parameters, go) {
  document.title = "Generate, Atomas";
  const values = new Map(parameters);
  let running = null;
  let operation = "";
  const words = h("textarea", { id: "words", name: "text", rows: 3, required: true, placeholder: "Such as: a phenol with a methoxy group, found in plants" });
  words.value = values.get("text") ?? "";
  const library = h("select", { id: "library", name: "library" }, h("option", { value: "" }, "All libraries"));
  const count = h("input", { id: "count", type: "number", name: "count", min: 1, max: MOST, value: values.get("count") ?? COUNT, required: true });
  const seed = h("input", { id: "seed", type: "number", name: "seed", min: 0, value: values.get("seed") ?? "", placeholder: "chosen", title: "The same seed gives the same molecules" });
  const filters = filterForm(values, () => {}, (input) => openSketcher(input.value, (smiles) => (input.value = smiles)));
  const conditions = [...values.keys()].filter(isCondition).length;
  const start = h("button", { type: "submit", className: "primary" }, "Propose molecules");
  const stop = h("button", { type: "button", hidden: true, onclick: stopped }, "Stop");
  const results = h("section", { id: "results", className: "generated", ariaLabel: "New molecules" });
  const form = h(
    "form",
    { className: "generate", onsubmit: submitted },
    h("div", { className: "field" }, h("label", { htmlFor: "words" }, "What the molecules shall be, in words"), words),
    h(
      "div",
      { className: "choices" },
      h("div", { className: "field" }, h("label", { htmlFor: "library" }, "New compared with"), library),
      h("div", { className: "field" }, h("label", { htmlFor: "count" }, "Molecules wanted"), count),
      h("div", { className: "field" }, h("label", { htmlFor: "seed" }, "Seed"), seed),
    ),
    h("details", { className: "more", open: conditions > 0 }, h("summary", {}, "Conditions", conditions ? h("span", { className: "count" }, conditions) : null), filters),
    h("div", { className: "choices" }, start, stop),
  );
  fill(place, h("h1", {}, "Generate molecules"), form, results);
  api.libraries().then(
    (found) =>
      library.append(
        ...found.map((each) => {
          const id = each.name.split("/")[1];
          return h("option", { value: id, selected: id === values.get("library") }, `${each.displayName || id} (${number.format(each.compoundCount)})`);
        }),
      ),
    () => {},
  );
  return () => running?.abort();

  function asked() {
    return new Map([...new FormData(form)].filter(([, value]) => value !== ""));
  }

  async function submitted(event) {
    event.preventDefault();
    const entered = asked();
    go(`/?${new URLSearchParams([["page", "generate"], ...entered])}`, { replace: true });
    running?.abort();
    running = new AbortController();
    const { signal } = running;
    const show = candidateList(results);
    start.disabled = true;
    stop.hidden = stop.disabled = false;
    const question = { text: entered.get("text") ?? "", filter: filterText(entered), count: Number(entered.get("count") ?? COUNT), seed: entered.get("seed") ?? "0" };
    await follow(
      results,
      async () => {
        const started = await api.generate(entered.get("library") ?? "-", question);
        operation = started.name;
        return started;
      },
      show,
      signal,
    );
    start.disabled = false;
    stop.hidden = true;
  }

  async function stopped() {
    stop.disabled = true;
    announce("Stopping.");
    if (operation) await api.cancel(operation).catch(() => {});
  }
}

// The search page: one box, the library, conditions, and the hits.

import { key } from "./access.js";
import * as api from "./api.js";
import { card } from "./cards.js";
import { announce, fill, h, link, number } from "./dom.js";
import { openExplanation } from "./explain.js";
import { filterForm, filterText, isCondition } from "./filters.js";
import { moleculesFor } from "./generate.js";
import { openSketcher } from "./sketch.js";

const PAGE = 24;
const EXAMPLES = [
  ["caffeine", "a name"],
  ["flavonoid glycoside found in plants", "words"],
  ["CC(=O)Oc1ccccc1C(=O)O", "a SMILES"],
  ["steroid ester with an 11-oxo group", "words"],
  ["RYYVLZVUVIJVGH-UHFFFAOYSA-N", "an InChIKey"],
  ["CHEBI:15365", "an id"],
];
const KINDS = {
  TEXT: "free text",
  NAME: "the name of a compound",
  STRUCTURE: "a structure",
  INCHIKEY: "an InChIKey",
  SOURCE_ID: "the id of a record",
  COMPOUND: "a stored compound",
};
const TARGETS = [
  ["", "Everything"],
  ["MOLECULES", "Structures"],
  ["TEXTS", "Texts"],
  ["FINGERPRINTS", "Fingerprints"],
];

export function searchPage(place, parameters, go) {
  const values = new Map(parameters);
  const state = { library: values.get("library") ?? "", abort: null };
  const asked = [...values.keys()].some((name) => ["q", "structure", "similar"].includes(name) || isCondition(name));

  const box = h("input", {
    id: "query",
    type: "search",
    name: "q",
    value: values.get("q") ?? values.get("structure") ?? "",
    placeholder: "Words, a name, SMILES, InChI, InChIKey or an id",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: false,
    enterKeyHint: "search",
    ariaDescription: "Press slash to come here from anywhere on the page",
  });
  const library = h("select", { id: "library", name: "library", onchange: changed }, h("option", { value: "" }, "All libraries"));
  const target = h(
    "select",
    { id: "target", name: "target", onchange: changed },
    ...TARGETS.map(([value, label]) => h("option", { value, selected: value === (values.get("target") ?? "") }, label)),
  );
  const filters = filterForm(values, changed, (input) =>
    openSketcher(input.value, (smiles) => {
      input.value = smiles;
      changed();
    }),
  );
  const conditions = [...values.keys()].filter(isCondition).length;
  const details = h(
    "details",
    { className: "more", open: conditions > 0 },
    h("summary", {}, "Conditions", conditions ? h("span", { className: "count" }, conditions) : null),
    filters,
  );
  const results = h("section", { id: "results", ariaLabel: "Results" });
  const form = h(
    "form",
    { className: asked ? "search" : "search first", role: "search", onsubmit: submitted },
    h("h1", { className: asked ? "visually-hidden" : "" }, "Search between molecules and words"),
    h(
      "div",
      { className: "box" },
      h("label", { className: "visually-hidden", htmlFor: "query" }, "What to look for"),
      box,
      h(
        "button",
        {
          type: "button",
          className: "quiet",
          title: "Draw a structure",
          onclick: () =>
            openSketcher(values.get("structure") ?? "", (smiles) => {
              box.value = smiles;
              values.set("structure", smiles);
              submit();
            }),
        },
        icon("M12 3.5 19.4 7.8v8.4L12 20.5l-7.4-4.3V7.8zM12 7.2l4.2 2.4v4.8"),
        h("span", { className: "wide" }, "Draw"),
      ),
      h("button", { type: "submit", className: "primary" }, icon("M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.3 15.3 20 20"), h("span", { className: "wide" }, "Search")),
    ),
    h(
      "div",
      { className: "choices" },
      h("div", { className: "field" }, h("label", { htmlFor: "library" }, "Library"), library),
      h("div", { className: "field" }, h("label", { htmlFor: "target" }, "Compare with"), target),
    ),
    details,
  );
  fill(place, form, results);
  document.title = asked ? `${values.get("q") || values.get("structure") || "Similar compounds"}, Atomas` : "Atomas";
  box.addEventListener("input", () => values.delete("structure"));
  if (asked) run().then(listLibraries);
  else {
    listLibraries();
    fill(results, examples());
    if (matchMedia("(hover: hover)").matches) box.focus({ preventScroll: true });
  }
  return () => state.abort?.abort();

  async function listLibraries() {
    try {
      const found = await api.libraries();
      library.append(
        ...found.map((each) => {
          const id = each.name.split("/")[1];
          return h("option", { value: id, selected: id === state.library }, `${each.displayName || id} (${number.format(each.compoundCount)})`);
        }),
      );
      if (!found.length && !asked) fill(results, h("p", { className: "notice" }, "There is no library yet. ", link("/?page=import", {}, "Import compounds"), "."));
    } catch (error) {
      library.append(h("option", { value: state.library, selected: true }, state.library || "All libraries"));
      if (!asked) fill(results, failure(error));
    }
  }

  function changed() {
    if (asked || box.value.trim()) submit();
  }

  function submitted(event) {
    event.preventDefault();
    values.delete("similar");
    submit();
  }

  function submit() {
    const address = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (String(value).trim()) address.set(name, String(value).trim());
    }
    if (values.get("structure") && values.get("structure") === box.value.trim()) {
      address.delete("q");
      address.set("structure", values.get("structure"));
    }
    if (values.get("similar") && !address.get("q")) address.set("similar", values.get("similar"));
    if (![...address.keys()].some((name) => ["q", "structure", "similar"].includes(name) || isCondition(name))) {
      box.focus();
      announce("Say first what to look for.");
      return;
    }
    go(`/?${address}`);
  }

  function request(pageToken) {
    const [structure, text, similar] = ["structure", "q", "similar"].map((name) => values.get(name));
    // Conditions alone are a question too.
    const asks = structure ? { structure } : text ? { query: text } : similar ? { compound: similar } : {};
    return { ...asks, target: values.get("target") || "TARGET_UNSPECIFIED", filter: filterText(values), pageSize: PAGE, pageToken };
  }

  async function run() {
    state.abort?.abort();
    state.abort = new AbortController();
    const started = performance.now();
    results.setAttribute("aria-busy", "true");
    const waiting = setTimeout(() => fill(results, skeleton()), 120);
    try {
      const answer = await api.search(state.library || "-", request(""), state.abort.signal);
      clearTimeout(waiting);
      show(answer, performance.now() - started);
    } catch (error) {
      clearTimeout(waiting);
      if (error.name === "AbortError") return;
      fill(results, failure(error));
      announce(error.message);
    } finally {
      results.removeAttribute("aria-busy");
    }
  }

  function show(answer, milliseconds) {
    const hits = answer.hits ?? [];
    const list = h("ol", { className: "cards" });
    const more = h("button", { type: "button", className: "more-hits", onclick: () => next() }, "More hits");
    let token = answer.nextPageToken;
    more.hidden = !token;
    add(hits);
    fill(
      results,
      heading(answer, hits, milliseconds),
      answer.noGoodMatch && hits.length
        ? h("p", { className: "notice", role: "note" }, h("strong", {}, "No good match. "), "The best hits score no better than those of meaningless queries do; here they are all the same.")
        : null,
      hits.length ? list : nothing(),
      more,
      answer.interpretation?.kind === "TEXT" && values.get("q") ? moleculesFor(values.get("q"), state.library, filterText(values)) : null,
    );
    announce(hits.length ? `${hits.length} hits` : "No hits");

    function add(some) {
      list.append(
        ...some.map((hit, number_) =>
          card(hit, {
            why: (each, opener) => openExplanation(each, { text: explainable(answer), substructure: values.get("substructure") ?? "" }, opener),
            similar: (name) => `/?${new URLSearchParams({ similar: name, ...(state.library ? { library: state.library } : {}) })}`,
            substructure: values.get("substructure") ?? "",
            place: number_ + list.children.length,
          }),
        ),
      );
    }

    async function next() {
      more.disabled = true;
      try {
        const page = await api.search(state.library || "-", request(token), state.abort.signal);
        const first = list.children.length;
        add(page.hits ?? []);
        token = page.nextPageToken;
        more.hidden = !token;
        list.children[first]?.querySelector("h3 a")?.focus({ preventScroll: true });
        announce(`${page.hits?.length ?? 0} more hits`);
      } catch (error) {
        if (error.name !== "AbortError") more.replaceWith(failure(error));
      }
      more.disabled = false;
    }
  }

  /** The words to explain hits by: none where a structure was asked for. */
  function explainable(answer) {
    return ["STRUCTURE", "INCHIKEY", "SOURCE_ID", "COMPOUND"].includes(answer.interpretation?.kind) ? "" : (values.get("q") ?? "");
  }

  function heading(answer, hits, milliseconds) {
    const said = answer.interpretation ?? {};
    const kind = KINDS[said.kind];
    const filter = filterText(values);
    return h(
      "div",
      { className: "heading" },
      h(
        "h2",
        {},
        values.get("similar") && !values.get("q") ? "Similar compounds" : hits.length ? "Hits" : "No hits",
      ),
      h(
        "p",
        { className: "understood" },
        ...(kind ? ["Understood as ", h("strong", {}, kind)] : []),
        ...(said.correctedName ? [", taken for ", h("strong", {}, said.correctedName)] : []),
        kind ? ". " : null,
        h("span", { className: "took", title: "From the question to the answer in this browser" }, `${Math.round(milliseconds)} ms`),
      ),
      state.library && filter
        ? h(
            "p",
            { className: "downloads" },
            "All that meet the conditions: ",
            ...["sdf", "csv", "jsonl"].map((format) => download(api.exportFile(state.library, format, filter), `${state.library}.${format}`, format.toUpperCase())),
          )
        : null,
    );
  }

  function nothing() {
    return h(
      "div",
      { className: "empty" },
      h("p", {}, filterText(values) ? "No compound meets these conditions." : "Nothing was found."),
      filterText(values) ? h("button", { type: "button", onclick: clear }, "Leave the conditions out") : null,
    );
  }

  function clear() {
    for (const input of filters.querySelectorAll("input")) input.value = "";
    submit();
  }
}

/** A link to a file; with a key the file is fetched first. */
function download(path, name, label) {
  return h(
    "a",
    {
      href: path,
      download: name,
      onclick: async (event) => {
        if (!key()) return;
        event.preventDefault();
        announce("Fetching the file.");
        const address = URL.createObjectURL(await api.blob(path));
        h("a", { href: address, download: name }).click();
        setTimeout(() => URL.revokeObjectURL(address), 60_000);
      },
    },
    label,
  );
}

function examples() {
  return h(
    "div",
    { className: "examples" },
    h("h2", {}, "Ask in any of these ways"),
    h(
      "ul",
      {},
      ...EXAMPLES.map(([text, kind]) => h("li", {}, link(`/?${new URLSearchParams({ q: text })}`, {}, h("span", { className: "example" }, text), h("span", { className: "kind" }, kind)))),
    ),
  );
}

function skeleton() {
  return h("div", { className: "cards waiting", ariaHidden: "true" }, ...Array.from({ length: 8 }, () => h("div", { className: "card" })));
}

export function failure(error) {
  return h("div", { className: "notice bad", role: "alert" }, h("p", {}, error.message), error.reason ? h("code", {}, error.reason) : null);
}

function icon(path) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  const line = document.createElementNS(space, "path");
  for (const [name, value] of Object.entries({ viewBox: "0 0 24 24", width: 20, height: 20, "aria-hidden": "true" })) drawing.setAttribute(name, value);
  for (const [name, value] of Object.entries({ d: path, fill: "none", stroke: "currentColor", "stroke-width": 1.9, "stroke-linecap": "round", "stroke-linejoin": "round" })) line.setAttribute(name, value);
  drawing.append(line);
  return drawing;
}

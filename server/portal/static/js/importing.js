// The import page: a file in, progress as it goes, every rejected row with its reason.

import { credentials } from "./access.js";
import * as api from "./api.js";
import { announce, fill, h, link, number } from "./dom.js";
import { failure } from "./search.js";

const STATES = { RECEIVING: "receiving", PROCESSING: "processing", SUCCEEDED: "done", FAILED: "failed", CANCELLED: "cancelled" };

export function importPage(place, parameters, go) {
  document.title = "Import, Atomas";
  let following = new AbortController();
  let upload = null;
  const file = h("input", { id: "file", type: "file", accept: ".smi,.smiles,.sdf,.sd,.mol,.csv,.tsv,.jsonl,.ndjson,.parquet,.gz,.zip", onchange: chosen });
  const library = h("input", { id: "into", type: "text", pattern: "[a-z0-9][a-z0-9\\-]{0,62}", maxLength: 63, required: true, autocapitalize: "off", spellcheck: false, placeholder: "my-compounds", title: "Lower-case letters, digits and hyphens" });
  library.setAttribute("list", "known");
  const known = h("datalist", { id: "known" });
  const name = h("span", { className: "file-name" }, "SMILES, SDF, CSV, TSV, JSON Lines or Parquet, also packed");
  const drop = h("label", { className: "drop", htmlFor: "file" }, h("strong", {}, "Choose a file"), h("span", {}, " or drop it here"), name);
  const start = h("button", { type: "submit", className: "primary" }, "Import");
  const progress = h("section", { className: "progress", ariaLabel: "Progress" });
  const former = h("section", { ariaLabel: "Former imports" });
  const form = h(
    "form",
    { className: "import", onsubmit: submitted },
    h("div", { className: "field" }, file, drop),
    h("div", { className: "field" }, h("label", { htmlFor: "into" }, "Library, made when it is missing"), library, known),
    start,
  );
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        file.files = event.dataTransfer.files;
        chosen();
      }
    });
  }
  fill(place, h("div", { className: "narrow" }, h("h1", {}, "Import compounds"), form, progress, former));
  api.libraries().then((found) => known.append(...found.map((each) => h("option", { value: each.name.split("/")[1] }))), () => {});
  if (parameters.get("operation")) follow(parameters.get("operation"));
  listFormer();
  return () => {
    following.abort();
    upload?.abort();
  };

  function chosen() {
    const [one] = file.files;
    name.textContent = one ? `${one.name}, ${size(one.size)}` : "SMILES, SDF, CSV, TSV, JSON Lines or Parquet, also packed";
    if (one && !library.value) library.value = one.name.toLowerCase().replace(/\..*$/, "").replace(/[^a-z0-9-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63);
  }

  function submitted(event) {
    event.preventDefault();
    const [one] = file.files;
    if (!one) {
      file.focus();
      announce("Choose a file first.");
      drop.classList.add("over");
      return;
    }
    send(one);
  }

  function send(one) {
    start.disabled = true;
    following.abort();
    const bar = h("progress", { max: 1, value: 0, ariaLabel: "Sending the file" });
    const stop = h("button", { type: "button", onclick: () => upload.abort() }, "Stop");
    fill(progress, h("h2", {}, "Sending"), bar, h("p", { className: "hint" }, one.name), stop);
    // fetch() does not tell how much of a body has gone.
    upload = new XMLHttpRequest();
    upload.upload.onprogress = (event) => {
      if (event.lengthComputable) bar.value = event.loaded / event.total;
    };
    upload.upload.onload = () => {
      bar.removeAttribute("value");
      progress.querySelector("h2").textContent = "Reading rows";
      stop.remove();
    };
    upload.onload = () => {
      start.disabled = false;
      let document_;
      try {
        document_ = JSON.parse(upload.responseText);
      } catch {
        document_ = { message: `The server answered with status ${upload.status}.` };
      }
      if (upload.status !== 200) {
        const error = api.refusalOf(upload.status, document_);
        fill(progress, failure(error));
        announce(error.message);
        return;
      }
      go(`/?${new URLSearchParams({ page: "import", operation: document_.name })}`, { replace: true });
      follow(document_.name);
    };
    upload.onerror = () => {
      start.disabled = false;
      fill(progress, failure(new api.Refusal(0, "UNREACHABLE", "The server cannot be reached. Is it still running?")));
    };
    upload.onabort = () => {
      start.disabled = false;
      fill(progress, h("p", { className: "notice" }, "Stopped; nothing of the file was imported."));
    };
    upload.open("POST", api.importFile(library.value.trim(), { source: one.name, requestId: crypto.randomUUID?.() ?? "" }));
    for (const [header, value] of Object.entries(credentials())) upload.setRequestHeader(header, value);
    upload.send(one);
  }

  async function follow(operation) {
    following.abort();
    following = new AbortController();
    try {
      finished(await api.watch(operation, show, following.signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(progress, failure(error));
      announce(error.message);
    }
  }

  function show(operation) {
    const { counts = {}, state, library: into = "", source } = operation.metadata;
    const count = (field) => Number(counts[field] ?? 0);
    const received = count("received");
    const settled = operation.done ? received : Math.min(received, count("rejected") + count("duplicate") + count("indexed"));
    const bar = progress.querySelector("progress.rows") ?? h("progress", { className: "rows", ariaLabel: "Rows that are done" });
    bar.max = Math.max(1, received);
    bar.value = settled;
    const id = into.split("/")[1];
    const figures = [
      ["Received", received],
      ["Created", count("created")],
      ["Updated", count("updated")],
      ["Already there", count("duplicate")],
      ["Rejected", count("rejected")],
      ["Searchable", count("indexed")],
    ];
    fill(
      progress,
      h("h2", {}, source || "Import", " into ", link(`/?${new URLSearchParams({ library: id })}`, {}, id)),
      bar,
      h("p", { className: "hint" }, `${STATES[state] ?? state}: ${number.format(settled)} of ${number.format(received)} rows`),
      operation.error?.message ? h("p", { className: "notice bad" }, operation.error.message) : null,
      h("dl", { className: "figures" }, ...figures.map(([label, value]) => h("div", { className: label === "Rejected" && value ? "bad" : "" }, h("dt", {}, label), h("dd", {}, number.format(value))))),
      operation.done ? null : h("button", { type: "button", onclick: () => api.cancel(operation.name).catch((error) => announce(error.message)) }, "Cancel"),
    );
  }

  function finished(operation) {
    const rejected = Number(operation.metadata.counts?.rejected ?? 0);
    announce(`The import is ${STATES[operation.metadata.state]}: ${rejected} rows rejected.`);
    if (rejected) progress.append(rejectionTable(operation.name));
    listFormer();
  }

  async function listFormer() {
    try {
      const { operations = [] } = await api.operations();
      const imports = operations.filter((each) => each.metadata?.library);
      if (imports.length) fill(former, h("h2", {}, "Imports so far"), h("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Imports so far" }, formerTable(imports)));
    } catch (error) {
      fill(former, failure(error));
    }
  }
}

function formerTable(operations) {
  const row = (operation) => {
    const { metadata } = operation;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, link(`/?${new URLSearchParams({ page: "import", operation: operation.name })}`, {}, metadata.source || operation.name.split("/")[1].slice(0, 8))),
      h("td", {}, metadata.library.split("/")[1]),
      h("td", {}, STATES[metadata.state] ?? metadata.state),
      h("td", { className: "number" }, number.format(metadata.counts?.received ?? 0)),
      h("td", { className: "number" }, number.format(metadata.counts?.rejected ?? 0)),
      h("td", {}, new Date(metadata.createTime).toLocaleString()),
    );
  };
  const heads = ["File", "Library", "State", "Rows", "Rejected", "Started"];
  return h("table", { className: "list" }, h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, ...operations.map(row)));
}

/** Rejected rows, page by page. */
function rejectionTable(operation) {
  const body = h("tbody");
  const more = h("button", { type: "button", onclick: () => load() }, "More rejected rows");
  let token = "";
  load();
  return h(
    "section",
    { className: "rejections" },
    h("h3", {}, "Rejected rows"),
    h("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Rejected rows" }, h("table", { className: "list" }, h("thead", {}, h("tr", {}, ...["Row", "Reason", "What is wrong", "What it said"].map((head) => h("th", { scope: "col" }, head)))), body)),
    more,
  );

  async function load() {
    try {
      const page = await api.rejections(operation, token);
      token = page.nextPageToken;
      more.hidden = !token;
      body.append(
        ...(page.rejections ?? []).map(({ position, reason, message, row }) =>
          h("tr", {}, h("td", { className: "number" }, number.format(position)), h("td", {}, h("code", {}, reason)), h("td", {}, message), h("td", {}, h("code", { className: "smiles" }, (row?.sourceId ? `${row.sourceId} ` : "") + (row?.smiles ?? row?.inchi ?? row?.displayName ?? "").slice(0, 120)))),
        ),
      );
    } catch (error) {
      more.replaceWith(failure(error));
    }
  }
}

const size = (bytes) => (bytes < 1024 ? `${bytes} bytes` : bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`);

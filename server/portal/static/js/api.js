// The REST interface: one function for each call that the pages make.

import { askForKey, credentials } from "./access.js";

/** A refusal with its stable reason and a sentence for people. */
export class Refusal extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

async function call(verb, path, body, signal) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  return (await ask(path, { method: verb, headers, body: body === undefined ? undefined : JSON.stringify(body), signal })).json();
}

/** The response when all is well; asks for a key where one is needed, raises Refusal otherwise. */
async function ask(path, { headers = {}, ...options } = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers, ...credentials() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "UNREACHABLE", "The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const refused = await refusal(response);
  if (refused.status === 401 && (await askForKey(refused.message))) return ask(path, { headers, ...options });
  throw refused;
}

async function refusal(response) {
  try {
    return refusalOf(response.status, await response.json());
  } catch {
    return new Refusal(response.status, "INTERNAL", `The server answered with status ${response.status}.`);
  }
}

export function refusalOf(status, document) {
  const reason = (document.details ?? []).find((detail) => detail.reason)?.reason ?? "INTERNAL";
  return new Refusal(status, reason, document.message);
}

const query = (values) => {
  const pairs = Object.entries(values).filter(([, value]) => value !== undefined && value !== "" && value !== false);
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
};

// What a card shows; texts and names of the rest come with the molecule's own page.
export const CARD_FIELDS = "name,displayName,smiles,inchikey,sourceIds,descriptions,descriptors,synonyms";

// Every page asks for the libraries; a search should not wait behind that.
const FRESH_MS = 10_000;
let known = { found: [], until: 0 };

export const libraries = async () => {
  if (performance.now() < known.until) return known.found;
  const found = [];
  let pageToken = "";
  do {
    const page = await call("GET", `/v1/libraries${query({ pageSize: 1000, pageToken })}`);
    found.push(...page.libraries);
    pageToken = page.nextPageToken;
  } while (pageToken);
  known = { found, until: performance.now() + FRESH_MS };
  return found;
};
export const search = (library, request, signal) =>
  call("POST", `/v1/libraries/${encodeURIComponent(library)}/compounds:search`, { readMask: CARD_FIELDS, ...request }, signal);
export const compound = (name) => call("GET", `/v1/${name}`);
export const explain = (request) => call("POST", "/v1/compounds:explain", request);
export const standardise = (structure) => call("POST", "/v1/structures:standardise", { structure });
export const operation = (name) => call("GET", `/v1/${name}`);
export const operations = () => call("GET", `/v1/operations${query({ pageSize: 20 })}`);
export const cancel = (name) => call("POST", `/v1/${name}:cancel`, {});
export const rejections = (name, pageToken) => call("GET", `/v1/${name}/rejections${query({ pageSize: 50, pageToken })}`);
export const drawing = (structure, { width, height, substructure, dark }) =>
  `/v1/structures:draw${query({ structure, width, height, substructure, dark })}`;
export const exportFile = (library, format, filter) =>
  `/v1/libraries/${encodeURIComponent(library)}/compounds:export${query({ format, filter })}`;
export const importFile = (library, values) =>
  `/v1/libraries/${encodeURIComponent(library)}/compounds:import${query({ allowMissing: "true", ...values })}`;

/** Calls `seen` with the operation whenever it changes, until it is done; comes back when a connection breaks. */
export async function watch(name, seen, signal) {
  for (;;) {
    const response = await ask(`/v1/${name}:watch`, { signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    try {
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        const events = (buffer + piece.value).split("\n\n");
        buffer = events.pop();
        for (const event of events) {
          const operation = JSON.parse(event.replace(/^data: /, ""));
          seen(operation);
          if (operation.done) return operation;
        }
      }
    } catch (error) {
      if (error.name === "AbortError") throw error;
    }
    await new Promise((wait) => setTimeout(wait, 1000));
  }
}

/** A file that needs more than an address to be fetched. */
export const blob = async (path, accept) => (await ask(path, { headers: accept ? { Accept: accept } : {} })).blob();
export const describe = (library, compound_) => call("POST", `/v1/libraries/${encodeURIComponent(library)}/structures:describe`, { compound: compound_ });
/** `asked`: text, filter, count, seed. */
export const generate = (library, asked) => call("POST", `/v1/libraries/${encodeURIComponent(library)}/molecules:generate`, asked);

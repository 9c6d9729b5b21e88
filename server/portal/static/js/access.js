// The key of a server that asks for one: kept for this tab alone, sent with every call.

import { h } from "./dom.js";

const PLACE = "atomas-key";
let asking = null;

export function key() {
  try {
    return sessionStorage.getItem(PLACE) ?? "";
  } catch {
    return "";
  }
}

/** What a call says of who makes it. */
export const credentials = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

/** Asks for a key, once for all calls that wait for it; false when the person gives none. */
export function askForKey(message) {
  asking ??= new Promise((resolve) => {
    const input = h("input", { id: "key", type: "password", autocomplete: "current-password", required: true, spellcheck: false });
    let given = false;
    const dialog = h(
      "dialog",
      { className: "key" },
      h(
        "form",
        {
          method: "dialog",
          onsubmit: () => {
            given = true;
            try {
              sessionStorage.setItem(PLACE, input.value.trim());
            } catch {
              given = false;
            }
          },
        },
        h("h2", { id: "key-title" }, "This server asks for a key"),
        h("p", { className: "hint" }, message),
        h("div", { className: "field" }, h("label", { htmlFor: "key" }, "API key"), input),
        h("p", { className: "hint" }, "It is kept until this tab is closed."),
        h("div", { className: "joined" }, h("button", { type: "submit", className: "primary" }, "Go on"), h("button", { type: "button", onclick: () => dialog.close() }, "Not now")),
      ),
    );
    dialog.setAttribute("aria-labelledby", "key-title");
    dialog.addEventListener("close", () => {
      dialog.remove();
      asking = null;
      resolve(given);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

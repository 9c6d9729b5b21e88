// The pages and the way between them: addresses can be kept, shared and gone back to.

import { compoundPage } from "./compound.js";
import { h } from "./dom.js";
import { isDark, redrawAll } from "./drawing.js";
import { generatePage } from "./generating.js";
import { importPage } from "./importing.js";
import { searchPage } from "./search.js";

const content = document.getElementById("content");
let leave = () => {};

function show(focus) {
  const parameters = new URLSearchParams(location.search);
  const page = parameters.has("compound") ? "compound" : (parameters.get("page") ?? "search");
  for (const each of document.querySelectorAll("nav [data-page]")) {
    if (each.dataset.page === page) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  leave();
  const pages = { search: searchPage, compound: compoundPage, generate: generatePage, import: importPage };
  const make = pages[page] ?? missingPage;
  leave = make(content, parameters, go) ?? (() => {});
  if (focus) {
    scrollTo(0, 0);
    content.focus({ preventScroll: true });
  }
}

function missingPage(place) {
  document.title = "Not here, Atomas";
  place.replaceChildren(h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "/" }, "Go to the search")));
}

/** Goes to an address of the portal; `replace` changes the present one without a step back, and shows nothing new. */
function go(address, { replace = false } = {}) {
  if (replace) {
    history.replaceState(null, "", address);
    return;
  }
  if (address !== location.pathname + location.search) history.pushState(null, "", address);
  show(true);
}

document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[data-link]");
  if (!anchor || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const address = new URL(anchor.href);
  go(address.pathname + address.search);
});
addEventListener("popstate", () => show(false));
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    const box = document.getElementById("query");
    if (box) {
      event.preventDefault();
      box.focus();
      box.select();
    }
  }
});
document.getElementById("theme").addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("atomas-theme", theme);
  } catch {
    // The choice then lasts as long as the page.
  }
  redrawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);

show(false);

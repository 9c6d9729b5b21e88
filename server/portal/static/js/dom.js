// Elements from values. Texts are always set as text: names and descriptions come from files of strangers.

/** An element with properties, `on…` listeners, `aria…`/`data…` attributes and children; null children are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-") && name !== "list" && name !== "form") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Tells screen readers what has happened. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/** Replaces what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A link that changes the page without loading it again. */
export function link(href, properties, ...children) {
  return h("a", { href, "data-link": true, ...properties }, ...children);
}

/** A button that copies a text. */
export function copyButton(text, label) {
  const button = h("button", {
    type: "button",
    className: "quiet copy",
    ariaLabel: `Copy ${label}`,
    title: `Copy ${label}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        announce(`${label} could not be copied.`);
        return;
      }
      announce(`${label} copied.`);
      button.classList.add("done");
      setTimeout(() => button.classList.remove("done"), 1200);
    },
  }, "Copy");
  return button;
}

/** Numbers for people. */
export const number = new Intl.NumberFormat("en");

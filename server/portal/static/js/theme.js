// Runs before the first paint, so that no page flashes in the wrong colours.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("atomas-theme");
  } catch {
    // Without storage the system's choice holds.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();

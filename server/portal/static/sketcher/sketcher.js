// Starts JSME and tells the page around it what is drawn.
"use strict";
let editor = null;

// JSME calls this by name once it is loaded.
function jsmeOnLoad() {
  editor = new JSApplet.JSME("editor", `${innerWidth}px`, `${innerHeight}px`, { options: "oldlook,star,noexportmenu,nocanonize" });
  editor.setCallBack("AfterStructureModified", (event) => parent.postMessage({ smiles: event.src.smiles() }, "*"));
  addEventListener("resize", () => editor.setSize(`${innerWidth}px`, `${innerHeight}px`));
  parent.postMessage({ ready: true }, "*");
}

addEventListener("message", (event) => {
  if (event.source !== parent || !editor || typeof event.data?.structure !== "string") return;
  editor.readGenericMolecularInput(event.data.structure);
  parent.postMessage({ smiles: editor.smiles() }, "*");
});

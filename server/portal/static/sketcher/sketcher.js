// Starts JSME and tells the page around it what is drawn.
"use strict";
let editor = null;

// JSME calls this by name once it is loaded.
function jsmeOnLoad() {
  editor = new JSApplet.JSME("editor", `${innerWidth}px`, `${innerHeight}px`, { options: "newlook,star,noexportmenu,nocanonize,noreaction" });
  editor.setUserInterfaceBackgroundColor("#eef2f3");
  editor.setMenuScale(matchMedia("(max-width: 560px)").matches ? 1 : 1.3);
  editor.setCallBack("AfterStructureModified", (event) => parent.postMessage({ smiles: event.src.smiles() }, location.origin));
  addEventListener("resize", () => editor.setSize(`${innerWidth}px`, `${innerHeight}px`));
  parent.postMessage({ ready: true }, location.origin);
}

addEventListener("message", (event) => {
  if (event.source !== parent || event.origin !== location.origin || !editor || typeof event.data?.structure !== "string") return;
  editor.readGenericMolecularInput(event.data.structure);
  parent.postMessage({ smiles: editor.smiles() }, location.origin);
});

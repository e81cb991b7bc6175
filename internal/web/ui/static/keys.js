// The list of keys: ? outside of fields and Ctrl-/ anywhere open and close it. keys.go has what is in it.

import { byId } from "./page.js"

const box = /** @type {HTMLDialogElement} */ (byId("keys"))

/** Opens it, or closes it when it is open. */
export function toggle() {
  if (box.open) return box.close()
  if (document.querySelector("dialog[open]")) return // one thing at a time
  box.showModal()
}

box.addEventListener("click", (event) => { if (event.target === box || /** @type {Element} */ (event.target).closest("button")) box.close() })

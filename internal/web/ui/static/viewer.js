// Pictures in large: one over the page, with those around it a key away.

import { byId, within } from "./page.js"

const viewer = /** @type {HTMLDialogElement} */ (byId("viewer"))
const img = /** @type {HTMLImageElement} */ (within(viewer, "img"))
const earlier = /** @type {HTMLButtonElement} */ (within(viewer, ".earlier"))
const later = /** @type {HTMLButtonElement} */ (within(viewer, ".later"))
/** @type {HTMLAnchorElement[]} */
let pictures = []
let current = 0

/** @param {number} i */
function look(i) {
  current = i
  const link = pictures[i]
  img.src = link.href
  img.alt = within(link, "img").getAttribute("alt") ?? ""
  within(viewer, ".name").textContent = link.title
  within(viewer, ".place").textContent = pictures.length > 1 ? `${i + 1} / ${pictures.length}` : ""
  within(viewer, ".save").setAttribute("href", link.href + "?save")
  earlier.disabled = i === 0
  later.disabled = i === pictures.length - 1
}

/** @param {number} step */
const go = (step) => { if (pictures[current + step]) look(current + step) }

/** Shows a picture of the history, or of a thread. @param {HTMLAnchorElement} link */
export function open(link) {
  pictures = [.../** @type {NodeListOf<HTMLAnchorElement>} */ (link.closest("ol")?.querySelectorAll(".files .picture") ?? [])]
  look(Math.max(0, pictures.indexOf(link)))
  viewer.showModal()
}

earlier.addEventListener("click", () => go(-1))
later.addEventListener("click", () => go(1))
within(viewer, ".close").addEventListener("click", () => viewer.close())
viewer.addEventListener("click", (event) => { if (event.target === viewer || event.target === img.parentElement) viewer.close() })
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") go(-1)
  else if (event.key === "ArrowRight") go(1)
  else return
  event.preventDefault()
})
viewer.addEventListener("close", () => {
  img.src = "data:,"
  pictures[current]?.focus()
})

// Parts of a page: a page that is asked for again, and whose parts are taken over. There is one markup, the server's; this only puts it in its place.

import { Refusal, t } from "./page.js"

/** @type {AbortController | null} */
let asked = null

/** Whether a page is being asked for. */
export const asking = () => asked !== null

/** The page of an address; null when another one was asked for meanwhile. @param {string} url @returns {Promise<Document | null>} */
export function fetchPage(url) {
  asked?.abort()
  const mine = asked = new AbortController()
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest() // it reads a page without running or trusting anything in it
    mine.signal.addEventListener("abort", () => { request.abort(); done(null) })
    request.open("GET", url)
    request.responseType = "document"
    request.onloadend = () => { if (asked === mine) asked = null }
    request.onload = () => done(request.responseXML)
    request.onerror = () => failed(new Refusal("unavailable", t("no_answer")))
    request.send()
  })
}

/** Takes a part of another page over; what was opened stays open. @param {Document} page @param {string} id */
export function take(page, id) {
  const next = page.getElementById(id)
  const old = document.getElementById(id)
  if (!next || !old) return
  const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id))
  for (const one of next.querySelectorAll("details")) one.open = one.open || (one.id !== "" && open.has(one.id))
  const focused = focus(old)
  old.replaceWith(document.importNode(next, true))
  focused?.()?.focus({ preventScroll: true })
}

/** How what has the focus within a part is found again when the part was exchanged; null when nothing has it. @param {Element} part */
function focus(part) {
  const one = document.activeElement
  const around = one?.closest("[id]")
  if (!one || !around || !part.contains(one)) return null
  const selector = ["href", "name", "value"].map((name) => one.getAttribute(name) !== null ? `[${name}="${CSS.escape(one.getAttribute(name) ?? "")}"]` : "").join("")
  return () => {
    const there = document.getElementById(around.id)
    return /** @type {HTMLElement | null} */ (one === around ? there : there?.querySelector(one.localName + selector))
  }
}

// The page Watch: filters as one types, by asking for the same page again and taking its parts over. There is one markup, the server's; this only puts it in its place.

import { byId, t } from "./page.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import * as sidebar from "./sidebar.js"

const PAUSE = 250 // of typing

const form = /** @type {HTMLFormElement} */ (byId("filter"))
/** @type {XMLHttpRequest | null} */
let asked = null
let typing = 0

/** The address that the form stands for: moments in UTC, so that it means the same to everybody. */
function address() {
  const query = new URLSearchParams()
  for (const [name, value] of new FormData(form)) {
    if (typeof value !== "string" || !value.trim()) continue
    query.set(name, name === "from" || name === "to" ? new Date(value).toISOString().slice(0, 19) + "Z" : value.trim())
  }
  if (query.has("from") || query.has("to")) query.delete("last")
  return "/watch" + (query.size ? "?" + query : "")
}

/** Shows what an address has. XMLHttpRequest reads a page without running or trusting anything in it. @param {string} url @param {"push" | "replace" | ""} how */
function show(url, how) {
  asked?.abort()
  const request = new XMLHttpRequest()
  asked = request
  request.open("GET", url)
  request.responseType = "document"
  request.onload = () => {
    const page = request.responseXML
    if (!page?.getElementById("found")) return location.assign(url) // signed out, or the database is away
    for (const id of ["states", "alerts", "found", "pulse"]) take(page, id)
    if (how === "push") { // the form is not what changed it: it follows
      const fresh = page.getElementById("filter")
      for (const field of form.elements) {
        const other = fresh?.querySelector(`[name="${field.getAttribute("name")}"]`)
        if ((field instanceof HTMLInputElement && other instanceof HTMLInputElement) || (field instanceof HTMLSelectElement && other instanceof HTMLSelectElement)) field.value = other.value
      }
    }
    if (how === "push") history.pushState(null, "", url)
    if (how === "replace") history.replaceState(null, "", url)
    byId("told").textContent = t("watch.found", { n: Number(document.getElementById("trail-h")?.dataset.n ?? 0) })
  }
  request.onerror = () => { byId("told").textContent = t("watch.failed", { why: t("no_answer") }) }
  request.send()
}

/** Takes a part of another page over; what was opened stays open. @param {Document} page @param {string} id */
function take(page, id) {
  const fresh = page.getElementById(id)
  const old = document.getElementById(id)
  if (!fresh || !old) return
  const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id))
  for (const one of fresh.querySelectorAll("details")) one.open = one.open || open.has(one.id)
  old.replaceWith(document.importNode(fresh, true))
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  show(address(), "replace")
})
form.addEventListener("input", () => {
  clearTimeout(typing)
  typing = setTimeout(() => show(address(), "replace"), PAUSE)
})
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[data-filter]") : null
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  event.preventDefault()
  show(link.getAttribute("href") ?? "/watch", "push")
})
addEventListener("popstate", () => location.reload())

/** An alert that the address names is open. */
function reveal() {
  const alert = location.hash.startsWith("#incident-") ? document.getElementById(location.hash.slice(1)) : null
  for (let one = alert?.querySelector("details"); one; one = /** @type {HTMLDetailsElement | null} */ (one.parentElement?.closest("details"))) one.open = true
  alert?.scrollIntoView({ block: "nearest" })
}
addEventListener("hashchange", reveal)
reveal()

sidebar.start()
outbox.start()
live.start(() => ({ room: 0, since: 0 }))

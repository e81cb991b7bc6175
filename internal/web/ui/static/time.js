// The page Time, smoother: a click chooses the very moment, keys and the wheel zoom, and what is still being found out comes by itself. Every step asks for the same page
// again and takes its parts over.

import { byId, t } from "./page.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import { asking, fetchPage, take } from "./parts.js"
import * as sidebar from "./sidebar.js"

const AGAIN = 1000 // while something is being found out
const RENEW = 30000 // a picture that ends now
const told = byId("told")
const main = byId("main")
let timer = 0

/** What the picture shows: from and to in milliseconds. @returns {{ from: number, to: number, newest: boolean, waits: boolean, zone: string, span: string }} */
const frame = () => JSON.parse(byId("picture").dataset.frame || "{}")

/** Shows what an address has. @param {string} url @param {"push" | ""} how */
async function show(url, how) {
  clearTimeout(timer)
  if (how) main.ariaBusy = "true"
  try {
    const page = await fetchPage(url)
    if (!page) return
    if (!page.getElementById("picture")) return location.assign(url) // signed out, or the database is away
    for (const id of ["pulse", "states", "picture"]) take(page, id)
    if (!busy("moment") || how) take(page, "moment")
    if (how) {
      history.pushState(null, "", url)
      const form = byId("go")
      for (const name of ["at", "span"]) {
        const field = form.querySelector(`[name="${name}"]`)
        const other = page.querySelector(`#go [name="${name}"]`)
        if ((field instanceof HTMLInputElement && other instanceof HTMLInputElement) || (field instanceof HTMLSelectElement && other instanceof HTMLSelectElement)) field.value = other.value
      }
      told.textContent = byId("picture-h").textContent ?? ""
    }
    ready()
  } catch (error) {
    if (how) told.textContent = t("watch.failed", { why: error instanceof Error ? error.message : String(error) })
  }
  main.ariaBusy = "false"
  later()
}

/** Whether somebody marks text in a part: then it is not exchanged under their hands. @param {string} id */
function busy(id) {
  const marked = getSelection()
  return !!marked && !marked.isCollapsed && byId(id).contains(marked.anchorNode)
}

/** Asks again, soon where something is being found out. */
function later() {
  clearTimeout(timer)
  const now = frame()
  if (!now.waits && !now.newest) return
  timer = setTimeout(() => {
    if (document.visibilityState !== "visible" || asking()) return later()
    show(location.pathname + location.search, "")
  }, now.waits ? AGAIN : RENEW)
}

/** What only scripts can do is shown. */
function ready() {
  for (const one of document.querySelectorAll("[data-copy]")) if (one instanceof HTMLElement) one.hidden = !navigator.clipboard
}

/** The address of the page with other values; "" takes one out. @param {Record<string, string>} values */
function address(values) {
  const query = new URLSearchParams(location.search)
  for (const [name, value] of Object.entries(values)) value ? query.set(name, value) : query.delete(name)
  return "/time" + (query.size ? "?" + query : "")
}

/** A moment as an address has it. @param {number} at */
const iso = (at) => new Date(at).toISOString().slice(0, 19) + "Z"

/** The moment under the pointer; null outside of the lanes. @param {MouseEvent} event */
function under(event) {
  const svg = event.target instanceof Element ? event.target.closest(".lane")?.querySelector("svg.plot") : null
  if (!svg) return null
  const box = svg.getBoundingClientRect()
  const part = (event.clientX - box.left) / box.width
  const { from, to } = frame()
  return part < 0 || part > 1 ? null : from + part * (to - from)
}

/** Zooms at a moment, or where the buttons would. @param {"in" | "out"} where @param {number | null} at */
function zoom(where, at) {
  const link = document.getElementById("t-" + where)
  if (!link) return
  const url = new URL(link.getAttribute("href") ?? "/time", location.href)
  if (at !== null) {
    const select = byId("go").querySelector("[name=span]")
    const spans = select instanceof HTMLSelectElement ? [...select.options].map((one) => one.value) : []
    const next = url.searchParams.get("span") ?? ""
    const { from, to, span } = frame()
    // What is under the pointer stays under it.
    const length = (to - from) * (lengths[next] ?? 1) / (lengths[span] ?? 1)
    if (spans.includes(next)) url.searchParams.set("to", iso(at + (to - at) / (to - from) * length))
    url.searchParams.delete("at")
  }
  show(url.pathname + url.search, "push")
}
/** How long the spans are, in minutes. @type {Record<string, number>} */
const lengths = { "1y": 525600, "90d": 129600, "30d": 43200, "7d": 10080, "1d": 1440, "6h": 360, "1h": 60, "10m": 10, "1m": 1 }

document.addEventListener("click", async (event) => {
  if (!(event.target instanceof Element) || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  const copy = event.target.closest("[data-copy]")
  if (copy instanceof HTMLElement) {
    await navigator.clipboard.writeText(byId(copy.dataset.copy ?? "").textContent ?? "")
    told.textContent = t("time.copied")
    copy.textContent = t("time.copied")
    return
  }
  const link = event.target.closest("a[data-time]")
  const at = event.target.closest(".reach, .act, .lane rect[class^=b-]") || !link ? under(event) : null
  if (at !== null) {
    event.preventDefault()
    byId("lanes").focus({ preventScroll: true })
    return show(address({ at: iso(at) }), "push")
  }
  if (!link) return
  event.preventDefault()
  show(link.getAttribute("href") ?? "/time", "push")
})
document.addEventListener("dblclick", (event) => {
  const at = under(event)
  if (at !== null) zoom("in", at)
})
document.addEventListener("mousemove", (event) => {
  const at = event.target instanceof Element && event.target.closest("#lanes") ? under(event) : null
  const cursor = document.getElementById("lane-cursor")
  if (cursor) cursor.textContent = at === null ? "" : new Date(at).toLocaleString("sv-SE", { timeZone: frame().zone })
})
// Only while the picture has the focus: single letters elsewhere are somebody's typing.
document.addEventListener("keydown", (event) => {
  if (document.activeElement?.id !== "lanes" || event.metaKey || event.ctrlKey || event.altKey) return
  const { from, to } = frame()
  const chosen = new URLSearchParams(location.search).get("at")
  const at = chosen ? Date.parse(chosen) : (from + to) / 2
  const step = (to - from) / 60
  switch (event.key) {
    case "ArrowLeft": show(address({ at: iso(at - step) }), "push"); break
    case "ArrowRight": show(address({ at: iso(Math.min(at + step, Date.now())) }), "push"); break
    case "+": case "=": zoom("in", null); break
    case "-": zoom("out", null); break
    default: return
  }
  event.preventDefault()
})
let turned = 0
document.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return // who scrolls the page scrolls the page
  const at = under(event)
  if (at === null) return
  event.preventDefault()
  turned += event.deltaY
  if (Math.abs(turned) < 60 || asking()) return
  zoom(turned < 0 ? "in" : "out", at)
  turned = 0
}, { passive: false })

byId("go").addEventListener("submit", (event) => {
  event.preventDefault()
  const fields = new FormData(/** @type {HTMLFormElement} */ (event.target))
  const at = new Date(String(fields.get("at") ?? ""))
  show(address({ span: String(fields.get("span") ?? ""), at: isNaN(at.getTime()) ? "" : iso(at.getTime()), to: "" }), "push")
})
byId("go").addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement) /** @type {HTMLFormElement} */ (byId("go")).requestSubmit()
})
addEventListener("popstate", () => location.reload())

ready()
later()
sidebar.start()
outbox.start()
live.start(() => ({ room: 0, since: 0 }))
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") later() })

// The page Watch: filters as one types, by asking for the same page again and taking its parts over. There is one markup, the server's; this only puts it in its place.

import { Refusal, api, byId, data, t } from "./page.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import { asking, fetchPage, take } from "./parts.js"
import * as sidebar from "./sidebar.js"

const PAUSE = 250 // of typing
// How often it is asked whether there is more. The trail is the watch's and not a room's, so the socket does not tell of it; one number of one row is cheap, and only a page that is seen asks.
const LOOK = 4000

const form = /** @type {HTMLFormElement} */ (byId("filter"))
const main = byId("main")
const told = byId("told")
const fresh = byId("fresh")
let typing = 0
let looking = 0
let seq = data.watch?.seq ?? 0

/** The address that the form stands for: moments in UTC, so that it means the same to everybody. */
function address() {
  const query = new URLSearchParams()
  const fields = new FormData(form)
  for (const [name, value] of fields) {
    if (typeof value !== "string" || !value.trim()) continue
    const moment = name === "from" || name === "to"
    if (moment && fields.get("last")) continue
    const at = moment ? new Date(value) : null
    if (at && isNaN(at.getTime())) continue
    query.set(name, at ? at.toISOString().slice(0, 19) + "Z" : value.trim())
  }
  if (query.get("last") === form.dataset.last) query.delete("last")
  return "/watch" + (query.size ? "?" + query : "")
}

let turn = 0 // of what is shown
const FURTHER = 200 // times it is looked further back by itself for what is rare

/** Shows what an address has. @param {string} url @param {"push" | "replace" | ""} how @param {number} further how often it was looked further back for it */
async function show(url, how, further = 0) {
  clearTimeout(typing)
  const mine = ++turn
  main.ariaBusy = "true"
  try {
    const page = await fetchPage(url)
    if (!page) return
    if (!page.getElementById("found")) return location.assign(url) // signed out, or the database is away
    for (const id of parts) take(page, id)
    if (how === "push") follow(page) // the form is not what changed it: it follows
    if (how === "push") history.pushState(null, "", url)
    if (how === "replace") history.replaceState(null, "", url)
    seen(page)
    const back = document.querySelector("#found a[data-further]")?.getAttribute("href")
    if (back && further < FURTHER) setTimeout(() => { if (mine === turn && !typing) show(back, "replace", further + 1) })
    else told.textContent = t("watch.found", { n: Number(document.getElementById("trail-h")?.dataset.n ?? 0) })
  } catch (error) {
    told.textContent = t("watch.failed", { why: error instanceof Error ? error.message : String(error) })
  }
  main.ariaBusy = "false"
}

const parts = ["pulse", "states", "alerts", "found"]

/** What the page has is what was seen. @param {Document} page */
function seen(page) {
  seq = JSON.parse(page.getElementById("page-data")?.textContent || "{}").watch?.seq ?? seq
  fresh.hidden = true
}

/** @param {Document} page */
function follow(page) {
  const other = page.getElementById("filter")
  for (const field of form.elements) {
    const name = field.getAttribute("name")
    const from = name && other?.querySelector(`[name="${name}"]`)
    if ((field instanceof HTMLInputElement && from instanceof HTMLInputElement) || (field instanceof HTMLSelectElement && from instanceof HTMLSelectElement)) field.value = from.value
  }
}

/** Whether somebody is busy in a part: then it is not exchanged under their hands. @param {string} id */
function busy(id) {
  const part = document.getElementById(id)
  const marked = getSelection()
  return !part || !!part.querySelector("details.mute[open], input:focus, select:focus") || (!!marked && !marked.isCollapsed && part.contains(marked.anchorNode))
}

let held = false // a button of the mouse, or a finger: what is under it stays
addEventListener("pointerdown", () => { held = true }, true)
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { held = false }, true)

/** Looks whether there is more on the trail. */
async function look() {
  clearTimeout(looking)
  if (document.visibilityState === "visible" && !typing) {
    try {
      const state = await api("GET", "/watch")
      if (state.seq !== seq && !asking()) await renew(state.seq)
    } catch { /* the sidebar says that the server is away */ }
  }
  clearTimeout(looking)
  looking = setTimeout(look, LOOK)
}

/** Brings the page to how it stands now, but for what somebody is busy with; what they read of the trail waits until they ask for it. @param {number} now */
async function renew(now) {
  const page = await fetchPage(location.pathname + location.search).catch(() => null)
  if (held || !page?.getElementById("found")) return // it is asked again
  const first = !new URLSearchParams(location.search).has("before")
  for (const id of ["pulse", "states", "alerts"]) if (!busy(id)) take(page, id)
  if (first && !busy("found") && byId("found").getBoundingClientRect().top > 0) {
    take(page, "found")
    return seen(page)
  }
  fresh.textContent = t("watch.fresh", { n: Math.max(1, now - (data.watch?.seq ?? 0)) })
  const newest = page.querySelector("#trail [data-seq]")?.getAttribute("data-seq")
  if (!first || newest !== document.querySelector("#trail [data-seq]")?.getAttribute("data-seq")) fresh.hidden = false
  seq = now
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  show(address(), "replace")
})
form.addEventListener("input", (event) => {
  clearTimeout(typing)
  const typed = event.target instanceof HTMLInputElement
  typing = setTimeout(() => { typing = 0; show(address(), "replace") }, typed ? PAUSE : 0)
})
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[data-filter]") : null
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  event.preventDefault()
  show(link.getAttribute("href") ?? "/watch", "push")
})
fresh.addEventListener("click", async () => {
  const query = new URLSearchParams(location.search)
  query.delete("before")
  await show("/watch" + (query.size ? "?" + query : ""), "replace")
  byId("trail").scrollIntoView({ block: "start" })
})
addEventListener("popstate", () => location.reload())

// An answer goes where it goes from #ops too, and the page stays.
document.addEventListener("submit", async (event) => {
  const answer = /** @type {HTMLFormElement} */ (event.target)
  const place = answer.dataset.place
  const incident = answer.closest(".incident")
  if (!place || !incident) return
  event.preventDefault()
  const box = /** @type {HTMLElement} */ (answer.closest(".alert"))
  if (box.ariaBusy === "true") return
  const what = /** @type {HTMLButtonElement | null} */ (event.submitter)?.value ?? ""
  const fields = new FormData(answer)
  const [room, message] = place.split("/")
  box.ariaBusy = "true"
  try {
    await api("POST", `/rooms/${room}/messages/${message}/answer`, { client_id: outbox.uuid(), what,
      ...(what === "muted" ? { days: Number(fields.get("days")), cover: String(fields.get("cover")) } : {}) })
    told.textContent = t("alert.state." + (what === "reopened" ? "open" : what))
    await show(location.pathname + location.search, "")
    const there = document.getElementById(incident.id)
    if (there instanceof HTMLElement) {
      reveal(there)
      there.querySelector("summary")?.focus()
    }
  } catch (error) {
    const complaint = byId("complaint")
    complaint.hidden = false
    complaint.textContent = error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error)
  } finally {
    box.ariaBusy = "false"
  }
})

/** Opens an element, and all around it that would hide it. @param {Element | null} element */
function reveal(element) {
  for (let one = element?.querySelector("details"); one; one = /** @type {HTMLDetailsElement | null} */ (one.parentElement?.closest("details"))) one.open = true
  element?.scrollIntoView({ block: "nearest" })
}
/** An alert that the address names is open. */
const named = () => reveal(location.hash.startsWith("#incident-") ? document.getElementById(location.hash.slice(1)) : null)
addEventListener("hashchange", named)
named()

sidebar.start()
outbox.start()
live.on("event", (frame) => { if (sidebar.rooms.get(frame.room)?.kind === "ops") look() }) // something was told, or answered
live.start(() => ({ room: 0, since: 0 }))
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") look() })
looking = setTimeout(look, LOOK)

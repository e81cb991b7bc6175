// The history: a window of some hundred lines over a room's log, which slides without jumping. The end of the log is
// at scroll position 0 (the box is laid out in reverse), so lines put on top move nothing; every other change holds
// the line that is being read where it is.

import { Refusal, api, byId, clone, data, dayName, t, within } from "./page.js"
import { saying } from "./alert.js"
import { bury, fill, foot, link, mine, moment, pointOut, seqOf, stamp, system, together } from "./line.js"
import { told } from "./files.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import { waiting } from "./pending.js"
import * as reactions from "./reactions.js"

/** @typedef {import("./page.js").Message} Message */
/** @typedef {import("./page.js").RoomEvent} RoomEvent */
/** @typedef {{messages: Message[], events?: RoomEvent[], earlier: boolean, later: boolean, seq: number}} Page */

const ROOM = data.room
const PAGE = 50
const MOST = 300 // lines in the window
const SLACK = 40 // ... and how many more before the far end is cut
const END = 40 // pixels from the end that still count as being there

const box = byId("history")
const list = byId("lines")
const earlierLink = byId("earlier")
const laterLink = byId("later")
const newestButton = byId("newest")
const announcements = byId("announce")
const pending = waiting(byId("pending"), (entry) => !entry.thread)

let known = data.seq ?? 0 // the room's seq up to which this page has heard everything
let earlier = data.earlier ?? false
let later = data.later ?? false
let loading = false
let generation = 0 // of the window: answers to older ones are late
let unseen = 0
let read = data.self?.read ?? 0
let newestPost = 0
let left = false // the person looked away since the last divider was placed
/** Bodies in Markdown, as far as they are known; for editing. @type {Map<number, string>} */
const bodies = new Map()
/** What was heard lately: a page that was read before it must hear it too. @type {RoomEvent[]} */
let recent = []
let recentFrom = known

/** @returns {HTMLElement[]} */
const messages = () => lines().filter((one) => one.classList.contains("msg"))
export const position = () => known
export const atEnd = () => !later && Math.abs(box.scrollTop) < END
/** Whether the person is looking at this page. */
export const watching = () => document.visibilityState === "visible" && document.hasFocus()

/** @param {number} seq */
const find = (seq) => document.getElementById("m" + seq)
/** Everything that has a place in the log: messages, and what happened. @returns {HTMLElement[]} */
const lines = () => /** @type {HTMLElement[]} */ ([...list.children].filter((one) => one instanceof HTMLElement && one.dataset.seq))

/** Changes the window without moving what is read. @param {() => void} change */
function keep(change) {
  const end = atEnd()
  const top = box.getBoundingClientRect().top
  const held = end ? undefined : lines().find((line) => line.getBoundingClientRect().bottom > top)
  const before = held?.getBoundingClientRect().top ?? 0
  box.style.overflowAnchor = "none" // the browser's own anchoring would correct a second time
  change()
  if (end) box.scrollTop = 0
  else if (held?.isConnected) box.scrollTop += held.getBoundingClientRect().top - before
  requestAnimationFrame(() => { box.style.overflowAnchor = "" })
  button()
}

/** Puts a line where its seq belongs. @param {HTMLElement} line @param {number} seq */
function place(line, seq) {
  let next = null
  for (let at = list.lastElementChild; at; at = at.previousElementSibling) {
    const other = seqOf(at)
    if (other && other < seq) break
    next = at
  }
  list.insertBefore(line, next)
}

/** @param {HTMLElement} line @param {Message} message */
function write(line, message) {
  fill(line, message)
  know(message)
}

/** Keeps a message's Markdown, for editing. @param {Message} message */
export function know(message) {
  if (message.body === undefined || message.deleted) bodies.delete(message.seq)
  else bodies.set(message.seq, message.body)
}

/** @param {Message} message */
function put(message) {
  const there = find(message.seq)
  if (there) return write(there, message)
  const line = clone("t-message")
  write(line, message)
  place(line, message.seq)
}

/** @param {RoomEvent} event */
function tell(event) {
  if (!list.querySelector(`.sys[data-seq="${event.seq}"]`)) place(system(event), event.seq)
}

/** @param {Page} page */
function putAll(page) {
  page.messages.forEach(put)
  page.events?.forEach(tell)
}

/** Day separators, and which lines continue the one above. The server's first page follows the same rules. */
function arrange() {
  /** @type {HTMLElement | null} */
  let above = null
  /** @type {HTMLElement | null} */
  let mark = null
  let fresh = false
  for (const one of /** @type {HTMLElement[]} */ ([...list.children])) {
    if (one.classList.contains("day")) {
      mark?.remove()
      mark = one
      continue
    }
    if (one.classList.contains("new")) {
      fresh = true
      continue
    }
    const date = one.dataset.date ?? ""
    const opens = above?.dataset.date !== date
    if (opens) {
      if (!mark) {
        mark = clone("t-day")
        list.insertBefore(mark, fresh ? one.previousElementSibling : one)
      }
      const name = dayName(new Date(moment(one)))
      const label = within(mark, "span")
      if (label.textContent !== name) label.textContent = name
      mark.dataset.date = date
    } else mark?.remove()
    one.classList.toggle("cont", !!above && !opens && !fresh && !("seam" in one.dataset) && together(above, one))
    above = one
    mark = null
    fresh = false
  }
  mark?.remove()
}

/** Cuts the end of the window that is farther away. @param {"top" | "end"} side */
function trim(side) {
  const all = lines()
  const over = all.length - MOST
  if (over <= SLACK) return
  const gone = side === "top" ? all.slice(0, over) : all.slice(-over)
  for (const line of gone) {
    bodies.delete(seqOf(line))
    line.remove()
  }
  if (side === "top") earlier = true
  else later = true
}

function steps() {
  const all = messages()
  earlierLink.hidden = !earlier
  laterLink.hidden = !later
  earlierLink.setAttribute("href", link(seqOf(all[0])))
  laterLink.setAttribute("href", link(seqOf(all[all.length - 1])))
  byId("begin").hidden = earlier
}

/** @param {string} query @returns {Promise<Page>} */
const fetchPage = (query) => api("GET", `/rooms/${ROOM}/messages?limit=${PAGE}${query && "&" + query}`)

/** Fetches the page next to the window. @param {"before" | "after"} side */
async function load(side) {
  if (loading || !(side === "before" ? earlier : later)) return
  loading = true
  const of = generation
  try {
    const all = messages()
    const page = await fetchPage(`${side}=${seqOf(side === "before" ? all[0] : all[all.length - 1])}`)
    if (of !== generation) return
    // A line in view that began a page keeps its head: losing it would move all lines below.
    if (side === "before" && all[0]?.getBoundingClientRect().bottom > box.getBoundingClientRect().top) all[0].dataset.seam = ""
    keep(() => {
      putAll(page)
      if (side === "before") earlier = page.earlier
      else later = page.later
      trim(side === "before" ? "end" : "top")
      steps()
      arrange()
    })
    replay(page.seq)
    if (!later) see()
  } catch {
    return // the link stays; scrolling or a click tries again, and so does the next connection
  } finally {
    loading = false
  }
  for (const step of [earlierLink, laterLink]) { // an observer speaks up only when something changes
    sentinel.unobserve(step)
    sentinel.observe(step)
  }
}

const sentinel = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) load(entry.target === earlierLink ? "before" : "after")
}, { root: box, rootMargin: "900px 0px" })

/** @param {Page} page */
function replace(page) {
  generation++
  list.replaceChildren()
  bodies.clear()
  earlier = page.earlier
  later = page.later
  putAll(page)
  newestPost = Math.max(newestPost, seqOf(messages().at(-1)))
  steps()
  arrange()
  rove()
}

/** Shows the end of the room. */
export async function newest() {
  unseen = 0
  if (later) {
    const of = ++generation
    const page = await fetchPage("")
    if (of !== generation) return
    replace(page)
    replay(page.seq)
  }
  box.scrollTop = 0
  if (location.search) window.history.replaceState(null, "", location.pathname) // no longer at ?at=
  button()
  see()
}

/** The first message that is not before this place of the log. @param {number} seq */
const from = (seq) => messages().find((line) => seqOf(line) >= seq)

/** Shows the first message that was unread when the page was opened. */
async function firstUnread() {
  const seq = (data.self?.read ?? 0) + 1
  const of = ++generation
  const page = await fetchPage("around=" + seq)
  if (of !== generation) return
  replace(page)
  replay(page.seq)
  const line = from(seq)
  if (!line) return
  list.insertBefore(clone("t-new"), line)
  arrange()
  line.scrollIntoView({ block: "center" })
  button()
}

/** Goes to the place that a link of this house names: without leaving where it is in sight. @param {string} href */
export function jump(href) {
  const url = new URL(href)
  const seq = Number(url.searchParams.get("at"))
  if (url.pathname === "/room/" + ROOM && !url.searchParams.has("thread") && find(seq)) point(seq)
  else location.assign(href)
}

/** Points out the message of the page's address. @param {number} seq */
function point(seq) {
  const line = find(seq) ?? from(seq) // a place in the log may hold something else than a message
  if (!line) return
  line.scrollIntoView({ block: "center" })
  line.classList.add("found")
  setTimeout(() => line.classList.remove("found"), 4000)
  button()
}

/** Too much was missed to hear it event by event: read the same part of the room again. @param {number} seq */
export async function renew(seq) {
  const end = atEnd()
  const top = box.getBoundingClientRect().top
  const held = lines().find((line) => line.getBoundingClientRect().bottom > top)
  try {
    const of = ++generation
    const page = await fetchPage(end || !held ? "" : "around=" + seqOf(held))
    if (of !== generation) return
    const before = held?.getBoundingClientRect().top ?? 0
    replace(page)
    known = Math.max(known, seq, page.seq)
    recent = recent.filter((event) => event.seq > page.seq)
    recentFrom = page.seq
    replay(page.seq)
    const again = held && find(seqOf(held))
    if (end) box.scrollTop = 0
    else if (again) box.scrollTop += again.getBoundingClientRect().top - before
    see()
  } catch {
    setTimeout(() => renew(seq), 3000)
  }
}

// ---- events ----

let healing = false
let healAgain = false

/** Hears one event of this room, exactly once and in order. @param {RoomEvent} event */
export function hear(event) {
  if (event.seq <= known) return
  if (event.seq > known + 1) {
    heal()
    return
  }
  known = event.seq
  recent.push(event)
  if (recent.length > 600) {
    recent = recent.slice(300)
    recentFrom = recent[0].seq - 1
  }
  apply(event, true)
  for (const listener of hearers) listener(event)
}

/** @type {((event: RoomEvent) => void)[]} */
const hearers = []
/** @param {(event: RoomEvent) => void} listener called once for every event of this room, in order */
export function onEvent(listener) {
  hearers.push(listener)
}

/** Something is missing between what is known and what came: ask for it. */
export async function heal() {
  if (healing) {
    healAgain = true
    return
  }
  healing = true
  try {
    for (let rounds = 0; ; rounds++) {
      healAgain = false
      const answer = await api("GET", `/rooms/${ROOM}/since?seq=${known}&limit=200`)
      for (const event of answer.events) {
        if (event.seq > known) known = Math.max(known, event.seq - 1) // the server's own list has no holes
        hear(event)
      }
      known = Math.max(known, answer.more ? known : answer.seq)
      if (answer.more && rounds >= 4) {
        await renew(answer.seq)
        break
      }
      if (!answer.more && !healAgain) break
    }
  } catch {
    setTimeout(() => { if (live.ready()) heal() }, 2000) // otherwise the next hello heals
  } finally {
    healing = false
  }
}

/** A page was read when the room was at seq: what was heard since then is not in it. @param {number} seq */
function replay(seq) {
  if (seq < recentFrom) {
    renew(known)
    return
  }
  for (const event of recent) if (event.seq > seq) apply(event, false)
}

/** @param {RoomEvent} event @param {boolean} fresh heard just now */
function apply(event, fresh) {
  const message = event.message
  if (message && bodies.has(message.seq)) know(message) // also of a thread that is not open
  const answered = event.root && find(event.root.seq)
  if (answered && event.root) {
    const replies = event.root.replies
    keep(() => foot(answered, replies))
  }
  if (message?.thread && !message.aloud) { // it stands in its thread
    if (event.kind === "post" && message.client_id) outbox.remove(message.client_id)
    return
  }
  switch (event.kind) {
    case "post":
      if (!message) return
      newestPost = Math.max(newestPost, message.seq)
      if (message.client_id) outbox.remove(message.client_id)
      if (later || (!atEnd() && lines().length > MOST + SLACK)) {
        later = true // the window ends here; the rest is fetched when it is wanted
        if (fresh && message.by.id !== data.me?.id) unseen++
        steps()
        button()
        break
      }
      keep(() => {
        divide(message, fresh)
        put(message)
        trim("top")
        arrange()
        showPending()
        steps()
        rove()
      })
      if (fresh && message.by.id !== data.me?.id) {
        if (!atEnd() || !watching()) unseen++
        announce(message)
      }
      button()
      see()
      break
    case "restore": {
      // A page that was loaded while it was gone does not have its line.
      const shown = lines().filter((one) => one.classList.contains("msg"))
      const first = seqOf(shown.at(0)), last = seqOf(shown.at(-1))
      if (message && (find(message.seq) || (!earlier || message.seq > first) && (!later || message.seq < last))) keep(() => {
        put(message)
        arrange()
        steps()
        rove()
      })
      break
    }
    case "answer":
    case "way":
    case "pin":
    case "card":
    case "edit": {
      const line = message && find(message.seq)
      if (message && line) keep(() => write(line, message))
      if (event.kind === "pin" && event.on && fresh && event.by.id !== data.me?.id) hint(t("pin.told", { name: event.by.name }))
      const answer = event.kind === "answer" && message?.alert?.answers.at(-1)
      if (answer && fresh && answer.by.id !== data.me?.id) hint(saying(answer))
      break
    }
    case "react": {
      const line = event.marks && find(event.marks.seq)
      if (!line || line.classList.contains("gone")) break
      keep(() => reactions.show(line, event.marks?.reactions))
      if (fresh && event.on && mine(line) && event.by.id !== data.me?.id) hint(t("react.told", { name: event.by.name, emoji: event.emoji ?? "" }))
      break
    }
    case "delete": {
      const line = message && find(message.seq)
      if (message && line) {
        bodies.delete(message.seq)
        keep(() => bury(line))
      }
      break
    }
    case "trim": // the room does not keep what was before that
      keep(() => {
        for (const line of lines().filter((one) => seqOf(one) < (event.before ?? 0))) {
          bodies.delete(seqOf(line))
          line.remove()
          earlier = false
        }
        arrange()
        steps()
        rove()
      })
      break
    case "archive":
      if (fresh) location.reload() // what may be done here is another now; drafts are kept
      break
    case "retain":
    case "join":
    case "leave":
    case "role":
    case "room":
    case "restored":
      if (!later) keep(() => {
        tell(event)
        arrange()
      })
  }
}

/** The divider above what came while nobody was looking. @param {Message} message @param {boolean} fresh */
function divide(message, fresh) {
  if (message.by.id === data.me?.id) {
    list.querySelector(".new")?.remove()
    return
  }
  if (!fresh || !left || watching()) return
  left = false
  list.querySelector(".new")?.remove()
  list.append(clone("t-new"))
}

/** Says a new line aloud for people who listen. Pages of history never come here. @param {Message} message */
function announce(message) {
  const line = find(message.seq)
  const text = [line?.querySelector(".body")?.textContent?.trim(), told(line)].filter(Boolean).join(" ")
  hint(t("announce", { name: message.by.name, text: text.slice(0, 400) }))
}

/** Says something aloud for people who listen. @param {string} text */
export function hint(text) {
  const one = document.createElement("p")
  one.textContent = text
  announcements.append(one)
  while (announcements.childElementCount > 6) announcements.firstElementChild?.remove()
}

/** Draws one's own lines that are on their way. */
const showPending = () => pending.show(messages().at(-1), (seq) => later || !!find(seq))

// ---- where the person is ----

function button() {
  const away = later || !atEnd()
  if (!away) unseen = watching() ? 0 : unseen
  newestButton.hidden = !away
  within(newestButton, "span").textContent = unseen > 0 ? t("newest.n", { n: unseen }) : t("newest")
}

let seeing = 0
/** Tells the server what has been read, when the end is on a screen that somebody looks at. */
function see() {
  if (seeing || !data.self?.role) return
  seeing = setTimeout(() => {
    seeing = 0
    if (!atEnd() || !watching() || newestPost <= read || !live.ready()) return
    read = known
    live.send({ do: "read", room: ROOM, seq: known })
  }, 400)
}

/** All of the room is read, wherever one stands in it. */
export function markRead() {
  if (!data.self?.role) return
  list.querySelector(".new")?.remove()
  document.getElementById("unread")?.remove()
  unseen = 0
  read = known
  live.send({ do: "read", room: ROOM, seq: known })
  arrange()
  newest().catch(() => {})
  hint(t("read.all"))
}

/** @type {HTMLElement | null} */
let stop = null
/** One line is where Tab enters the history; the arrow keys go from there. @param {HTMLElement} [line] */
export function rove(line) {
  const next = line ?? (stop?.isConnected && !atEnd() ? stop : messages().at(-1))
  if (!next || next === stop) return
  stop?.setAttribute("tabindex", "-1")
  stop = next
  stop.tabIndex = 0
}

/** The Markdown of a message. @param {number} seq @returns {Promise<string>} */
export async function bodyOf(seq) {
  const there = bodies.get(seq)
  if (there !== undefined) return there
  /** @type {Message} */
  const message = await api("GET", `/rooms/${ROOM}/messages/${seq}`) // a reply is in no page of the room
  if (message.deleted) throw new Refusal("conflict", t("deleted"))
  know(message)
  return message.body ?? ""
}

/** The newest message that I wrote and did not delete, in the window; 0 while a newer one is on its way. */
export const lastOfMine = () => pending.any() ? 0 : seqOf(messages().findLast((line) => mine(line) && !line.classList.contains("gone")))

/** @param {(entry: outbox.Entry) => void} back puts the words of a refused message back where they can be changed */
export function start(back) {
  pending.onBack(back)
  for (const line of lines()) {
    stamp(line, new Date(moment(line)))
    line.classList.toggle("mine", mine(line))
    pointOut(line)
  }
  newestPost = seqOf(messages().at(-1))
  arrange()
  rove()
  showPending()
  const fresh = list.querySelector(".new")
  if (data.at) point(data.at)
  else if (fresh && fresh.getBoundingClientRect().top < box.getBoundingClientRect().top) fresh.scrollIntoView({ block: "start" })
  for (const step of [earlierLink, laterLink]) {
    sentinel.observe(step)
    step.addEventListener("click", (event) => {
      event.preventDefault()
      load(step === earlierLink ? "before" : "after")
    })
  }
  const unread = document.getElementById("unread")
  unread?.addEventListener("click", (event) => {
    event.preventDefault()
    firstUnread().then(() => unread.remove(), () => {})
  })
  box.addEventListener("scroll", () => { button(); see() }, { passive: true })
  newestButton.addEventListener("click", (event) => {
    event.preventDefault()
    newest().catch(() => {})
  })
  addEventListener("focus", () => { button(); see() })
  addEventListener("blur", () => { left = true })
  document.addEventListener("visibilitychange", () => { if (watching()) { button(); see() } else left = true })
  outbox.onChange(() => keep(showPending))
  outbox.onSent((entry, seq) => {
    if (entry.room !== ROOM || entry.thread || seq <= known) return
    pending.acknowledge(entry.client_id, seq)
    setTimeout(() => { if (known < seq) heal() }, 4000)
  })
  live.on("hello", (frame) => {
    const room = frame.rooms.find((/** @type {import("./page.js").Room} */ one) => one.id === ROOM)
    if (room) read = room.read
    see()
    sentinel.unobserve(earlierLink)
    sentinel.observe(earlierLink)
  })
  live.on("gap", (frame) => { if (frame.room === ROOM) renew(frame.seq) })
  live.on("event", (frame) => { if (frame.room === ROOM) hear(frame) })
  button()
  see()
}

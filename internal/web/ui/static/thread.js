// A thread beside the room: what was answered to a message. It hears the room's events as the history does.

import { Refusal, api, byId, data, t, within } from "./page.js"
import * as composer from "./composer.js"
import * as history from "./history.js"
import { bury, fill, seqOf } from "./line.js"
import { clone } from "./page.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import { waiting } from "./pending.js"
import * as reactions from "./reactions.js"
import { muted } from "./sidebar.js"

/** @typedef {import("./page.js").Message} Message */
/** @typedef {import("./page.js").RoomEvent} RoomEvent */

const ROOM = data.room
const panel = byId("thread")
const box = byId("thread-history")
const list = byId("thread-lines")
const follow = /** @type {HTMLButtonElement | null} */ (document.getElementById("thread-follow"))
const pending = waiting(byId("thread-pending"), (entry) => root !== 0 && entry.thread === root)

let root = 0
let earlier = false
let generation = 0
let read = 0 // as it was last told
/** What was heard while the thread is being asked for. @type {RoomEvent[]} */
let meanwhile = []
let loading = false
/** @type {ReturnType<typeof composer.make> | null} */
let writes = null
/** @type {(why: string) => void} */
let complain = () => {}

/** What I want to be told of in it. @type {{bell: string, mute_until?: string}} */
let ring = { bell: "mentions" }

/** @param {{bell: string, mute_until?: string}} now */
function bell(now) {
  ring = { bell: now.bell, mute_until: now.mute_until }
  follow?.classList.toggle("on", ring.bell === "all")
  follow?.classList.toggle("off", ring.bell === "nothing" || muted(ring.mute_until))
}

/** The thread that is open; 0: none. */
export const shown = () => root
/** @param {number} seq */
const find = (seq) => document.getElementById("t" + seq)
const lines = () => /** @type {HTMLElement[]} */ ([...list.querySelectorAll(".msg")])

/** @param {Message} message @param {Element | null} [before] */
function put(message, before = null) {
  const there = find(message.seq)
  const line = there ?? clone("t-message")
  fill(line, message)
  line.id = "t" + message.seq
  within(line, ".when").setAttribute("href", `?thread=${root}&at=${message.seq}#t${message.seq}`)
  line.querySelector(".replies")?.remove()
  line.querySelector(".answers")?.remove()
  history.know(message)
  if (there) return
  const next = before ?? lines().find((one) => seqOf(one) > message.seq) ?? null
  list.insertBefore(line, next)
}

/** Opens the thread of a message, and shows one of its replies or the end. @param {number} seq @param {number} [at] */
export async function open(seq, at = 0) {
  const of = ++generation
  const other = root !== seq
  if (other) {
    writes?.turn(() => { root = seq })
    root = seq
    list.replaceChildren()
  }
  loading = true
  meanwhile = []
  panel.hidden = false
  try {
    const page = await api("GET", `/rooms/${ROOM}/threads/${seq}?limit=50${at ? "&around=" + at : ""}`)
    if (of !== generation) return
    root = page.root.seq
    list.replaceChildren()
    put(page.root)
    list.append(divider())
    page.messages.forEach((/** @type {Message} */ one) => put(one))
    earlier = page.earlier
    steps()
    bell(page)
    read = page.read
    loading = false
    for (const event of meanwhile) if (event.seq > page.seq) apply(event, false)
    draw()
    const line = at ? find(at) : null
    if (line) {
      line.scrollIntoView({ block: "center" })
      line.classList.add("found")
      setTimeout(() => line.classList.remove("found"), 4000)
    } else box.scrollTop = box.scrollHeight
    see()
  } catch (error) {
    if (of !== generation) return
    loading = false
    close()
    complain(error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error))
  }
}

function divider() {
  const one = document.createElement("li")
  one.id = "thread-earlier"
  one.className = "day"
  const text = document.createElement("button")
  text.className = "plain"
  text.addEventListener("click", more)
  one.append(text)
  return one
}

function steps() {
  const text = /** @type {HTMLButtonElement} */ (within(byId("thread-earlier"), "button"))
  text.textContent = t(earlier ? "thread.earlier" : "thread.replies")
  text.disabled = !earlier
}

async function more() {
  const of = generation
  const first = lines()[1]
  try {
    const page = await api("GET", `/rooms/${ROOM}/threads/${root}?limit=50&before=${seqOf(first)}`)
    if (of !== generation) return
    const before = first.getBoundingClientRect().top
    page.messages.forEach((/** @type {Message} */ one) => put(one, first))
    earlier = page.earlier
    steps()
    box.scrollTop += first.getBoundingClientRect().top - before
  } catch { /* the button stays */ }
}

export function close() {
  generation++
  const was = root
  writes?.turn(() => { root = 0 })
  root = 0
  panel.hidden = true
  const line = document.getElementById("m" + was)
  if (line) {
    history.rove(line)
    line.focus({ preventScroll: true })
  } else composer.focus()
  if (location.search.includes("thread=")) window.history.replaceState(null, "", location.pathname)
}

/** @param {RoomEvent} event */
function hear(event) {
  if (!root) return
  if (loading) meanwhile.push(event)
  else apply(event, true)
}

/** @param {RoomEvent} event @param {boolean} fresh */
function apply(event, fresh) {
  const message = event.message
  if (event.kind === "react") {
    const line = event.marks && find(event.marks.seq)
    if (line && !line.classList.contains("gone")) reactions.show(line, event.marks?.reactions)
    return
  }
  if (event.kind === "trim" && root < (event.before ?? 0)) open(root) // what is left of it
  if (!message || message.thread !== root && message.seq !== root) return
  const end = box.scrollHeight - box.scrollTop - box.clientHeight < 60
  if (event.kind === "post" || event.kind === "restore") put(message)
  else if (event.kind === "delete") {
    const line = find(message.seq)
    if (line) bury(line)
  } else if (find(message.seq)) put(message)
  if (event.kind === "post" && message.client_id) outbox.remove(message.client_id)
  draw()
  if (end || message.by.id === data.me?.id && event.kind === "post") box.scrollTop = box.scrollHeight
  if (event.kind === "post" && fresh && message.by.id !== data.me?.id) {
    history.hint(t("thread.announce", { name: message.by.name, text: (find(message.seq)?.querySelector(".body")?.textContent ?? "").slice(0, 400) }))
  }
  if (event.kind === "post" && message.by.id === data.me?.id && ring.bell !== "nothing") bell({ ...ring, bell: "all" })
  see()
}

/** Which lines continue the one above, where Tab enters, and what is on its way. */
function draw() {
  const all = lines()
  for (const [i, line] of all.entries()) line.tabIndex = i === all.length - 1 ? 0 : -1
  pending.show(all.at(-1), (seq) => !!find(seq))
}

/** @param {HTMLElement} line */
export function rove(line) {
  for (const one of lines()) one.tabIndex = one === line ? 0 : -1
}

let seeing = 0
function see() {
  if (seeing || !data.self?.role || !root) return
  seeing = setTimeout(async () => {
    seeing = 0
    const last = seqOf(lines().at(-1))
    if (!root || loading || last <= read || !history.watching() || box.scrollHeight - box.scrollTop - box.clientHeight > 80) return
    read = last
    await api("PUT", `/rooms/${ROOM}/threads/${root}/read`, { seq: last }).catch(() => { read = 0 })
  }, 400)
}

/** @param {number} seq */
export const edit = (seq) => writes?.edit(seq)

/** @param {string} text */
export const quote = (text) => writes?.quote(text)

/** @param {(why: string) => void} say */
export function start(say) {
  complain = say
  history.onEvent(hear)
  const form = /** @type {HTMLFormElement | null} */ (document.getElementById("thread-composer"))
  if (form) {
    const aloud = /** @type {HTMLInputElement} */ (within(form, "[name=aloud]"))
    writes = composer.make(form, {
      room: false,
      thread: () => root || -1, // with none open, a place of its own: 0 is the room
      send: (text, id, files) => {
        outbox.post(ROOM, text, id, root, aloud.checked, files)
        aloud.checked = false
      },
      last: () => seqOf(lines().findLast((line) => line.classList.contains("mine") && !line.classList.contains("gone") && seqOf(line) !== root)),
    })
    pending.onBack((entry) => writes?.back(entry.body, entry.files))
  }
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || event.isComposing) return
    event.preventDefault()
    close()
  })
  byId("thread-close").addEventListener("click", (event) => {
    event.preventDefault()
    close()
  })
  document.getElementById("bell")?.addEventListener("beforetoggle", () => import("./bell.js").then((one) => one.ofRoom(complain), () => {}))
  document.getElementById("thread-bell")?.addEventListener("beforetoggle", () => import("./bell.js").then((one) => one.ofThread(root, ring, bell, complain), () => {}))
  for (const one of [byId("lines"), list]) {
    one.addEventListener("click", (event) => {
      const link = /** @type {Element} */ (event.target).closest("a.replies, a.answers")
      const key = /** @type {MouseEvent} */ (event)
      if (!link || key.ctrlKey || key.metaKey || key.shiftKey) return
      event.preventDefault()
      const line = /** @type {HTMLElement} */ (link.closest(".msg"))
      const answers = Number(new URL(/** @type {HTMLAnchorElement} */ (link).href).searchParams.get("thread"))
      open(answers, link.matches(".answers") ? seqOf(line) : 0).then(() => writes?.focus())
    })
  }
  box.addEventListener("scroll", see, { passive: true })
  addEventListener("focus", see)
  document.addEventListener("visibilitychange", see)
  outbox.onChange(() => { if (root) draw() })
  outbox.onSent((entry, seq) => { if (entry.room === ROOM && entry.thread) pending.acknowledge(entry.client_id, seq) })
  live.on("gap", (frame) => { if (frame.room === ROOM && root) open(root) })
  if (data.thread) open(data.thread, data.reply ?? 0)
}

/** Opens the thread of a line, and its box. @param {HTMLElement} line */
export function answer(line) {
  const link = /** @type {HTMLAnchorElement | null} */ (line.querySelector("a.answers"))
  open(link ? Number(new URL(link.href).searchParams.get("thread")) : seqOf(line)).then(() => writes?.focus())
}

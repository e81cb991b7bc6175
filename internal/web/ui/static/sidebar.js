// The sidebar: my rooms with what is unread in them, the state of the connection, and the count in the title bar.

import { byId, clone, data, paint, t, within } from "./page.js"
import { callsHere, callsRoom } from "./calls.js"
import * as live from "./live.js"

/** @typedef {import("./page.js").Room} Room */

/** @type {Map<number, Room>} */
export const rooms = new Map((data.rooms ?? []).map((room) => [room.id, room]))
const title = document.title

/** Whether somebody is looking at the end of this room. @type {(room: number) => boolean} */
let seen = () => false

/** Called for every message of others that comes into one of my rooms. @type {((event: import("./page.js").RoomEvent, room: Room, seen: boolean) => void)[]} */
const hearers = []
/** @param {(event: import("./page.js").RoomEvent, room: Room, seen: boolean) => void} hearer */
export const onPost = (hearer) => { hearers.push(hearer) }
/** @type {(() => void)[]} */
const counters = []
/** Called when the counts may have changed. @param {() => void} counter */
export const onCount = (counter) => { counters.push(counter) }

/** Whether I want to be told of nothing in a room; view.go has the same rule. @param {Room} room */
export const silent = (room) => room.bell === "nothing" || muted(room.mute_until)
/** @param {string} [until] */
export const muted = (until) => !!until && Date.parse(until) > Date.now()

/** @param {Room} room */
export const label = (room) => (room.kind === "direct" && room.other ? room.other.name : room.name)

/** @param {HTMLElement} parent @param {Room} room */
export function glyph(parent, room) {
  const icon = within(parent, ".glyph")
  const face = within(parent, ".face")
  icon.toggleAttribute("hidden", room.kind === "direct")
  face.hidden = room.kind !== "direct"
  within(icon, "use").setAttribute("href", room.kind === "private" || room.kind === "ops" ? "#i-lock" : "#i-hash")
  if (room.other) paint(face, room.other)
}

/** @param {Room} room */
function show(room) {
  const id = String(room.id)
  let link = /** @type {HTMLElement | null} */ (document.querySelector(`#side a[data-room="${id}"]`))
  if (!link) {
    const item = clone("t-room")
    link = within(item, "a")
    link.dataset.room = id
    link.setAttribute("href", "/room/" + id)
    if (room.id === data.room) link.setAttribute("aria-current", "page")
    byId(room.kind === "direct" ? "direct" : "rooms").append(item)
  }
  glyph(link, room)
  within(link, ".name").textContent = label(room)
  link.classList.toggle("unread", room.unread > 0 && !silent(room))
  within(link, ".hush").toggleAttribute("hidden", !silent(room))
  badge(within(link, ".mention"), room.mentions)
  badge(within(link, ".threads"), room.threads)
  badge(within(link, ".count"), room.unread)
}

/** @param {HTMLElement} element @param {number} n */
function badge(element, n) {
  element.hidden = n <= 0
  within(element, "span").textContent = n > 99 ? "99+" : String(n)
}

function total() {
  let unread = 0
  let elsewhere = 0
  for (const room of rooms.values()) {
    if (silent(room)) continue
    unread += room.unread + room.threads
    if (room.id !== data.room) elsewhere += room.unread + room.threads
  }
  document.title = unread > 0 ? `(${unread > 999 ? "999+" : unread}) ${title}` : title
  const dot = document.getElementById("elsewhere")
  if (dot) dot.hidden = elsewhere === 0
  for (const counter of counters) counter()
}

/** All my rooms, as the server has them. @param {Room[]} list */
function replace(list) {
  list = list.filter((room) => !room.archived)
  const kept = new Set(list.map((room) => room.id))
  for (const id of [...rooms.keys()]) {
    if (kept.has(id)) continue
    rooms.delete(id)
    document.querySelector(`#side a[data-room="${id}"]`)?.closest("li")?.remove()
  }
  for (const room of list) {
    rooms.set(room.id, room)
    show(room)
  }
  for (const room of list) { // in the server's order
    const item = document.querySelector(`#side a[data-room="${room.id}"]`)?.closest("li")
    item?.parentElement?.append(item)
  }
  total()
}

/** The rooms about whose counts the server is asked soon. @type {Set<number>} */
const asking = new Set()

/** Something unread was deleted, or edited so that it mentions others: what that leaves is the server's to count. Not everybody in a large room asks
 * at once, and a hundred deletions are one question. @param {Room} room */
function recount(room) {
  if (asking.has(room.id)) return
  asking.add(room.id)
  setTimeout(() => {
    asking.delete(room.id)
    live.send({ do: "read", room: room.id, seq: room.read }) // reading never goes back; lost with the connection, hello counts anew
  }, 200 + Math.random() * 1500)
}

/** Something happened in one of my rooms. @param {import("./page.js").RoomEvent} event */
export function count(event) {
  const room = rooms.get(event.room)
  if (!room || event.seq <= room.seq) return
  room.seq = event.seq
  const message = event.message
  if (event.kind === "room") {
    room.name = event.name ?? room.name
    room.topic = event.topic ?? room.topic
  } else if (event.kind === "post" && message && data.me) {
    if (event.by.id === data.me.id) return
    for (const hearer of hearers) hearer(event, room, seen(room.id))
    if (message.thread && !message.aloud) { // told to those who follow its thread
      if (!event.root?.followers.includes(data.me.id)) return
      room.threads++
      show(room)
      total()
      return
    }
    if (seen(room.id)) return
    room.unread = Math.min(1000, room.unread + 1)
    const { handle, away } = data.me // who is away is not here
    if (message.mentions?.some((one) => one === handle || callsRoom.has(one) || !away && callsHere.has(one)) || room.kind === "direct") room.mentions++
  } else {
    if (event.kind === "trim" && room.unread + room.threads + room.mentions > 0) recount(room)
    if (message && event.kind !== "pin" && event.kind !== "card" && (message.thread || message.seq > room.read) && (event.kind === "restore" || event.by.id !== data.me?.id)) recount(room)
    return
  }
  show(room)
  total()
}

/** Ctrl-Shift-F anywhere, and / outside of fields, lead to the search. @param {KeyboardEvent} event */
function toSearch(event) {
  const slash = event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey
  if (!slash && !((event.ctrlKey || event.metaKey) && event.shiftKey && event.key.toLowerCase() === "f")) return
  if (slash && event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]")) return
  const box = /** @type {HTMLInputElement | null} */ (document.getElementById("q") ?? document.getElementById("find"))
  if (!box) return
  event.preventDefault()
  if (!box.checkVisibility()) { // on a phone the sidebar is away
    location.href = "/search"
    return
  }
  box.focus()
  box.select()
}

/** @param {(room: number) => boolean} [isSeen] */
export function start(isSeen) {
  if (isSeen) seen = isSeen
  document.addEventListener("keydown", toSearch)
  total()
  for (const is of ["hello", "rooms"]) {
    live.on(is, (frame) => {
      if (data.me && frame.me) data.me.away = frame.me.away
      if (is === "rooms") data.told = frame.told
      replace(frame.rooms)
    })
  }
  live.on("event", count)
  live.on("read", (frame) => {
    const room = rooms.get(frame.room)
    if (!room) return
    room.read = Math.max(room.read, frame.seq)
    room.unread = frame.unread
    room.mentions = frame.mentions
    room.threads = frame.threads ?? room.threads
    show(room)
    total()
  })
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey || event.isComposing) return
    event.preventDefault()
    import("./palette.js").then((palette) => palette.toggle(), () => {}) // fetched by who wants it
  })
  const keys = () => import("./keys.js").then((list) => list.toggle(), () => {})
  document.addEventListener("keydown", (event) => {
    const field = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]")
    const asked = event.ctrlKey || event.metaKey ? event.key === "/" : event.key === "?" && !field
    if (!asked || event.altKey || event.isComposing) return
    event.preventDefault()
    keys()
  })
  for (const button of document.querySelectorAll("[data-keys]")) button.addEventListener("click", keys)
  if (data.me) import("./told.js").catch(() => {}) // the page lives without it
  const state = byId("state")
  const tell = () => {
    state.dataset.state = live.current()
    state.textContent = t("state." + live.current())
  }
  live.on("state", tell)
  tell()
}

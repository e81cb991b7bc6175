// Who is in the room: the members' panel, who is here, who is typing, and the room's own name and topic.

import { api, byId, clone, data, paint, t, within } from "./page.js"
import * as live from "./live.js"
import { label, rooms } from "./sidebar.js"

/** @typedef {Omit<import("./page.js").Person, "away"> & {here?: boolean, away?: string}} Member */

const ROOM = data.room
const SHOWN = 5000 // how long "is typing" holds without news
const roles = data.roles ?? []

/** @type {Member[] | null} */
let members = null
/** @type {Set<number> | null} */
let here = null
let online = 0
const MOST = 1000 // members that the server lists
let going = false // a form of this page leads elsewhere already
/** @type {Map<number, {name: string, timer: number}>} */
const typists = new Map()

/** The members of the room, fetched when they are first wanted. @returns {Promise<Member[]>} */
export async function people() {
  if (members) return members
  try {
    members = /** @type {Member[]} */ ((await api("GET", `/rooms/${ROOM}/members`)).members)
    here ??= new Set(members.filter((one) => one.here).map((one) => one.id))
    return members
  } catch {
    return []
  }
}

/** How many others there are in the room, and of those who are here now: not away, with a page open. */
export function others() {
  const me = here ? here.has(data.me?.id ?? 0) : online > 0 && !data.me?.away
  return { all: Math.max(0, Number(byId("members-count").textContent) - 1), here: Math.max(0, online - (me ? 1 : 0)) }
}

async function show() {
  const list = byId("member-list")
  const all = await people()
  if (!members || list.contains(document.activeElement)) return // not under somebody's fingers
  list.replaceChildren(...all.map((one) => {
    const item = clone("t-member")
    item.dataset.person = String(one.id)
    item.classList.toggle("here", here ? here.has(one.id) : one.here ?? false)
    paint(within(item, ".face"), one)
    within(item, "b").textContent = one.name
    within(item, ".name small").textContent = "@" + one.handle
    within(item, ".bot").hidden = !one.bot
    const away = within(item, ".away")
    away.hidden = one.away === undefined
    away.textContent = [t("away"), one.away].filter(Boolean).join(" · ")
    within(item, ".role").textContent = t("role." + one.role)
    const more = item.querySelector("details")
    if (!more) return item
    if (one.id === data.me?.id || !roles.includes(one.role ?? "")) {
      more.remove()
      return item
    }
    for (const form of more.querySelectorAll("form")) form.action = form.action.replace(/members\/0\//, `members/${one.id}/`)
    const select = more.querySelector("select")
    if (select) select.value = one.role ?? ""
    return item
  }))
  if (all.length < MOST) byId("members-count").textContent = String(all.length)
}

function presence() {
  const pill = byId("here-count")
  pill.hidden = online === 0
  pill.textContent = String(online)
  pill.title = t("here", { n: online })
  if (here) for (const item of byId("member-list").children) {
    item.classList.toggle("here", here.has(Number(/** @type {HTMLElement} */ (item).dataset.person)))
  }
}

function typing() {
  const line = document.getElementById("typing")
  if (!line) return
  const names = [...typists.values()].map((one) => one.name)
  if (names.length === 0) line.textContent = ""
  else if (names.length === 1) line.textContent = t("typing.one", { a: names[0] })
  else if (names.length === 2) line.textContent = t("typing.two", { a: names[0], b: names[1] })
  else line.textContent = t("typing.many")
}

/** @param {number} id */
function stopped(id) {
  clearTimeout(typists.get(id)?.timer)
  if (typists.delete(id)) typing()
}

function heading() {
  const room = rooms.get(ROOM)
  if (!room || room.kind === "direct") return
  within(byId("room-name"), "span[dir]").textContent = label(room)
  byId("room-topic").textContent = room.topic
}

/** I came in or am out: another page altogether, and the server says what there is to see. */
function anew() {
  if (!going) location.reload()
}

/** @param {import("./page.js").RoomEvent} event */
export function hear(event) {
  if (event.kind === "post") stopped(event.by.id)
  if (event.kind === "room") heading()
  if (event.kind !== "join" && event.kind !== "leave" && event.kind !== "role") return
  members = null
  if (event.kind !== "role" && event.person?.id === data.me?.id) {
    anew()
    return
  }
  const count = byId("members-count")
  if (event.kind === "join") count.textContent = String(Number(count.textContent) + 1)
  if (event.kind === "leave") count.textContent = String(Math.max(0, Number(count.textContent) - 1))
  if (byId("members").matches(":popover-open")) show()
}

export function start() {
  document.addEventListener("submit", (event) => { going ||= !event.defaultPrevented })
  addEventListener("pageshow", () => { going = false })
  byId("members").addEventListener("toggle", (event) => {
    if (/** @type {any} */ (event).newState === "open") show()
  })
  live.on("here", (frame) => {
    if (frame.room !== ROOM) return
    online = frame.count
    here = frame.people ? new Set(frame.people) : null // more than are named
    members = null // who is away may have changed
    presence()
    if (byId("members").matches(":popover-open")) show()
  })
  live.on("typing", (frame) => {
    if (frame.room !== ROOM || frame.person.id === data.me?.id) return
    clearTimeout(typists.get(frame.person.id)?.timer)
    typists.set(frame.person.id, { name: frame.person.name, timer: setTimeout(() => stopped(frame.person.id), SHOWN) })
    typing()
  })
  const still = () => {
    if (rooms.has(ROOM)) heading()
    else if (data.self?.role) anew()
  }
  live.on("rooms", still)
  live.on("hello", () => {
    members = null
    still() // it may have happened while there was no connection
    if (data.self?.role) live.send({ do: "view", room: ROOM })
  })
}

// Ctrl-K: goes to a room, a person or a page by its name, or begins a command.

import { Refusal, api, byId, clone, data, paint, t, within } from "./page.js"
import { glyph, label, rooms } from "./sidebar.js"

/** @typedef {{name: string, note: string, kind: string, sign: () => HTMLElement, go: () => void}} Place */

const box = /** @type {HTMLDialogElement} */ (byId("palette"))
const search = /** @type {HTMLInputElement} */ (within(box, "input"))
const list = byId("palette-list")
/** @type {Place[]} */
let places = []
/** @type {Place[]} */
let found = []
let chosen = 0
/** @type {HTMLElement | null} */
let before = null

/** @param {import("./page.js").Room} room @returns {Place} */
const ofRoom = (room) => ({
  name: label(room), note: room.topic, kind: "room", go: () => location.assign("/room/" + room.id),
  sign: () => {
    const entry = clone("t-room")
    glyph(entry, room)
    const sign = document.createElement("span")
    sign.append(within(entry, ".glyph"), within(entry, ".face"))
    return sign
  },
})

/** @param {import("./page.js").Person} person @returns {Place} */
const ofPerson = (person) => ({
  name: person.name, note: "@" + person.handle, kind: "person",
  sign: () => {
    const face = within(clone("t-room"), ".face")
    face.hidden = false
    paint(face, person)
    return face
  },
  go: async () => {
    try {
      location.assign("/room/" + (await api("POST", "/direct", { person: person.id })).id)
    } catch (error) {
      within(box, "p").textContent = error instanceof Refusal ? error.message : String(error)
    }
  },
})

/** @param {HTMLAnchorElement} link @returns {Place} */
const ofPage = (link) => ({
  name: within(link, ".name").textContent ?? "", note: "", kind: "page", go: () => location.assign(link.href),
  sign: () => /** @type {HTMLElement} */ (link.querySelector("svg")?.cloneNode(true) ?? document.createElement("span")),
})

/** @param {{name: string, use: string}} command @returns {Place} */
const ofCommand = (command) => ({
  name: "/" + command.name, note: command.use, kind: "command", sign: () => document.createElement("span"),
  go: () => {
    close()
    const body = before?.matches(".composer textarea") ? before : document.getElementById("body")
    body?.dispatchEvent(new CustomEvent("begin", { detail: "/" + command.name + " " })) // see composer.js: a draft stays
    body?.focus()
  },
})

async function gather() {
  const commands = document.getElementById("body") ? (data.commands ?? []).map(ofCommand) : []
  const pages = [.../** @type {NodeListOf<HTMLAnchorElement>} */ (document.querySelectorAll("#side a.quiet"))].map(ofPage)
  places = [...[...rooms.values()].map(ofRoom), ...pages, ...commands]
  show()
  try {
    const [open, people] = await Promise.all([api("GET", "/rooms/public"), api("GET", "/people")])
    const known = new Set([...rooms.values()].map((room) => room.other?.id).filter(Boolean))
    places = [...[...rooms.values()].map(ofRoom), ...people.people.filter((/** @type {{id: number}} */ one) => one.id !== data.me?.id && !known.has(one.id)).map(ofPerson),
      ...open.rooms.filter((/** @type {{id: number}} */ one) => !rooms.has(one.id)).map(ofRoom), ...pages, ...commands]
    show()
  } catch { /* with what there is */ }
}

function show() {
  const wanted = search.value.trim().toLowerCase()
  /** @param {Place} one */
  const rank = (one) => {
    const name = one.name.toLowerCase()
    if (!wanted) return one.kind === "command" ? -1 : 1
    if (name.startsWith(wanted)) return 3
    if (one.note.toLowerCase().startsWith(wanted) || name.split(/[\s._-]+/).some((word) => word.startsWith(wanted))) return 2
    return name.includes(wanted) || one.kind !== "command" && one.note.toLowerCase().includes(wanted) ? 1 : -1
  }
  const ranked = places.map((one) => /** @type {const} */ ([rank(one), one])).filter(([n]) => n > 0)
  ranked.sort((a, b) => b[0] - a[0])
  found = ranked.slice(0, 30).map(([, one]) => one)
  list.replaceChildren(...found.map((one, i) => {
    const item = document.createElement("li")
    item.id = "place-" + i
    item.setAttribute("role", "option")
    const name = document.createElement("b")
    name.dir = "auto"
    name.textContent = one.name
    const note = document.createElement("small")
    note.dir = "auto"
    note.textContent = one.note || t("palette." + one.kind)
    const sign = one.sign()
    sign.ariaHidden = "true"
    item.append(sign, name, note)
    item.addEventListener("click", () => one.go())
    return item
  }))
  within(box, "p").textContent = found.length ? "" : t("palette.none")
  choose(0)
}

/** @param {number} i */
function choose(i) {
  chosen = found.length ? (i + found.length) % found.length : 0
  for (const [at, item] of [...list.children].entries()) item.setAttribute("aria-selected", String(at === chosen))
  const one = list.children[chosen]
  one?.scrollIntoView({ block: "nearest" })
  if (one) search.setAttribute("aria-activedescendant", one.id)
  else search.removeAttribute("aria-activedescendant")
}

function close() {
  box.close()
  before?.focus({ preventScroll: true })
}

/** Opens it, or closes it when it is open. */
export function toggle() {
  if (box.open) return close()
  before = /** @type {HTMLElement | null} */ (document.activeElement)
  search.value = ""
  box.showModal()
  gather()
}

search.addEventListener("input", show)
search.addEventListener("keydown", (event) => {
  if (event.isComposing) return
  if (event.key === "ArrowDown") choose(chosen + 1)
  else if (event.key === "ArrowUp") choose(chosen - 1)
  else if (event.key === "Enter") found[chosen]?.go()
  else return
  event.preventDefault()
})
box.addEventListener("click", (event) => { if (event.target === box) close() })

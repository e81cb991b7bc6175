// One's own lines that are on their way: shown below the history from the outbox until the room has them.

import { byId, clone, data, t, within } from "./page.js"
import { fill, together } from "./line.js"
import * as outbox from "./outbox.js"

const ROOM = data.room
const list = byId("pending")
/** Sent and acknowledged, but the line itself has not come yet: client id -> seq. @type {Map<string, number>} */
const acknowledged = new Map()

/** The server has taken a message; its line stays here until it has come. @param {string} id @param {number} seq */
export function acknowledge(id, seq) {
  acknowledged.set(id, seq)
}

/** Whether something is on its way, and was not refused. */
export const any = () => !!list.querySelector("li:not(.failed)")

/** Draws what waits. @param {HTMLElement | undefined} last the line above @param {(seq: number) => boolean} came whether the
 * line of an acknowledged message has come */
export function show(last, came) {
  const waiting = outbox.entries(ROOM)
  const kept = new Set(waiting.map((entry) => entry.client_id))
  for (const line of lines()) {
    const id = line.dataset.client ?? ""
    const seq = acknowledged.get(id)
    if (kept.has(id) || (seq && !came(seq))) continue
    acknowledged.delete(id)
    line.remove()
  }
  for (const entry of waiting) state(find(entry.client_id) ?? add(entry), entry)
  let above = last
  for (const line of lines()) {
    line.classList.toggle("cont", !!above && above.dataset.date === line.dataset.date && together(above, line))
    above = line
  }
}

const lines = () => /** @type {HTMLElement[]} */ ([...list.children])
/** @param {string} id @returns {HTMLElement | null} */
const find = (id) => list.querySelector(`[data-client="${id}"]`)

/** @param {outbox.Entry} entry */
function add(entry) {
  const line = clone("t-message")
  fill(line, { seq: 0, at: new Date(entry.at).toISOString(), by: data.me ?? { id: 0, handle: "", name: "" } })
  line.removeAttribute("id")
  delete line.dataset.seq
  line.dataset.client = entry.client_id
  line.classList.add("waiting")
  const body = within(line, ".body")
  body.classList.add("raw")
  body.textContent = entry.body
  line.append(clone("t-fate"))
  within(line, "[data-do=back]").hidden = !document.getElementById("composer") // who may not write has no box for it
  list.append(line)
  return line
}

/** @param {HTMLElement} line @param {outbox.Entry} entry */
function state(line, entry) {
  const failed = entry.failed !== undefined
  line.classList.toggle("failed", failed)
  within(line, ".fate span").textContent = failed
    ? [t("failed", { why: entry.failed ?? "" }), entry.hint].filter(Boolean).join(" ")
    : t(outbox.isSending(entry.client_id) ? "sending" : "pending")
}

/** @param {(entry: outbox.Entry) => void} back puts the words of a refused message back where they can be changed */
export function start(back) {
  list.addEventListener("click", (event) => {
    const pressed = /** @type {HTMLElement} */ (event.target).closest("button")
    const id = pressed?.closest("li")?.dataset.client
    if (!pressed || !id) return
    const entry = outbox.entries(ROOM).find((one) => one.client_id === id)
    if (pressed.dataset.do === "again") outbox.again(id)
    else {
      outbox.remove(id)
      if (pressed.dataset.do === "back" && entry) back(entry)
    }
  })
}

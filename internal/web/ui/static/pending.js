// One's own lines that are on their way: shown below the history, or a thread, from the outbox until the room has them.

import { clone, data, t, within } from "./page.js"
import { fill, together } from "./line.js"
import * as outbox from "./outbox.js"

const ROOM = data.room

/** What waits below a list. @param {HTMLElement} list @param {(entry: outbox.Entry) => boolean} belongs which of the room's entries are shown there */
export function waiting(list, belongs) {
  /** Sent and acknowledged, but the line itself has not come yet: client id -> seq. @type {Map<string, number>} */
  const acknowledged = new Map()
  /** @type {(entry: outbox.Entry) => void} */
  let back = () => {}
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
    body.textContent = [entry.body, ...(entry.files ?? []).map((one) => "📎 " + one.name)].filter(Boolean).join("\n")
    line.append(clone("t-fate"))
    within(line, "[data-do=back]").hidden = !document.getElementById("composer") // who may not write has no box for it
    list.append(line)
    return line
  }

  list.addEventListener("click", (event) => {
    const pressed = /** @type {HTMLElement} */ (event.target).closest("button")
    const id = pressed?.closest("li")?.dataset.client
    if (!pressed || !id) return
    const entry = outbox.entries(ROOM).find((one) => one.client_id === id)
    if (pressed.dataset.do === "again") outbox.again(id)
    else {
      const goesBack = pressed.dataset.do === "back"
      if (goesBack) outbox.remove(id, true)
      else outbox.discard(id)
      if (goesBack && entry) back(entry)
    }
  })

  return {
    /** The server has taken a message; its line stays here until it has come. @param {string} id @param {number} seq */
    acknowledge: (id, seq) => { acknowledged.set(id, seq) },
    /** Whether something is on its way, and was not refused. */
    any: () => !!list.querySelector("li:not(.failed)"),
    /** @param {(entry: outbox.Entry) => void} put puts the words of a refused message back where they can be changed */
    onBack: (put) => { back = put },
    /** Draws what waits. @param {HTMLElement | undefined} last the line above @param {(seq: number) => boolean} came whether the
     * line of an acknowledged message has come */
    show: (last, came) => {
      const now = outbox.entries(ROOM).filter(belongs)
      const kept = new Set(now.map((entry) => entry.client_id))
      for (const line of lines()) {
        const id = line.dataset.client ?? ""
        const seq = acknowledged.get(id)
        if (kept.has(id) || (seq && !came(seq))) continue
        acknowledged.delete(id)
        line.remove()
      }
      for (const entry of now) state(find(entry.client_id) ?? add(entry), entry)
      let above = last
      for (const line of lines()) {
        line.classList.toggle("cont", !!above && above.dataset.date === line.dataset.date && together(above, line))
        above = line
      }
    },
  }
}

/** @param {HTMLElement} line @param {outbox.Entry} entry */
function state(line, entry) {
  const failed = entry.failed !== undefined
  line.classList.toggle("failed", failed)
  within(line, ".fate span").textContent = failed
    ? [t("failed", { why: entry.failed ?? "" }), entry.hint].filter(Boolean).join(" ")
    : entry.files && outbox.come(entry) < 1 ? t("files.sending", { n: Math.floor(outbox.come(entry) * 100) })
    : t(outbox.isSending(entry.client_id) ? "sending" : "pending")
}

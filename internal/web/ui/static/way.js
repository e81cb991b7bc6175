// A way back to before an alert, under the message in which the house tells of it. The forms are plain ones; alert.js sends them.

import { clone, data, moment, t, within } from "./page.js"
import { fillList } from "./alert.js"

/** @typedef {import("./page.js").Way} Way */

/** Shows under a message where its way back is. Nothing is made anew, so that the focus stays where it is. @param {HTMLElement} line @param {Way} way */
export function show(line, way) {
  if (!data.may?.answer) return
  let box = /** @type {HTMLElement | null} */ (line.querySelector(".way"))
  if (!box) {
    box = clone("t-way")
    within(line, ".edited").after(box)
  }
  box.dataset.state = way.state
  const pill = within(box, ".pill")
  const state = t("way.state." + way.state)
  if (pill.textContent !== state) pill.textContent = state // else it would be read out again
  const undo = ["undo", "undoing", "undone"].includes(way.state)
  within(box, ".who-said").textContent = t("way.said." + (undo ? "undo" : way.mode || "plan"), { name: way.by.name })
  const time = /** @type {HTMLTimeElement} */ (within(box, ".said time"))
  time.dateTime = way.at
  time.textContent = moment(new Date(way.at))
  const form = /** @type {HTMLFormElement} */ (within(box, "form"))
  form.action = `/room/${data.room}/messages/${line.dataset.seq}/back`
  for (const wish of ["beside", "merge"]) within(form, `[value=${wish}]`).hidden = !way.offers.includes(wish)
  for (const wish of ["changed", "replace", "undo"]) {
    const details = /** @type {HTMLDetailsElement} */ (within(form, `[data-wish=${wish}]`))
    details.hidden = !way.offers.includes(wish)
    if (details.hidden) details.open = false
  }
  fillList(within(form, "[data-wish=replace] .acts"), way.tables.map((table) => t(table.there ? "way.loses" : "way.back", { ...words(table) })))
  fillList(within(form, "[data-wish=changed] .acts"), way.tables.filter((table) => table.altered > 0).map((table) => t("way.overwrites", { ...words(table) })))
}

/** @param {Way["tables"][0]} table */
const words = (table) => ({ table: table.name, newer: table.newer, altered: table.altered })

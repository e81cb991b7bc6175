// The tray of a composer: the files that go with the next message, from the picker, a drop or the clipboard.

import { Refusal, clone, t, within } from "./page.js"
import { weight } from "./files.js"
import { hint } from "./history.js"
import { carry } from "./outbox.js"
import * as uploads from "./uploads.js"

const MOST = 20 // as chat.MostFiles

/** @typedef {{upload: string, alt: string, name: string, size: number}} Chosen */

/** @param {HTMLFormElement} form @param {() => string} place the key of the composer's draft @param {(why: string) => void} complain @param {() => void} changed */
export function make(form, place, complain, changed) {
  const list = within(form, ".tray")
  const pick = /** @type {HTMLInputElement} */ (within(form, ".pick"))
  const clip = within(form, ".clip")
  const box = /** @type {HTMLTextAreaElement} */ (within(form, "textarea"))
  /** @type {uploads.Kept[]} */
  let files = []
  let turn = 0

  /** @param {string} id @returns {HTMLElement | null} */
  const item = (id) => list.querySelector(`[data-file="${id}"]`)

  /** @param {uploads.Kept} one */
  function draw(one) {
    const line = clone("t-tray")
    line.dataset.file = one.id
    within(line, "bdi").textContent = one.name
    within(line, "small").textContent = weight(one.size)
    const alt = /** @type {HTMLInputElement} */ (within(line, ".alt"))
    alt.hidden = !one.type.startsWith("image/")
    alt.value = one.alt
    alt.addEventListener("input", () => {
      one.alt = alt.value
      uploads.change(one.id, { alt: alt.value })
    })
    alt.addEventListener("keydown", (event) => { // the message is sent from its own box
      if (event.key !== "Enter" || event.isComposing) return
      event.preventDefault()
      box.focus()
    })
    const remove = within(line, ".remove")
    remove.ariaLabel = `${remove.title} ${one.name}`
    remove.addEventListener("click", () => {
      files = files.filter((other) => other !== one)
      uploads.forget(one.id, true)
      line.remove()
      hint(t("files.removed", { name: one.name }))
      arrange()
      box.focus()
    })
    within(line, ".again").addEventListener("click", () => uploads.send(one.id))
    list.append(line)
    const now = uploads.state(one.id)
    if (now) show(now)
    else within(line, ".state").textContent = t("files.waiting")
  }

  /** @param {uploads.State} now */
  function show(now) {
    const line = item(now.id)
    if (!line) return
    const bar = /** @type {HTMLProgressElement} */ (within(line, "progress"))
    bar.value = now.size ? now.sent / now.size : 1
    bar.ariaLabel = now.name
    bar.hidden = now.done || now.failed !== undefined
    const was = line.className
    line.className = now.failed !== undefined ? "bad" : now.done ? "done" : ""
    within(line, ".state").textContent = now.failed ?? (now.done ? t("files.done") : Math.floor(bar.value * 100) + " %")
    within(line, ".again").hidden = now.failed === undefined
    if (line.className === was) return
    if (now.done) hint(t("files.ready", { name: now.name }))
    else if (now.failed !== undefined) hint(t("files.failed", { name: now.name, why: now.failed }))
  }

  function arrange() {
    list.hidden = files.length === 0
    form.classList.toggle("laden", files.length > 0)
    changed()
  }

  let adding = Promise.resolve()
  /** One after the other, so that they stand in the order in which they were chosen. @param {Iterable<File>} more */
  const add = (more) => { adding = adding.then(() => addAll(more)) }

  /** @param {Iterable<File>} more */
  async function addAll(more) {
    for (const file of more) {
      if (files.length >= MOST) {
        complain(t("files.many", { n: MOST }))
        break
      }
      try {
        await file.slice(0, 1).arrayBuffer() // a folder cannot be read, nor a file that is gone
        const one = await uploads.add(place(), file)
        files.push(one)
        draw(one)
      } catch (error) {
        complain(error instanceof Refusal ? error.message : t("files.failed", { name: file.name, why: String(error) }))
      }
    }
    arrange()
  }

  /** Brings what waits at this place. */
  async function fresh() {
    const mine = ++turn
    files = []
    list.replaceChildren()
    arrange()
    const found = await uploads.at(place())
    if (mine !== turn || found.length === 0) return
    files = found
    for (const one of files) {
      draw(one)
      uploads.send(one.id)
    }
    arrange()
  }

  box.required = false // files may stand alone
  clip.hidden = false
  clip.addEventListener("click", () => pick.click())
  pick.addEventListener("change", () => {
    add([...pick.files ?? []])
    pick.value = ""
    box.focus()
  })
  box.addEventListener("paste", (event) => {
    const pasted = [...event.clipboardData?.files ?? []]
    if (pasted.length === 0 || event.clipboardData?.types.includes("text/plain")) return // a table copied from a sheet is text and a picture
    event.preventDefault()
    add(pasted)
  })
  uploads.onChange(show)
  trays.set(form, add)
  fresh()

  carry()

  return {
    fresh,
    any: () => files.length > 0,
    /** The files of a message that is sent now; the tray is empty then, and they are the outbox's. @returns {Chosen[]} */
    take() {
      const taken = files.map((one) => ({ upload: one.id, alt: one.alt, name: one.name, size: one.size }))
      for (const one of files) uploads.move(one.id, "")
      files = []
      list.replaceChildren()
      arrange()
      return taken
    },
    /** Files of a message that was not sent come back. @param {Chosen[]} chosen */
    async back(chosen) {
      for (const one of chosen) await uploads.move(one.upload, place())
      await fresh()
    },
  }
}

/** The trays of the page, by their forms. @type {Map<HTMLFormElement, (files: Iterable<File>) => void>} */
const trays = new Map()

// What is dropped on the page goes into a tray: the thread's over the thread.
const veil = document.getElementById("drop")
let inside = 0
/** @param {DragEvent} event */
const bears = (event) => veil && event.dataTransfer?.types.includes("Files")
/** @param {number} n */
function hover(n) {
  inside = Math.max(0, n)
  if (veil) veil.hidden = inside === 0
}
addEventListener("dragenter", (event) => {
  if (!bears(event)) return
  event.preventDefault()
  hover(inside + 1)
})
addEventListener("dragover", (event) => { if (bears(event)) event.preventDefault() })
addEventListener("dragleave", (event) => { if (bears(event)) hover(inside - 1) })
addEventListener("drop", (event) => {
  if (!bears(event)) return
  event.preventDefault()
  hover(0)
  const over = /** @type {Element} */ (event.target).closest("#thread") ? "thread-composer" : "composer"
  for (const [form, add] of trays) if (form.id === over) add([...event.dataTransfer?.files ?? []])
})

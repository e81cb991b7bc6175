// What can be done with one message. There is one toolbar, which moves to the line under the pointer, the finger or
// the keyboard's focus, so that a long history is not a thousand stops for the Tab key.

import { Refusal, api, byId, clone, data, t, within } from "./page.js"
import * as composer from "./composer.js"
import * as history from "./history.js"
import { mine, seqOf } from "./line.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import * as reactions from "./reactions.js"
import * as thread from "./thread.js"

const ROOM = data.room
const SURE = 4000
const UNDO = 15 * 60 * 1000 // as chat.UndoFor
const lists = [byId("lines"), byId("thread-lines")]
const bar = clone("t-actions")
/** What I have saved of this room. */
const saved = new Set(data.saved ?? [])
/** @type {HTMLElement | null} */
let line = null
let disarm = 0
/** @type {(why: string) => void} */
let complain = () => {}

/** @param {string} name */
const button = (name) => within(bar, `[data-do=${name}]`)

/** @param {HTMLElement | null} next */
function move(next) {
  if (next === line) return
  line?.classList.remove("on")
  calm()
  line = next
  if (!line) {
    bar.remove()
    return
  }
  const gone = line.classList.contains("gone")
  const own = mine(line)
  button("reply").hidden = inThread(line) || !data.may?.post
  button("quote").hidden = gone || !data.may?.post
  button("react").hidden = gone || !data.may?.post
  button("edit").hidden = gone || !own || !data.may?.post
  button("delete").hidden = gone || !(own || data.may?.deleteAny)
  toggles()
  line.classList.add("on")
  line.append(bar)
}

/** Whether the line is pinned, or saved, and what pressing does. */
function toggles() {
  if (!line) return
  const gone = line.classList.contains("gone")
  const pinned = !!line.querySelector(".pinned"), mine = saved.has(seqOf(line))
  for (const [one, on, says] of /** @type {const} */ ([[button("pin"), pinned, t(pinned ? "unpin" : "pin")], [button("save"), mine, t(mine ? "unsave" : "save")]])) {
    one.ariaPressed = String(on)
    one.ariaLabel = says
    one.title = `${says} (${one.dataset.key})`
  }
  button("pin").hidden = gone || !data.may?.pin
  button("save").hidden = gone && !mine
}

/** Pins or saves a message, or no more. @param {HTMLElement} of @param {string} what @param {boolean} on */
async function keep(of, what, on) {
  try {
    await api(on ? "PUT" : "DELETE", `/rooms/${ROOM}/messages/${seqOf(of)}/${what}`)
  } catch (error) {
    complain(error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error))
  }
}

function calm() {
  clearTimeout(disarm)
  const remove = button("delete")
  remove.classList.remove("armed")
  remove.ariaLabel = remove.title
  within(remove, "span").hidden = true
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
const lineOf = (target) => (target instanceof Element ? target.closest("#lines > .msg, #thread-lines > .msg") : null)

/** @param {HTMLElement} of */
const linkTo = (of) => `${location.origin}/room/${ROOM}?${inThread(of) ? `thread=${thread.shown()}&` : ""}at=${seqOf(of)}`

/** @param {HTMLElement} one */
const inThread = (one) => one.parentElement?.id === "thread-lines"

/** @param {HTMLElement} pressed @param {HTMLElement} of */
async function act(pressed, of) {
  const seq = seqOf(of)
  switch (pressed.dataset.do) {
    case "react":
      reactions.choice(of, pressed)
      break
    case "reply":
      move(null)
      thread.answer(of)
      break
    case "quote": {
      move(null)
      const name = within(of, ".who").textContent ?? ""
      const time = within(of, "time").textContent ?? ""
      try {
        const said = (await history.bodyOf(seq)).split("\n").map((one) => "> " + one).join("\n")
        const text = `> [${name.replace(/[[\]\\]/g, "")}, ${time}](${linkTo(of)}):\n${said}\n\n`
        if (inThread(of)) thread.quote(text)
        else composer.quote(text)
      } catch (error) {
        complain(error instanceof Refusal ? error.message : String(error))
      }
      break
    }
    case "pin":
      await keep(of, "pin", !of.querySelector(".pinned"))
      break
    case "save":
      await keep(of, "saved", !saved.has(seq))
      break
    case "edit":
      move(null)
      if (inThread(of) && seq !== thread.shown()) thread.edit(seq)
      else composer.edit(seq)
      break
    case "link": {
      const link = linkTo(of)
      try {
        await navigator.clipboard.writeText(link)
        pressed.title = t("copied")
        pressed.classList.add("done")
        setTimeout(() => pressed.classList.remove("done"), 1200)
      } catch {
        location.assign(link) // not allowed to copy: the address bar has it then
      }
      break
    }
    case "delete":
      if (!pressed.classList.contains("armed")) { // the second press means it
        pressed.classList.add("armed")
        const sure = within(pressed, "span")
        sure.hidden = false
        pressed.ariaLabel = sure.textContent // who hears the button hears the question that the others see
        clearTimeout(disarm)
        disarm = setTimeout(calm, SURE)
        return
      }
      calm()
      of.tabIndex = -1
      of.focus({ preventScroll: true })
      try {
        await live.ask({ do: "delete", room: ROOM, seq, client_id: outbox.uuid() })
        offerUndo(of)
      } catch (error) {
        complain(error instanceof Refusal ? error.message : String(error))
      }
  }
}

/** Lets who deleted a message bring it back for a while. @param {HTMLElement} of */
function offerUndo(of) {
  if (!data.may?.post) return
  const body = within(of, ".body")
  const place = () => {
    if (!of.classList.contains("gone") || of.querySelector(".undo")) return
    const undo = clone("t-undo")
    body.append(undo)
    undo.addEventListener("click", async () => {
      of.focus({ preventScroll: true })
      try {
        await api("POST", `/rooms/${ROOM}/messages/${seqOf(of)}/undelete`)
      } catch (error) {
        complain(error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error))
      }
    })
    setTimeout(() => undo.remove(), UNDO)
  }
  if (of.classList.contains("gone")) return place()
  const watch = new MutationObserver(() => { // the event that buries the line comes after the answer
    if (!of.classList.contains("gone")) return
    watch.disconnect()
    place()
  })
  watch.observe(of, { attributeFilter: ["class"] })
}

/** @param {(why: string) => void} say */
export function start(say) {
  complain = say
  live.on("saved", (frame) => {
    if (frame.room !== ROOM) return
    if (frame.on) saved.add(frame.seq)
    else saved.delete(frame.seq)
    toggles()
  })
  history.onEvent((event) => { if (event.kind === "pin") toggles() })
  document.addEventListener("pointerdown", (event) => { if (!lineOf(event.target)) move(null) })
  for (const list of lists) {
    list.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse") move(lineOf(event.target)) })
    list.addEventListener("pointerleave", () => { if (!list.contains(document.activeElement)) move(null) })
    list.addEventListener("focusin", (event) => move(lineOf(event.target)))
    list.addEventListener("focusout", (event) => {
      if (!list.contains(/** @type {Node | null} */ (event.relatedTarget)) && !list.matches(":hover")) move(null)
    })
    list.addEventListener("click", (event) => {
      const target = /** @type {Element} */ (event.target)
      const pressed = target.closest("button")
      const of = lineOf(target)
      const link = /** @type {HTMLAnchorElement | null} */ (target.closest(".body a"))
      const key = /** @type {MouseEvent} */ (event)
      if (link && !(key.ctrlKey || key.metaKey || key.shiftKey) && link.origin === location.origin && link.pathname.startsWith("/room/")) {
        event.preventDefault() // a place in this house opens here
        history.jump(link.href)
        return
      }
      if (pressed && of && bar.contains(pressed)) act(pressed, of)
      else if (of && !target.closest("a")) move(of) // a finger has no hover
    })
    list.addEventListener("keydown", (event) => {
      const of = lineOf(event.target)
      if (!of) return
      if (event.key === "Escape" && event.target !== of) return of.focus()
      if (event.target !== of) return
      const pressed = event.ctrlKey || event.metaKey || event.altKey ? null : bar.querySelector(`[data-key="${CSS.escape(event.key)}"]:not([hidden])`)
      if (pressed instanceof HTMLElement && line === of) {
        event.preventDefault()
        act(pressed, of)
        return
      }
      /** @type {Element | null | undefined} */
      let next
      if (event.key === "ArrowUp") for (next = of.previousElementSibling; next && !next.matches(".msg");) next = next.previousElementSibling
      else if (event.key === "ArrowDown") for (next = of.nextElementSibling; next && !next.matches(".msg");) next = next.nextElementSibling
      else if (event.key === "Home") next = list.querySelector(":scope > .msg")
      else if (event.key === "End") next = [...list.querySelectorAll(":scope > .msg")].at(-1)
      else return
      event.preventDefault()
      if (!(next instanceof HTMLElement)) return
      if (inThread(next)) thread.rove(next)
      else history.rove(next)
      next.focus()
    })
  }
}

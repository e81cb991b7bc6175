// The composer: a text box that grows, keeps its draft, never sends while an input method composes, completes names.
// The room has one, and a thread.

import { Refusal, clone, data, paint, t, within } from "./page.js"
import * as drafts from "./drafts.js"
import * as history from "./history.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import * as panel from "./panel.js"

const ROOM = data.room
const LIMIT = data.limit ?? 0
const TYPING = 3000 // between two "I am typing"
const encoder = new TextEncoder()
const touch = matchMedia("(pointer: coarse) and (hover: none)")

/** @type {(why: string) => void} */
let complain = () => {}

/** @typedef {import("./tray.js").Chosen} Chosen */

/** Something that can be completed: what goes into the box, and how it is shown. @typedef {{text: string, sign: HTMLElement, name: string, note: string}} Offer */

/** @param {string} [text] */
function sign(text = "") {
  const one = document.createElement("span")
  one.className = "emoji"
  one.ariaHidden = "true"
  one.textContent = text
  return one
}

/** @param {string} wanted @returns {Promise<Offer[]>} */
async function people(wanted) {
  const all = await panel.people()
  const found = all
    .filter((one) => one.id !== data.me?.id && (one.handle.toLowerCase().startsWith(wanted) || one.name.toLowerCase().includes(wanted)))
    .slice(0, 6)
    .map((person) => {
      const face = within(clone("t-member"), ".face")
      paint(face, person)
      return { text: person.handle, sign: face, name: person.name, note: "@" + person.handle }
    })
  const n = panel.others()
  const calls = data.me?.role === "guest" || n.all < 2 ? [] : [
    { text: "room", name: t("call.room", { n: n.all }), n: n.all }, { text: "here", name: t("call.here", { n: n.here }), n: n.here }]
  return [...found, ...calls.filter((one) => one.n > 0 && one.text.startsWith(wanted)).map((one) => ({ ...one, sign: sign("📣"), note: "@" + one.text }))]
}

/** @param {string} wanted @returns {Promise<Offer[]>} */
async function emoji(wanted) {
  const names = await import("./emoji.js")
  return names.find(wanted, 6).map((one) => ({ text: one.emoji, sign: sign(one.emoji), name: ":" + names.called(one, data.locale) + ":", note: "" }))
}

/** @param {string} wanted @returns {Promise<Offer[]>} */
const commands = async (wanted) => [...(data.commands ?? []), { name: "help", other: "說明", use: "" }]
  .filter((one) => one.name.startsWith(wanted) || one.other.startsWith(wanted))
  .map((one) => ({ text: one.name, sign: sign("/"), name: one.name, note: one.use }))

/** What is completed: after which characters, how many of them go, and what with. */
const offers = [
  { after: /(?:^|[^\p{L}\p{N}_@])@([\p{L}\p{N}_.-]{0,32})$/u, takes: 0, list: people },
  { after: /^[/／](\p{L}{0,20})$/u, takes: 0, list: commands },
  { after: /(?:^|[^\p{L}\p{N}_:])[:：]((?:[\p{L}\p{N}_+-]{2,24}|\p{Script=Han}))$/u, takes: 1, list: emoji },
]

/** What a composer writes to: the thread, 0 for the room itself, who takes its words, with the id that they bear and files, and the message that the arrow key edits.
 * @typedef {{thread: () => number, send: (text: string, id: string, files: Chosen[]) => void, last: () => number, room: boolean}} Place */

/** The composer of a form. @param {HTMLFormElement} form @param {Place} place */
export function make(form, place) {
  const box = /** @type {HTMLTextAreaElement} */ (within(form, "textarea"))
  const mode = within(form, ".mode")
  const limit = within(form, ".limit")
  const list = within(form, ".suggest")
  const told = within(/** @type {HTMLElement} */ (form.parentElement), ".told")
  const change = within(mode, "span").textContent // what the mode says while a message is edited

  /** What was in the box before a command came into it from elsewhere. @type {string | null} */
  let aside = null
  /** The command that was given last, while it is not known what became of it. */
  let given = { line: "", id: "" }
  /** The message being edited, and what its box held before. @type {{seq: number, id: string, was: string, body: string} | null} */
  let editing = null
  let composed = 0 // when an input method last ended
  let typed = 0
  let composing = false
  let taken = false // the Enter that is down has been acted upon

  function grow() {
    if (CSS.supports("field-sizing", "content")) return
    box.style.height = "auto"
    box.style.height = box.scrollHeight + 2 + "px"
  }

  function changed() {
    grow()
    if (!editing && aside === null) drafts.set(place.thread(), box.value)
    measure()
    suggest()
  }

  /** How much room is left, in characters of the kind that this message is made of: the limit is one of bytes. */
  function measure() {
    const text = box.value.trim()
    const bytes = encoder.encode(text).length
    const left = LIMIT - bytes
    limit.classList.toggle("over", LIMIT > 0 && left < 0)
    if (!LIMIT || left > LIMIT / 10) {
      limit.textContent = ""
      return true
    }
    const each = bytes / Math.max(1, text.length)
    limit.textContent = left >= 0 ? t("left", { n: Math.floor(left / each) }) : t("over", { n: Math.ceil(-left / each) })
    return left >= 0
  }

  /** @param {string} text */
  function write(text) {
    box.value = text
    box.setSelectionRange(text.length, text.length)
    changed()
  }

  /** Puts words and files back where they can be changed; what is already there stays, below them. @param {string} text @param {Chosen[]} [chosen] */
  function back(text, chosen) {
    leave()
    write([text, box.value].filter((one) => one.trim()).join("\n\n"))
    if (chosen?.length) tray.then((one) => one.back(chosen))
    box.focus()
  }

  /** @param {number} seq */
  async function edit(seq) {
    if (!seq) return
    if (aside !== null) leave()
    try {
      const body = await history.bodyOf(seq)
      editing = { seq, id: outbox.uuid(), was: editing ? editing.was : box.value, body }
      within(mode, "span").textContent = change
      mode.hidden = false
      write(body)
      box.focus()
    } catch (error) {
      complain(error instanceof Refusal ? error.message : String(error))
    }
  }

  /** Ends editing, or a command from elsewhere, and brings back the draft. */
  function leave() {
    if (!editing && aside === null) return
    const was = editing?.was ?? aside ?? ""
    editing = aside = null
    mode.hidden = true
    write(was)
  }

  /** Begins a command; what is in the box comes back after it. @param {string} text */
  function begin(text) {
    leave()
    taken = true // the Enter that chose it may still be on its way
    if (box.value.trim()) {
      aside = box.value
      within(mode, "span").textContent = t("aside")
      mode.hidden = false
    }
    write(text)
  }

  /** Says something to who writes here, and to nobody else. @param {string} text @param {boolean} [bad] */
  function tell(text, bad = false) {
    told.classList.toggle("bad", bad)
    within(told, "p").textContent = text
    told.hidden = false
  }

  /** Has a command done. The same line, tried again after an answer that did not come, is the same command. @param {string} line */
  async function command(line) {
    if (given.line !== line) given = { line, id: outbox.uuid() }
    try {
      const answer = await outbox.command(ROOM, line, given.id)
      given = { line: "", id: "" }
      if (answer.left) return location.assign("/")
      tell(answer.message)
    } catch (error) {
      const why = error instanceof Refusal ? [error.message, error.hint].filter(Boolean).join(" ") : String(error)
      if (!(error instanceof Refusal) || !error.passing) given = { line: "", id: "" }
      if (box.value.trim() || editing) return tell(t("not_done", { line, why }), true)
      tell(why, true)
      write(line)
    }
  }

  async function submit() {
    let text = box.value.trim()
    if (!text && (editing || aside !== null || !files?.any()) || !measure()) return
    if (!editing) {
      const order = outbox.isCommand(box.value)
      if (!order && outbox.isCommand(text)) text = " " + text // a blank before it says it
      if (aside === null) {
        const id = drafts.take(place.thread())
        if (!order) place.send(text, id, files?.take() ?? [])
        write("")
      } else {
        if (!order) place.send(text, outbox.uuid(), files?.take() ?? [])
        leave()
      }
      if (order) command(text)
      typed = 0 // with the message the others forget that I was typing
      return
    }
    const edited = editing
    if (text === edited.body.trim()) return leave()
    if (!outbox.isCommand(box.value) && outbox.isCommand(text)) text = " " + text
    const button = within(form, ".send")
    button.setAttribute("aria-busy", "true")
    try { // the same words keep the same client id, however often they are tried
      await live.ask({ do: "edit", room: ROOM, seq: edited.seq, client_id: edited.id, body: text })
      if (editing === edited) leave()
    } catch (error) {
      if (!(error instanceof Refusal) || !error.passing) edited.id = outbox.uuid()
      complain(error instanceof Refusal ? [error.message, error.hint].filter(Boolean).join(" ") : String(error))
    } finally {
      button.removeAttribute("aria-busy")
    }
  }

  /** Whether this key belongs to an input method: the one that ends a composition does too, and Safari says so only by
   * its old code, or just after the composition's end. @param {KeyboardEvent} event */
  function methodical(event) {
    return event.isComposing || composing || event.keyCode === 229 || event.timeStamp - composed < 60
  }

  /** @param {KeyboardEvent} event */
  function keydown(event) {
    if (methodical(event)) return
    if (choosing(event)) return
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      if (touch.matches && !event.ctrlKey && !event.metaKey) return // the button sends
      event.preventDefault()
      taken = true
      submit()
    } else if (event.key === "Escape" && (editing || aside !== null)) {
      event.preventDefault()
      leave()
    } else if (event.key === "Escape" && place.room && !box.value) {
      event.preventDefault()
      history.markRead()
    } else if (event.key === "ArrowUp" && !box.value && !editing && aside === null) {
      const seq = place.last()
      if (!seq) return
      event.preventDefault()
      edit(seq)
    }
  }

  // ---- completing names ----

  /** @type {Offer[]} */
  let offered = []
  let chosen = 0
  let from = -1

  async function suggest() {
    const before = box.value.slice(0, box.selectionStart)
    const found = offers.find((one) => one.after.test(before))
    if (!found || box.selectionStart !== box.selectionEnd) return close()
    const wanted = found.after.exec(before)?.[1] ?? ""
    const list_ = await found.list(wanted.toLowerCase())
    if (box.value.slice(0, box.selectionStart) !== before) return // typed on meanwhile
    offered = list_
    if (offered.length === 0) return close()
    from = before.length - wanted.length - found.takes
    chosen = 0
    list.replaceChildren(...offered.map((offer, i) => {
      const item = document.createElement("li")
      item.id = list.id + "-" + i
      item.setAttribute("role", "option")
      const name = document.createElement("span")
      name.textContent = offer.name
      const note = document.createElement("small")
      note.textContent = offer.note
      item.append(offer.sign, name, note)
      item.addEventListener("pointerdown", (event) => {
        event.preventDefault() // the box keeps the focus
        take(i)
      })
      return item
    }))
    list.hidden = false
    choose(0)
  }

  function close() {
    list.hidden = true
    offered = []
    box.removeAttribute("aria-activedescendant")
  }

  /** @param {number} i */
  function choose(i) {
    chosen = (i + offered.length) % offered.length
    for (const [at, item] of [...list.children].entries()) item.setAttribute("aria-selected", String(at === chosen))
    box.setAttribute("aria-activedescendant", list.id + "-" + chosen)
  }

  /** @param {number} i */
  function take(i) {
    const offer = offered[i]
    if (!offer) return
    box.setRangeText(offer.text + " ", from, box.selectionStart, "end")
    close()
    changed()
    box.focus()
  }

  /** Whether the list of names took the key. @param {KeyboardEvent} event */
  function choosing(event) {
    if (offered.length === 0) return false
    if (event.key === "ArrowDown") choose(chosen + 1)
    else if (event.key === "ArrowUp") choose(chosen - 1)
    else if (event.key === "Tab" || (event.key === "Enter" && !event.shiftKey)) take(chosen)
    else if (event.key === "Escape") close()
    else return false
    event.preventDefault()
    taken = event.key === "Enter"
    return true
  }

  /** Brings the draft of the place. */
  function fresh() {
    if (box.value !== box.defaultValue) changed() // somebody was faster than this script
    else box.value = drafts.get(place.thread())
    grow()
    measure()
  }

  box.setAttribute("aria-autocomplete", "list")
  box.setAttribute("aria-controls", list.id)
  /** The files that go with the next message. @type {ReturnType<typeof import("./tray.js").make> | null} */
  let files = null
  const tray = import("./tray.js").then((module) => files = module.make(form, () => `howdah.draft.${data.me?.id ?? 0}.${ROOM}.${place.thread()}`, (why) => complain(why), measure))
  fresh()
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    submit()
    box.focus()
  })
  box.addEventListener("keydown", (event) => { taken = false; keydown(event) })
  // Screen keyboards and remote ones may deliver the character apart from the key that was taken.
  box.addEventListener("keypress", (event) => { if (taken && event.key === "Enter") event.preventDefault() })
  box.addEventListener("compositionstart", () => { composing = true })
  box.addEventListener("compositionend", (event) => {
    composing = false
    composed = event.timeStamp
  })
  box.addEventListener("input", () => {
    changed()
    if (box.value.trim() && !editing && place.room && Date.now() - typed > TYPING) {
      typed = Date.now()
      live.send({ do: "typing", room: ROOM })
    }
  })
  box.addEventListener("blur", close)
  within(form, ".cancel").addEventListener("click", () => { leave(); box.focus() })
  within(told, "button").addEventListener("click", () => {
    told.hidden = true
    box.focus()
  })
  box.addEventListener("begin", (event) => begin(/** @type {CustomEvent} */ (event).detail))
  drafts.onChange((thread, body) => { // written elsewhere
    if (thread !== place.thread() || composing) return
    if (editing) editing.was = body
    else if (aside !== null) aside = body
    else if (box.value !== body) {
      box.value = body
      grow()
      measure()
    }
  })
  return {
    edit, back, tell,
    /** Puts a quotation above what is written. @param {string} text */
    quote: (text) => {
      leave()
      write(text + box.value)
      box.focus()
      box.scrollTop = box.scrollHeight
    },
    focus: () => box.focus({ preventScroll: true }),
    /** Another place: what is written here is that one's draft. */
    /** @param {() => void} change makes it the other place */
    turn: (change) => {
      leave()
      change()
      box.value = ""
      fresh()
      files?.fresh()
    },
  }
}

/** The room's own. @type {ReturnType<typeof make> | null} */
let main = null

/** Puts a message that was not sent back where it can be changed; what is already there stays, below it. @param {outbox.Entry} entry */
export const back = (entry) => main?.back(entry.body, entry.files)
/** @param {number} seq */
export const edit = (seq) => main?.edit(seq)
export const focus = () => main?.focus()
/** @param {string} text */
export const quote = (text) => main?.quote(text)

/** @param {(why: string) => void} say how to tell the person that something did not work */
export function start(say) {
  complain = say
  // On phones whose page keeps its height under the keyboard, the room takes what is seen.
  const seen = window.visualViewport
  seen?.addEventListener("resize", () => {
    const covered = innerHeight - seen.height > 80 && seen.scale === 1
    document.body.style.height = covered ? seen.height + "px" : ""
    if (covered) scrollTo(0, 0)
  })
  const form = /** @type {HTMLFormElement | null} */ (document.getElementById("composer"))
  if (!form) return
  main = make(form, {
    room: true,
    thread: () => 0,
    send: (text, id, files) => {
      outbox.post(ROOM, text, id, 0, false, files)
      history.newest().catch(() => {}) // offline in the past: the line waits in the outbox and shows up there
    },
    last: history.lastOfMine,
  })
  outbox.onDone((entry, told) => {
    if (told.left && entry.room === ROOM) return location.assign("/")
    main?.tell([entry.body, told.message].join("\n"))
  })
  if (!touch.matches && !data.at && !data.thread) main.focus()
}

// What one line of the history looks like: a message, or something that happened in the room.

import * as alert from "./alert.js"
import * as cards from "./card.js"
import { callsHere, callsRoom } from "./calls.js"
import * as files from "./files.js"
import * as reactions from "./reactions.js"
import * as way from "./way.js"
import { clock, clone, data, dateKey, moment as inList, paint, t, whole, within } from "./page.js"

/** @typedef {import("./page.js").Message} Message */
/** @typedef {import("./page.js").RoomEvent} RoomEvent */

const TOGETHER = 5 * 60 * 1000 // see Lines in view.go

// The one place where text becomes markup: html that the server rendered from Markdown.
/** @type {{createHTML: (html: string) => any}} */
const markup = /** @type {any} */ (window).trustedTypes?.createPolicy("message", { createHTML: (/** @type {string} */ html) => html }) ??
  { createHTML: (/** @type {string} */ html) => html }

/** Where a message is found; a browser without scripts scrolls to the part after #. @param {number} seq */
export const link = (seq) => `?at=${seq}#m${seq}`

/** @param {HTMLElement} line @param {Message} message */
export function fill(line, message) {
  line.id = "m" + message.seq
  line.dataset.seq = String(message.seq)
  line.dataset.by = String(message.by.id)
  line.classList.toggle("mine", message.by.id === data.me?.id)
  paint(within(line, ".face"), message.by)
  const who = within(line, ".who")
  who.textContent = message.by.name
  who.title = "@" + message.by.handle
  within(line, ".bot").hidden = !message.by.bot
  within(line, ".when").setAttribute("href", link(message.seq))
  stamp(line, new Date(message.at))
  foot(line, message.replies)
  if (message.deleted) return bury(line)
  line.classList.remove("gone")
  within(line, ".body").innerHTML = markup.createHTML(message.html ?? "")
  pointOut(line)
  const edited = within(line, ".edited")
  edited.hidden = !message.edited
  edited.setAttribute("href", `/room/${data.room}/messages/${message.seq}/edits`)
  files.show(line, message.seq, message.files)
  cards.show(line, message.seq, message.cards, message.by.id === data.me?.id)
  if (message.alert) alert.show(line, message.alert)
  if (message.way) way.show(line, message.way)
  reactions.show(line, message.reactions)
  pin(line, message.pinned)
  let answers = /** @type {HTMLAnchorElement | null} */ (line.querySelector(".answers"))
  if (message.thread && !answers) {
    answers = document.createElement("a")
    answers.className = "answers"
    answers.textContent = t("thread.part")
    within(line, ".edited").after(answers)
  }
  if (message.thread && answers) answers.setAttribute("href", "?thread=" + message.thread)
}

/** Who pinned it. @param {HTMLElement} line @param {{by: import("./page.js").Person} | undefined} pinned */
function pin(line, pinned) {
  let there = line.querySelector(".pinned")
  if (!pinned) return there?.remove()
  if (!there) {
    there = clone("t-pinned")
    within(line, ".edited").after(there)
  }
  within(there, "span").textContent = t("pinned", { name: pinned.by.name })
}

/** What was answered to a message; thread.go shows the same. @param {HTMLElement} line @param {{count: number, at: string} | undefined} replies */
export function foot(line, replies) {
  let link = line.querySelector(".replies")
  if (!replies?.count) return link?.remove()
  if (!link) {
    link = clone("t-foot")
    const actions = line.querySelector(".actions")
    line.insertBefore(link, actions?.parentElement === line ? actions : null)
  }
  link.setAttribute("href", "?thread=" + line.dataset.seq)
  within(link, "span").textContent = t("thread.n", { n: replies.count })
  const time = /** @type {HTMLTimeElement} */ (within(link, "time"))
  time.dateTime = replies.at
  time.textContent = inList(new Date(replies.at))
}

/** Makes the mentions of me stand out: the server's markup is the same for everybody. @param {HTMLElement} line */
export function pointOut(line) {
  for (const mention of line.querySelectorAll(".body .mention")) {
    const handle = (mention.textContent ?? "").slice(1).normalize("NFKC").toLowerCase()
    mention.classList.toggle("mine", handle === data.me?.handle || callsRoom.has(handle) || callsHere.has(handle))
  }
}

/** @param {HTMLElement} line */
export function bury(line) {
  line.classList.add("gone")
  within(line, ".body").textContent = t("deleted")
  within(line, ".edited").hidden = true
  pin(line, undefined)
  reactions.show(line, [])
  files.show(line, 0, undefined)
  cards.show(line, 0, undefined, false)
}

/** @param {HTMLElement} line @param {Date} at */
export function stamp(line, at) {
  const time = /** @type {HTMLTimeElement} */ (within(line, "time"))
  time.dateTime = at.toISOString()
  time.textContent = clock(at)
  time.title = whole(at)
  line.dataset.date = dateKey(at)
}

/** @param {Element | null | undefined} line */
export const seqOf = (line) => Number(/** @type {HTMLElement | null | undefined} */ (line)?.dataset.seq ?? 0)
/** @param {Element} line */
export const mine = (line) => Number(/** @type {HTMLElement} */ (line).dataset.by) === data.me?.id

/** @param {Element} line */
export const moment = (line) => Date.parse(/** @type {HTMLTimeElement} */ (within(line, "time")).dateTime)

/** @param {HTMLElement} above @param {HTMLElement} line */
export function together(above, line) {
  return above.classList.contains("msg") && line.classList.contains("msg") &&
    above.dataset.by === line.dataset.by && !line.querySelector(".answers, .body > .did") && moment(line) - moment(above) < TOGETHER
}

/** @param {RoomEvent} event */
function saying(event) {
  const by = event.by?.name ?? ""
  const name = event.person?.name ?? by
  const self = !event.person || event.person.id === event.by?.id
  switch (event.kind) {
    case "join": return self ? t("sys.join", { name }) : t("sys.brought", { by, name })
    case "leave": return self ? t("sys.leave", { name }) : t("sys.removed", { by, name })
    case "role": return t("sys.role", { by, name, role: t("role." + event.role) })
    case "restored": return event.person ? t("sys.undeleted", { by, name, n: event.count ?? 0 }) : t("sys.restored", { by, n: event.count ?? 0 })
    case "retain": return event.count ? t("sys.retain", { by, n: event.count }) : t("sys.retain.ever", { by })
    case "archive": return event.on ? t("sys.archived", { by }) : t("sys.unarchived", { by })
    case "room": if (event.private) return t("sys.private", { by })
      return t(event.topic ? "sys.room" : "sys.name", { by, name: event.name ?? "", topic: event.topic ?? "" })
  }
  return ""
}

/** A line that says what happened. @param {RoomEvent} event */
export function system(event) {
  const line = clone("t-system")
  line.dataset.seq = String(event.seq)
  within(line, "span").textContent = saying(event)
  stamp(line, new Date(event.at))
  return line
}

// What every page needs: its data, its texts, times in the person's zone, templates, and the JSON API.

/** @typedef {{id: number, handle: string, name: string, role?: string, away?: boolean, bot?: boolean}} Person */
/** @typedef {{id: number, kind: string, name: string, topic: string, seq: number, read: number, unread: number,
 *    mentions: number, threads: number, role: string, members: number, other?: Person,
 *    bell: string, mute_until?: string, bells?: {thread: number, silent: boolean, mute_until?: string}[] | null, archived?: boolean}} Room */
/** @typedef {{seq: number, at: string, by: Person, body?: string, html?: string, edited?: boolean, deleted?: boolean,
 *    client_id?: string, mentions?: string[], alert?: Alert, way?: Way,
 *    reactions?: import("./reactions.js").Reaction[], thread?: number, aloud?: boolean, replies?: {count: number, last: number, at: string}, pinned?: {by: Person, at: string},
 *    files?: import("./files.js").Shared[], cards?: import("./card.js").Card[]}} Message */
/** @typedef {{state: string, mode?: string, by: Person, at: string, offers: string[],
 *    tables: {name: string, there: boolean, altered: number, newer: number}[]}} Way */
/** @typedef {{id: string, title: Record<string, string>}} Rule */
/** @typedef {{incident: string, part: number, severity: string, critical: boolean, state: string,
 *    answers: {by: Person, what: string, at: string, until?: string, note?: string}[], loud: Rule[], back: boolean,
 *    cover?: {id: string, actor: string, network: string, rules: (Rule & {kinds: string[], apps: string[]})[]}}} Alert */
/** @typedef {{is: "event", room: number, seq: number, kind: string, at: string, by: Person, message?: Message,
 *    person?: Person, role?: string, name?: string, topic?: string, count?: number, emoji?: string, on?: boolean, before?: number, private?: boolean,
 *    marks?: {seq: number, reactions: import("./reactions.js").Reaction[]},
 *    root?: {seq: number, replies: {count: number, last: number, at: string}, followers: number[]}}} RoomEvent */
/** @typedef {{post: boolean, pin: boolean, manage: boolean, deleteAny: boolean, answer: boolean}} May */
/** @typedef {{locale: string, me: Person | null, rooms: Room[] | null, epoch: string, room: number,
 *    texts: Record<string, string | Record<string, string>>, seq?: number, earlier?: boolean, later?: boolean, watch?: {seq: number, zone: string},
 *    at?: number, may?: May, saved?: number[] | null, drafts?: import("./drafts.js").Draft[] | null, roles?: string[] | null, limit?: number, self?: Room, thread?: number, reply?: number,
 *    commands?: {name: string, other: string, use: string}[],
 *    cards?: boolean, told?: {bell: string, hide: boolean, silence: [number, number][]}}} PageData */

const block = document.getElementById("page-data")

/** @type {PageData} */
export const data = block
  ? JSON.parse(block.textContent || "{}")
  : { locale: document.documentElement.lang, me: null, rooms: [], epoch: "", room: 0, texts: {} }

/** The element that the template promises. @param {string} id */
export function byId(id) {
  const found = document.getElementById(id)
  if (!found) throw new Error(`the page has no #${id}`)
  return found
}

/** @param {ParentNode} parent @param {string} selector @returns {HTMLElement} */
export function within(parent, selector) {
  const found = parent.querySelector(selector)
  if (!found) throw new Error(`no ${selector}`)
  return /** @type {HTMLElement} */ (found)
}

/** A copy of what <template id=...> holds. @param {string} id @returns {HTMLElement} */
export function clone(id) {
  const template = /** @type {HTMLTemplateElement} */ (byId(id))
  return /** @type {HTMLElement} */ (document.importNode(template.content, true).firstElementChild)
}

const plurals = new Intl.PluralRules(data.locale)

/** The text under web.js.{key} with its {arguments}. @param {string} key @param {Record<string, string | number>} [args] */
export function t(key, args = {}) {
  const forms = data.texts[key]
  if (forms === undefined) return key
  const text = typeof forms === "string" ? forms : forms[plurals.select(Number(args.n))] ?? forms.other
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in args ? String(args[name]) : whole))
}

const clockFormat = new Intl.DateTimeFormat(data.locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })
const keyFormat = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" })
const thisYear = new Intl.DateTimeFormat(data.locale, { weekday: "long", month: "long", day: "numeric" })
const otherYear = new Intl.DateTimeFormat(data.locale, { weekday: "long", year: "numeric", month: "long", day: "numeric" })
const wholeFormat = new Intl.DateTimeFormat(data.locale, { dateStyle: "full", timeStyle: "short" })
const momentFormat = new Intl.DateTimeFormat(data.locale === "en" ? "en-GB" : data.locale, { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" })

/** 14:05, in the person's own zone. @param {Date} at */
export const clock = (at) => clockFormat.format(at)
/** A date and time of day in lists, as Moment in view.go has it. @param {Date} at */
export const moment = (at) => momentFormat.format(at)
/** The whole moment in words. @param {Date} at */
export const whole = (at) => wholeFormat.format(at)
/** 2026-11-22, of the person's own day. @param {Date} at */
export const dateKey = (at) => keyFormat.format(at)

/** "Today", "Sunday, November 22", ... @param {Date} at */
export function dayName(at) {
  const now = new Date()
  if (dateKey(at) === dateKey(now)) return t("today")
  if (dateKey(at) === dateKey(new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1))) return t("yesterday")
  return (at.getFullYear() === now.getFullYear() ? thisYear : otherYear).format(at)
}

/** The sign of a person without a picture; view.go has the same rule. @param {string} name */
export const initial = (name) => (name.match(/[\p{L}\p{N}]/u)?.[0] ?? "?").toUpperCase()
/** A person's colour; view.go has the same rule. @param {number} id */
export const hue = (id) => "h" + (((id % 8) + 8) % 8)

/** @param {HTMLElement} face @param {{id: number, name: string}} person */
export function paint(face, person) {
  face.textContent = initial(person.name)
  face.className = face.className.replace(/\bh\d\b/, hue(person.id))
}

/** A refusal or a failure, as the server words it. */
export class Refusal extends Error {
  /** @param {string} code @param {string} message @param {string} [hint] @param {string} [key] */
  constructor(code, message, hint = "", key = "") {
    super(message)
    this.code = code
    this.hint = hint
    this.key = key
  }
  /** Whether the same request may well succeed later. */
  get passing() {
    return ["unavailable", "rate_limited", "internal"].includes(this.code)
  }
}

/** Calls /api/v1 and gives the JSON that it answers. @param {string} method @param {string} path @param {unknown} [body]
 * @returns {Promise<any>} */
export async function api(method, path, body) {
  let answer
  try {
    answer = await fetch("/api/v1" + path, {
      method,
      headers: { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
  } catch {
    throw new Refusal("unavailable", t("no_answer"))
  }
  let value
  try {
    value = answer.status === 204 ? {} : await answer.json()
  } catch {
    throw new Refusal("unavailable", t("no_answer")) // a proxy's own error page
  }
  if (answer.ok) return value
  const error = value.error ?? {}
  throw new Refusal(error.code ?? "internal", error.message ?? t("no_answer"), error.hint, error.key)
}

/** Storage may be full or forbidden; then words are kept as long as the page is open. */
export const store = {
  /** @param {string} key */
  get(key) {
    try { return localStorage.getItem(key) } catch { return null }
  },
  /** @param {string} key @param {string} value */
  set(key, value) {
    try { localStorage.setItem(key, value); return true } catch { return false }
  },
  /** @param {string} key */
  remove(key) {
    try { localStorage.removeItem(key) } catch { /* nothing was kept */ }
  },
  /** Every key that begins so. @param {string} prefix */
  keys(prefix) {
    try { return Object.keys(localStorage).filter((key) => key.startsWith(prefix)) } catch { return [] }
  },
}

// The server writes times in this zone from the next page on; see Chrome.Zone.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone
if (zone && !document.cookie.includes("zone=" + encodeURIComponent(zone))) {
  document.cookie = `zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax` +
    (location.protocol === "https:" ? "; secure" : "")
}

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!(button instanceof HTMLElement)) continue
  button.hidden = false
  button.addEventListener("click", async () => {
    const field = /** @type {HTMLInputElement} */ (byId(button.dataset.copy ?? ""))
    field.select()
    try { await navigator.clipboard.writeText(field.value) } catch { document.execCommand("copy") }
    const label = button.textContent
    button.textContent = button.dataset.done ?? label
    setTimeout(() => { button.textContent = label }, 2000)
  })
}

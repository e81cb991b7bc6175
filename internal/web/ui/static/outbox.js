// The outbox: what a person wrote is stored before it is sent, and stays until the server has it or the person lets go.
// One entry is one key of localStorage, so that tabs never overwrite each other's. One tab of all sends.

import { Refusal, api, data, store } from "./page.js"
import * as live from "./live.js"

/** @typedef {{client_id: string, room: number, body: string, at: number, thread?: number, aloud?: boolean,
 *    files?: import("./tray.js").Chosen[], failed?: string, hint?: string}} Entry */

// Its number goes up whenever an entry says something that pages of before would leave out: a reply, sent by one that knows no threads, would stand in the
// room. Such pages neither see nor send what is stored under a newer number; what they left is taken over when they are gone.
const prefix = `howdah.outbox.v2.${data.me?.id ?? 0}.`
const former = `howdah.outbox.${data.me?.id ?? 0}.`
/** Entries that storage refused: they live as long as this page. @type {Map<string, Entry>} */
const unstored = new Map()
/** @type {Set<string>} */
const sending = new Set()
/** @type {(() => void)[]} */
const listeners = []
/** @type {((entry: Entry, seq: number) => void)[]} */
const sent = []
/** @type {((entry: Entry, told: {message: string, left: boolean}) => void)[]} */
const done = []
let owner = false
/** What sends files, once a message has any. @type {typeof import("./uploads.js") | null} */
let uploads = null
let last = 0
let pause = 0
/** @type {number | undefined} */
let timer

/** Called whenever an entry came, went or changed. @param {() => void} listener */
export function onChange(listener) {
  listeners.push(listener)
}

/** Called when the server has taken an entry, before it leaves the outbox. @param {(entry: Entry, seq: number) => void} listener */
export function onSent(listener) {
  sent.push(listener)
}

/** Called when an entry was a command, and what came of it. @param {(entry: Entry, told: {message: string, left: boolean}) => void} listener */
export function onDone(listener) {
  done.push(listener)
}

function changed() {
  for (const listener of listeners) listener()
}

/** Whether a text does something instead of being said, be there such a command or not; chat.IsCommand has the same rule. @param {string} text */
export function isCommand(text) {
  const found = /^[\r\n]*[/／](\p{L}+)(?:[\p{Z}\p{Cc}\u{FEFF}]+([^]*))?$/u.exec(text)
  return !!found && !(found[1].toLowerCase() === "me" && found[2])
}

/** Has a command done: the same id, again, does nothing twice. @param {number} room @param {string} line @param {string} id
 * @returns {Promise<{message: string, left: boolean}>} */
export const command = (room, line, id) => api("POST", `/rooms/${room}/commands`, { client_id: id, line })

/** Everything not yet sent, oldest first. @param {number} [room] @returns {Entry[]} */
export function entries(room) {
  /** @type {Entry[]} */
  const list = [...unstored.values()]
  for (const key of store.keys(prefix)) {
    try { list.push(JSON.parse(store.get(key) ?? "")) } catch { store.remove(key) }
  }
  return list.filter((one) => room === undefined || one.room === room).sort((a, b) => a.at - b.at)
}

/** @param {string} id */
export const isSending = (id) => sending.has(id)

/** @param {Entry} entry */
function keep(entry) {
  if (store.set(prefix + entry.client_id, JSON.stringify(entry))) unstored.delete(entry.client_id)
  else unstored.set(entry.client_id, entry)
}

/** Lets the files of an entry go. @param {string} id @param {boolean} cancel the server need not keep them either */
async function letGo(id, cancel) {
  const files = entries().find((one) => one.client_id === id)?.files
  if (!files) return
  const carrier = await carry()
  for (const file of files) carrier.forget(file.upload, cancel)
}

/** Lets go of a message that was not sent. @param {string} id */
export function discard(id) {
  letGo(id, true)
  remove(id, true)
}

/** @param {string} id @param {boolean} [keeps] its files are wanted still */
export function remove(id, keeps) {
  if (!keeps) letGo(id, false)
  unstored.delete(id)
  store.remove(prefix + id)
  changed()
}

/** A UUID; randomUUID exists only where the page came over https or from this machine. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID()
  const b = crypto.getRandomValues(new Uint8Array(16))
  b[6] = (b[6] & 15) | 64
  b[8] = (b[8] & 63) | 128
  return [...b].map((x, i) => ([4, 6, 8, 10].includes(i) ? "-" : "") + x.toString(16).padStart(2, "0")).join("")
}

/** Stores a message and sends it as soon as that is possible. @param {number} room @param {string} body
 * @param {string} id of it, the same in every try
 * @param {number} [thread] that it replies to @param {boolean} [aloud] and to the room as well @param {import("./tray.js").Chosen[]} [files] */
export function post(room, body, id, thread, aloud, files) {
  last = Math.max(Date.now(), last + 1) // two within a millisecond keep their order
  keep({ client_id: id, room, body, at: last, ...(thread ? { thread, aloud: !!aloud } : {}), ...(files?.length ? { files } : {}) })
  changed()
  flush()
}

/** A refused one goes out again, under its own id: if it did arrive the server knows it. @param {string} id */
export function again(id) {
  const entry = entries().find((one) => one.client_id === id)
  if (!entry) return
  delete entry.failed
  delete entry.hint
  for (const file of entry.files ?? []) uploads?.send(file.upload)
  keep(entry)
  changed()
  flush()
}

/** Sends what waits: in order within a room, one at a time, so that a failure can never swap two. */
export function flush() {
  if (!owner && unstored.size === 0 && !entries().some((one) => one.files)) return
  if (!live.ready()) return
  const busy = new Set()
  for (const entry of entries()) {
    if (entry.failed !== undefined || busy.has(entry.room)) continue
    if (entry.files && !uploads) {
      carry()
      continue
    }
    const mine = owner || unstored.has(entry.client_id) || entry.files?.some((one) => uploads?.holds(one.upload))
    if (mine && entry.files && !arrived(entry, entry.files)) continue // later ones go before it
    busy.add(entry.room)
    if (!mine) continue
    if (!sending.has(entry.client_id)) deliver(entry)
  }
}

/** @type {Promise<typeof import("./uploads.js")> | undefined} */
let carrying
/** What sends files; it is fetched when it is needed first. */
export function carry() {
  return carrying ??= import("./uploads.js").then((module) => {
    uploads = module
    let drawn = 0
    module.onChange((now) => {
      if (now.done || now.failed !== undefined) flush()
      else if (Date.now() - drawn < 250) return
      drawn = Date.now()
      if (entries().some((one) => one.files?.some((file) => file.upload === now.id))) changed()
    })
    flush()
    return module
  })
}

/** Whether the files of an entry have come as a whole; those that have not are sent. @param {Entry} entry @param {import("./tray.js").Chosen[]} files */
function arrived(entry, files) {
  let all = true
  for (const file of files) {
    const now = uploads?.state(file.upload)
    if (now?.failed !== undefined) {
      entry.failed = now.failed
      keep(entry)
    } else if (!now?.done) uploads?.send(file.upload)
    all &&= !!now?.done
  }
  return all
}

/** How much of an entry's files has come, from 0 to 1. @param {Entry} entry */
export function come(entry) {
  let size = 0, sent = 0
  for (const file of entry.files ?? []) {
    const now = uploads?.state(file.upload)
    size += file.size
    sent += now?.done ? file.size : now?.sent ?? 0
  }
  return size ? Math.min(1, sent / size) : 1
}

/** @param {Entry} entry */
async function deliver(entry) {
  sending.add(entry.client_id)
  changed()
  try {
    if (isCommand(entry.body)) { // left by a page that did not know it for one: nobody else is shown it
      const told = await command(entry.room, entry.body, entry.client_id)
      pause = 0
      sending.delete(entry.client_id)
      remove(entry.client_id)
      for (const listener of done) listener(entry, told)
      return flush()
    }
    const answer = await live.ask({ do: "post", room: entry.room, client_id: entry.client_id, body: entry.body,
      ...(entry.thread ? { thread: entry.thread, aloud: !!entry.aloud } : {}),
      ...(entry.files ? { files: entry.files.map((one) => ({ upload: one.upload, alt: one.alt })) } : {}) })
    pause = 0
    for (const listener of sent) listener(entry, answer.seq)
    sending.delete(entry.client_id)
    remove(entry.client_id)
  } catch (error) {
    sending.delete(entry.client_id)
    const refusal = error instanceof Refusal ? error : new Refusal("internal", String(error))
    if (refusal.passing || refusal.code === "unauthenticated") {
      pause = Math.min(20000, (pause || 500) * 2)
      clearTimeout(timer)
      timer = setTimeout(flush, pause * (0.5 + Math.random() / 2))
    } else if (refusal.key === "files.no_upload" && uploads) { // it waited too long: once more, where the file is still here
      for (const file of entry.files ?? []) uploads.renew(file.upload)
    } else {
      entry.failed = refusal.message
      entry.hint = refusal.hint
      keep(entry)
    }
    changed()
    if (!refusal.passing) flush()
    return
  }
  flush()
}

/** Takes up the work: this tab sends when no other one does. */
export function start() {
  addEventListener("storage", (event) => {
    if (heir && event.key?.startsWith(former)) takeOver()
    if (event.key !== null && !event.key.startsWith(prefix)) return
    changed()
    flush()
  })
  live.on("hello", () => { pause = 0; flush() })
  live.on("back", flush)
  claim()
  addEventListener("pageshow", (event) => { if (event.persisted) claim() })
  // A page that was left may stay in memory for a while, and its lock with it.
  addEventListener("pagehide", () => {
    owner = heir = false
    release()
    renounce()
  })
}

let release = () => {}
let renounce = () => {}
let heir = false // no page of before can send any more

/** Moves here what pages of before have left. */
function takeOver() {
  for (const key of store.keys(former)) {
    const kept = store.get(key)
    if (kept && store.set(prefix + key.slice(former.length), kept)) store.remove(key)
  }
  changed()
  flush()
}

/** Waits for a lock, and holds it until the function that it hands over is called. @param {string} name @param {() => void} got @param {(end: () => void) => void} how */
function hold(name, got, how) {
  const patience = new AbortController()
  how(() => patience.abort())
  navigator.locks.request(name, { signal: patience.signal }, () => new Promise((end) => {
    how(() => end(undefined))
    got()
  })).catch(() => { if (!patience.signal.aborted) got() })
}

function claim() {
  const inherit = () => {
    heir = true
    takeOver()
  }
  const own = () => {
    owner = true
    flush()
  }
  // Without locks every tab sends: the server knows a client id that it has seen, so nothing doubles.
  if (!navigator.locks) {
    own()
    return inherit()
  }
  hold(prefix + "owner", own, (end) => { release = end })
  hold(former + "owner", inherit, (end) => { renounce = end })
}

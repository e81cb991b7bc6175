// Drafts: what somebody has begun to write, kept in this browser at once and in the house soon, for their other devices. What was written last stands. A draft
// bears the client id of the message that it will be, so that one that was sent is none any more, wherever it still lies.

import { api, data, store } from "./page.js"
import * as live from "./live.js"
import { uuid } from "./outbox.js"

/** @typedef {{thread: number, client_id: string, version: number, body: string}} Draft */
/** @typedef {Draft & {dirty: boolean}} Kept dirty: the house does not have it yet */

const ROOM = data.room
const SOON = 1000
const prefix = `howdah.words.${data.me?.id ?? 0}.`
const before = `howdah.draft.${data.me?.id ?? 0}.` // as it was kept once: the words and nothing else

/** The ids that were made on this page: words that came from elsewhere and are changed here become another message. @type {Set<string>} */
const mine = new Set()
/** @type {Map<string, number>} */
const pushes = new Map()
/** @type {((thread: number, body: string) => void)[]} */
const listeners = []

/** @param {number} room @param {number} thread */
const keyOf = (room, thread) => `${prefix}${room}.${thread}`

/** @param {string} key @returns {Kept} */
function read(key) {
  try {
    const kept = JSON.parse(store.get(key) ?? "")
    if (typeof kept.body === "string" && kept.version > 0) return kept
  } catch { /* nothing, or not ours */ }
  const [room, thread] = key.slice(prefix.length).split(".").map(Number)
  const old = before + room + (thread ? "." + thread : "")
  const body = store.get(old) ?? ""
  store.remove(old)
  return { thread, body, client_id: uuid(), version: body ? Date.now() : 0, dirty: !!body }
}

/** @param {string} key @param {Kept} kept */
function write(key, kept) {
  store.set(key, JSON.stringify(kept))
}

/** Called when the words of a place became others elsewhere. @param {(thread: number, body: string) => void} listener */
export function onChange(listener) {
  listeners.push(listener)
}

/** What stands in a place of this room. @param {number} thread */
export const get = (thread) => read(keyOf(ROOM, thread)).body

/** Keeps what is written now. @param {number} thread @param {string} text */
export function set(thread, text) {
  const key = keyOf(ROOM, thread)
  const was = read(key)
  const body = text.trim() ? text : ""
  if (body === was.body) return
  const id = was.body && mine.has(was.client_id) ? was.client_id : uuid()
  mine.add(id)
  write(key, { thread, body, client_id: body ? id : was.client_id, version: Math.max(was.version + 1, Date.now()), dirty: true })
  clearTimeout(pushes.get(key))
  pushes.set(key, setTimeout(() => push(key), SOON))
}

/** Takes a draft away, because it is sent, and gives the id of the message that it is now. @param {number} thread */
export function take(thread) {
  const key = keyOf(ROOM, thread)
  const was = read(key)
  const id = was.body && mine.has(was.client_id) ? was.client_id : uuid()
  write(key, { thread, body: "", client_id: was.client_id, version: Math.max(was.version + 1, Date.now()), dirty: true })
  clearTimeout(pushes.get(key))
  push(key)
  return id
}

/** @param {string} key */
const request = (key) => {
  const { thread, client_id, version, body } = read(key)
  return { path: `/rooms/${key.slice(prefix.length).split(".")[0]}/draft`, sent: { thread, client_id, version, body } }
}

/** Brings a draft to the house; without a connection it stays dirty until there is one. @param {string} key */
async function push(key) {
  pushes.delete(key)
  const { path, sent } = request(key)
  if (!read(key).dirty) return
  try {
    const now = await api("PUT", path, sent)
    const here = read(key)
    if (here.version === sent.version) write(key, { ...here, dirty: false })
    adopt(Number(key.slice(prefix.length).split(".")[0]), now)
  } catch (error) {
    // What is refused for good (who was taken out of the room, a thing too long) stays here and is not tried again by itself.
    const refusal = /** @type {{passing?: boolean}} */ (error)
    const here = read(key)
    if (refusal.passing === false && here.version === sent.version) write(key, { ...here, dirty: false })
  }
}

/** Takes over what another device has written. @param {number} room @param {Draft} draft */
function adopt(room, draft) {
  const key = keyOf(room, draft.thread)
  const here = read(key)
  if (draft.version <= here.version) return
  if (!draft.body && here.body && here.dirty && here.client_id !== draft.client_id) { // something else was sent there: these words are not gone with it
    write(key, { ...here, version: Math.max(draft.version + 1, Date.now()) })
    push(key)
    return
  }
  write(key, { thread: draft.thread, body: draft.body, client_id: draft.client_id, version: draft.version, dirty: false })
  if (room === ROOM && draft.body !== here.body) for (const listener of listeners) listener(draft.thread, draft.body)
}

/** A message of mine that came: where its words still stand as a draft, they are none. @param {import("./page.js").RoomEvent} event */
export function hear(event) {
  const message = event.message
  if (event.kind !== "post" || !message?.client_id || message.by.id !== data.me?.id) return
  for (const key of store.keys(prefix + ROOM + ".")) {
    const here = read(key)
    if (!here.body || here.client_id !== message.client_id) continue
    write(key, { ...here, body: "", version: here.version + 1, dirty: false })
    for (const listener of listeners) listener(here.thread, "")
  }
}

/** What stands in the house now, in this room; and what it does not have yet, of all rooms. */
async function heal() {
  for (const key of store.keys(prefix)) if (read(key).dirty) push(key)
  try {
    for (const draft of (await api("GET", `/drafts?room=${ROOM}`)).drafts) adopt(ROOM, draft)
  } catch { /* the next connection tells */ }
}

export function start() {
  for (const draft of data.drafts ?? []) adopt(ROOM, draft)
  let first = true
  live.on("hello", () => {
    if (first) for (const key of store.keys(prefix)) if (read(key).dirty) push(key)
    if (!first) heal()
    first = false
  })
  live.on("draft", (frame) => adopt(frame.room, frame))
  addEventListener("storage", (event) => { // another tab has written it
    if (!event.key?.startsWith(keyOf(ROOM, 0).slice(0, -1))) return
    const here = read(event.key)
    for (const listener of listeners) listener(here.thread, here.body)
  })
  addEventListener("pagehide", () => {
    for (const key of pushes.keys()) {
      const { path, sent } = request(key)
      const body = JSON.stringify(sent)
      if (body.length < 60000) fetch("/api/v1" + path, { method: "PUT", keepalive: true, headers: { "content-type": "application/json" }, body }).catch(() => {})
    }
  })
}

// Files on their way to the server: in stretches, one file after the other, each from where it has come to. A file is kept in the browser's own database until its message
// is sent or it is taken away, so that it goes on after the page was closed or the network was gone.

import { Refusal, api, data, t } from "./page.js"
import { uuid } from "./outbox.js"

/** @typedef {{id: string, place: string, name: string, size: number, type: string, alt: string, file: Blob, at: number}} Kept */
/** @typedef {{id: string, name: string, size: number, type: string, sent: number, done: boolean, failed?: string}} State */

const STRETCH = 8 << 20 // bytes of one request: what proxies let through, and what is sent again at most
const KEEP = 8 * 24 * 3600 * 1000 // what lies longer than the server keeps it was left behind
const ME = data.me?.id ?? 0

/** @type {Map<string, State>} */
const states = new Map()
/** Files of this page: also where nothing can be kept. @type {Map<string, Kept>} */
const here = new Map()
/** @type {Set<(state: State) => void>} */
const listeners = new Set()
/** @type {string[]} */
let queue = []
let sending = ""
/** @type {XMLHttpRequest | null} */
let request = null

/** Called whenever something has come further. @param {(state: State) => void} listener */
export function onChange(listener) {
  listeners.add(listener)
}

/** @param {State} state */
function tell(state) {
  for (const listener of listeners) listener(state)
}

/** @param {string} id */
export const state = (id) => states.get(id)

// ---- what is kept ----

/** @type {Promise<IDBDatabase> | undefined} */
let opened
function open() {
  return opened ??= new Promise((done, failed) => {
    const ask = indexedDB.open("howdah-files", 1)
    ask.onupgradeneeded = () => ask.result.createObjectStore("files", { keyPath: "id" })
    ask.onsuccess = () => done(ask.result)
    ask.onerror = () => failed(ask.error)
  })
}

/** @template T @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest<T>} work @returns {Promise<T | undefined>} */
async function kept(mode, work) {
  try {
    const base = await open()
    return await new Promise((done, failed) => {
      const ask = work(base.transaction("files", mode).objectStore("files"))
      ask.onsuccess = () => done(ask.result)
      ask.onerror = () => failed(ask.error)
    })
  } catch { // no room, or not allowed: it lives as long as this page
    return undefined
  }
}

const key = (/** @type {string} */ place) => ME + " " + place

/** The files that wait at a place (a composer) for their message, in the order in which they were added. @param {string} place @returns {Promise<Kept[]>} */
export async function at(place) {
  const all = (await kept("readonly", (store) => store.getAll())) ?? []
  const old = Date.now() - KEEP
  for (const one of all) if (one.at < old) kept("readwrite", (store) => store.delete(one.id))
  const list = [...here.values(), ...all.filter((/** @type {Kept} */ one) => !here.has(one.id) && one.at >= old)]
  return list.filter((one) => one.place === key(place)).sort((a, b) => a.at - b.at)
}

let last = 0
/** Takes a file to be sent, and begins with it. @param {string} place @param {File} file @returns {Promise<Kept>} */
export async function add(place, file) {
  last = Math.max(Date.now(), last + 1)
  const one = { id: uuid(), place: key(place), name: file.name || "file", size: file.size, type: file.type, alt: "", file, at: last }
  here.set(one.id, one)
  await kept("readwrite", (store) => store.put(one))
  send(one.id)
  return one
}

/** @param {string} id @param {Partial<Kept>} change */
export async function change(id, change) {
  const one = here.get(id) ?? await kept("readonly", (store) => store.get(id))
  if (!one) return
  Object.assign(one, change)
  if (here.has(id)) here.set(id, one)
  await kept("readwrite", (store) => store.put(one))
}

/** Brings a file to another place; "" while its message is on its way. @param {string} id @param {string} place */
export const move = (id, place) => change(id, { place: key(place) })

/** Whether this page itself has the file. @param {string} id */
export const holds = (id) => here.has(id)

/** Forgets a file: its message was sent, or it was taken away. @param {string} id @param {boolean} cancel tell the server, too */
export function forget(id, cancel) {
  queue = queue.filter((one) => one !== id)
  if (sending === id) request?.abort()
  here.delete(id)
  states.delete(id)
  kept("readwrite", (store) => store.delete(id))
  if (cancel) api("DELETE", "/uploads/" + id).catch(() => {}) // it is forgotten by itself after a week
}

// ---- what is sent ----

/** Sends a file once more that the server has forgotten. @param {string} id */
export function renew(id) {
  states.delete(id)
  send(id)
}

/** Begins, or goes on with, a file. @param {string} id */
export function send(id) {
  const before = states.get(id)
  if (before?.done || sending === id || queue.includes(id)) return
  if (before) delete before.failed
  queue.push(id)
  next()
}

async function next() {
  if (sending || queue.length === 0) return
  sending = queue.shift() ?? ""
  const id = sending
  try {
    // Two tabs do not send the same: the other one then finds it done.
    if (navigator.locks) await navigator.locks.request("howdah.file." + id, () => whole(id))
    else await whole(id)
  } catch (error) {
    /** @type {State} */
    const now = states.get(id) ?? { id, name: "", size: 0, type: "", sent: 0, done: false }
    states.set(id, now)
    now.failed = error instanceof Refusal ? [error.message, error.hint].filter(Boolean).join(" ") : String(error)
    tell(now)
  }
  sending = ""
  next()
}

/** @param {string} id */
async function whole(id) {
  const one = here.get(id) ?? await kept("readonly", (store) => store.get(id))
  if (!one) {
    const there = await api("GET", "/uploads/" + id).catch(() => null)
    if (!there?.done) throw new Refusal("not_found", t("files.gone"))
    const now = { id, name: there.name, size: there.size, type: "", sent: there.size, done: true }
    states.set(id, now)
    return tell(now)
  }
  here.set(id, one)
  const now = states.get(id) ?? { id, name: one.name, size: one.size, type: one.type, sent: 0, done: false }
  states.set(id, now)
  tell(now)
  for (let tries = 0; states.get(id) === now;) {
    try {
      const began = await api("POST", "/uploads", { client_id: id, name: one.name, size: one.size })
      now.sent = began.offset
      now.done = began.done
      while (!now.done && states.get(id) === now) {
        const answer = await stretch(now, one.file)
        now.sent = answer.offset
        now.done = answer.done
        tries = 0
        tell(now)
      }
      return tell(now)
    } catch (error) {
      if (states.get(id) !== now) return
      const refusal = error instanceof Refusal ? error : new Refusal("internal", String(error))
      if (!refusal.passing && refusal.key !== "files.offset") throw refusal
      await pause(Math.min(30000, 500 * 2 ** tries++))
    }
  }
}

/** Until a while is over, or the network is back. @param {number} time */
const pause = (time) => new Promise((done) => {
  const timer = setTimeout(go, time * (0.5 + Math.random() / 2))
  function go() {
    clearTimeout(timer)
    removeEventListener("online", go)
    done(undefined)
  }
  addEventListener("online", go)
})

/** One request; fetch does not say how much has gone. @param {State} now @param {Blob} file @returns {Promise<{offset: number, done: boolean}>} */
function stretch(now, file) {
  const from = now.sent
  return new Promise((done, failed) => {
    const asked = request = new XMLHttpRequest()
    asked.open("PATCH", "/api/v1/uploads/" + now.id)
    asked.setRequestHeader("content-type", "application/octet-stream")
    asked.setRequestHeader("upload-offset", String(from))
    asked.setRequestHeader("accept", "application/json")
    asked.upload.onprogress = (event) => {
      now.sent = from + event.loaded
      tell(now)
    }
    asked.onload = () => {
      let value
      try { value = JSON.parse(asked.responseText) } catch { return failed(new Refusal("unavailable", t("no_answer"))) }
      if (asked.status === 200) return done(value)
      const error = value.error ?? {}
      failed(new Refusal(error.code ?? "internal", error.message ?? t("no_answer"), error.hint, error.key))
    }
    asked.onerror = asked.onabort = () => failed(new Refusal("unavailable", t("no_answer")))
    asked.send(file.slice(from, from + STRETCH))
  })
}

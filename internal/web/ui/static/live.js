// The live socket: one connection that comes back by itself, frames in both directions, requests with an answer.

import { data, Refusal, t } from "./page.js"

/** @typedef {"connecting" | "open" | "waiting" | "offline"} State
 * offline: no connection for longer than a hiccup; waiting: the server is there, its database is not. */

const ANSWER = 15000 // an acknowledgement that takes longer than this is lost with its connection
const PATIENCE = 2500 // of being gone before people are told
const QUIET = 5000 // an answer to "are you still there?"

/** @type {Map<string, ((frame: any) => void)[]>} */
const listeners = new Map()
/** @type {Map<number, {done: (frame: any) => void, failed: (error: Refusal) => void, timer: number}>} */
const asked = new Map()

/** @type {WebSocket | null} */
let socket = null
let greeted = false
let ended = false
let attempt = 0
let number = 0
let heard = 0
let epoch = data.epoch
let retry = 0
let worry = 0
/** @type {State} */
let state = "connecting"
/** @type {() => {room: number, since: number}} */
let position = () => ({ room: 0, since: 0 })

/** Calls the function for every frame with this "is", and for "state" changes. @param {string} is @param {(frame: any) => void} listener */
export function on(is, listener) {
  listeners.set(is, [...(listeners.get(is) ?? []), listener])
}

/** @param {string} is @param {any} frame */
function tell(is, frame) {
  for (const listener of listeners.get(is) ?? []) listener(frame)
}

/** @returns {State} */
export const current = () => state
/** Whether a request sent now can be answered. */
export const ready = () => greeted && state === "open"

/** @param {State} next */
function become(next) {
  if (next === state) return
  state = next
  tell("state", { state })
}

/** @param {() => {room: number, since: number}} where the open room and the last seq known of it, asked at every connect */
export function start(where) {
  position = where
  addEventListener("online", wake)
  addEventListener("pageshow", (event) => { if (event.persisted) wake() })
  addEventListener("pagehide", () => socket?.close())
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") wake() })
  connect()
}

function connect() {
  clearTimeout(retry)
  if (socket || ended) return
  worry ||= setTimeout(() => become("offline"), PATIENCE)
  const here = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`)
  socket = here
  const impatient = setTimeout(() => here.close(), ANSWER) // a connection that never opens has no timeout of its own
  here.onopen = () => here.send(JSON.stringify({ do: "hello", epoch, ...position() }))
  here.onmessage = (event) => {
    if (here !== socket) return
    clearTimeout(impatient)
    heard = Date.now()
    let frame
    try { frame = JSON.parse(event.data) } catch { return }
    receive(frame)
  }
  here.onclose = () => {
    clearTimeout(impatient)
    if (here === socket) lost()
  }
}

function lost() {
  socket = null
  greeted = false
  const unanswered = [...asked.values()]
  asked.clear()
  for (const request of unanswered) {
    clearTimeout(request.timer)
    request.failed(new Refusal("unavailable", t("no_answer")))
  }
  if (ended) return
  if (attempt > 1) signedOut()
  if (state === "open" || state === "waiting") become("connecting")
  worry ||= setTimeout(() => become("offline"), PATIENCE)
  // Everybody who lost the same server comes back at different moments.
  const pause = Math.min(30000, 400 * 2 ** attempt++) * (0.5 + Math.random() / 2)
  clearTimeout(retry)
  retry = setTimeout(connect, pause)
}

/** A socket that is refused does not say why: whoever was signed out while there was no connection would wait for ever. */
async function signedOut() {
  const answer = await fetch("/api/v1/me", { cache: "no-store" }).catch(() => null)
  if (answer?.status === 401) leave()
}

function leave() {
  ended = true
  location.assign("/sign-in?next=" + encodeURIComponent(location.pathname + location.search))
}

/** The network or the person is back: look at once whether the connection still lives. */
function wake() {
  if (ended) return
  if (!socket) {
    attempt = 0
    connect()
    return
  }
  if (!greeted) return
  const before = Date.now()
  const here = socket
  send({ do: "view", room: position().room })
  setTimeout(() => { if (socket === here && heard < before && position().room) drop() }, QUIET)
}

/** Gives up a connection that says nothing, without waiting for its farewell. */
function drop() {
  const here = socket
  if (!here) return
  here.onclose = null
  here.close()
  attempt = 0
  lost()
}

/** @param {any} frame */
function receive(frame) {
  switch (frame.is) {
    case "hello":
      if (epoch && frame.epoch && frame.epoch !== epoch) return anew()
      if (data.me && frame.me && frame.me.id !== data.me.id) return anew() // signed in as somebody else meanwhile
      epoch = frame.epoch
      greeted = true
      attempt = 0
      clearTimeout(worry)
      worry = 0
      become("open")
      break
    case "reset":
      return anew()
    case "waiting":
      clearTimeout(worry)
      worry = 0
      become("waiting")
      break
    case "back":
      become("open")
      break
    case "bye":
      if (String(frame.key).endsWith("session_ended")) return leave()
      break
    case "ok":
    case "error": {
      const request = asked.get(frame.id)
      asked.delete(frame.id)
      clearTimeout(request?.timer)
      if (frame.is === "ok") request?.done(frame)
      else request?.failed(new Refusal(frame.code, frame.message, frame.hint, frame.key))
      return
    }
  }
  tell(frame.is, frame)
}

/** The state of this page is of another database, or another person: keep outbox and drafts, fetch the rest again. */
function anew() {
  ended = true
  socket?.close()
  location.reload()
}

/** A frame without an answer; lost when there is no connection. @param {object} frame */
export function send(frame) {
  if (socket && greeted && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame))
}

/** A frame with an answer. Fails with a Refusal. @param {object} frame @returns {Promise<any>} */
export function ask(frame) {
  return new Promise((done, failed) => {
    if (!socket || !greeted || socket.readyState !== WebSocket.OPEN) {
      failed(new Refusal("unavailable", t("no_answer")))
      return
    }
    const id = ++number
    const timer = setTimeout(() => { if (asked.has(id)) drop() }, ANSWER) // fails this and all others
    asked.set(id, { done, failed, timer })
    socket.send(JSON.stringify({ ...frame, id }))
  })
}

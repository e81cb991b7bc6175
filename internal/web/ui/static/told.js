// Telling people who are not looking: notifications of the system while a page of the house is open somewhere, and the count on the page's icon.
// What is told follows the same rules as on the server (package tell), which tells those who have no page open.

import { api, data, store, t } from "./page.js"
import { callsHere, callsRoom } from "./calls.js"
import * as live from "./live.js"
import { label, muted, onCount, onPost, rooms, silent } from "./sidebar.js"

/** @typedef {import("./page.js").RoomEvent} RoomEvent */
/** @typedef {import("./page.js").Room} Room */

const LATE = 5 * 60 * 1000 // what is older was missed by a connection, and is told by the counts
const PATIENCE = 1500 // for another page, or another device, to show it

/** Whether somebody wants to be told of nothing just now. */
const silence = () => (data.told?.silence ?? []).some(([from, to]) => from <= Date.now() && Date.now() < to)

/** Whether I want to be told of a message. @param {RoomEvent} event @param {Room} room */
export function wanted(event, room) {
  const message = event.message
  const me = data.me
  if (event.kind !== "post" || !message || message.deleted || !me || event.by.id === me.id || silence() || silent(room)) return false
  const bell = room.bell || (room.kind === "direct" || room.kind === "ops" ? "all" : data.told?.bell ?? "mentions")
  if (bell === "nothing") return false
  const thread = message.thread && room.bells?.find((one) => one.thread === message.thread)
  if (thread && (thread.silent || muted(thread.mute_until))) return false
  if (message.mentions?.some((one) => one === me.handle || callsRoom.has(one) || !me.away && callsHere.has(one))) return true
  if (message.thread && event.root?.followers.includes(me.id)) return true
  return bell === "all" && (!message.thread || !!message.aloud || room.kind === "direct")
}

/** Whether this is on the screen of this page, under somebody's eyes. @param {RoomEvent} event @param {boolean} seen */
function shown(event, seen) {
  if (document.visibilityState !== "visible" || !document.hasFocus() || event.room !== data.room) return false
  const message = event.message
  if (!message?.thread || message.aloud) return seen
  return !!document.getElementById("t" + message.thread)?.checkVisibility()
}

/** What is shown on this device is told to its other pages. */
const others = "BroadcastChannel" in window ? new BroadcastChannel("howdah.told") : null
/** What waits to be told. @type {Map<string, number>} */
const waiting = new Map()

/** @param {string} key */
function drop(key) {
  clearTimeout(waiting.get(key))
  waiting.delete(key)
}

/** @param {RoomEvent} event @param {Room} room @param {boolean} seen */
function hear(event, room, seen) {
  const key = `${data.me?.id}.${event.room}.${event.seq}`
  if (shown(event, seen)) {
    others?.postMessage(key)
    return
  }
  if (!allowed() || Date.now() - Date.parse(event.at) > LATE || !wanted(event, room)) return
  waiting.set(key, setTimeout(() => {
    waiting.delete(key)
    const message = event.message
    if ((!message?.thread || message.aloud) && (rooms.get(event.room)?.read ?? 0) >= event.seq) return // read elsewhere meanwhile
    // Of several pages of this browser, the first to ask tells.
    navigator.locks?.request("howdah.told." + key, { ifAvailable: true }, async (mine) => {
      if (!mine) return
      await tell(event, room)
      await new Promise((done) => setTimeout(done, 4 * PATIENCE))
    })
  }, PATIENCE))
}

/** Whether this browser may notify, and whoever sits before it wants it to. */
export const allowed = () => "Notification" in window && Notification.permission === "granted" && store.get("howdah.told.off") === null

/** @param {RoomEvent} event @param {Room} room */
async function tell(event, room) {
  const message = event.message
  const thread = message?.thread && !message.aloud ? message.thread : 0
  const url = `/room/${event.room}?${thread ? "thread=" + thread + "&" : ""}at=${event.seq}#${thread ? "t" : "m"}${event.seq}`
  const title = room.kind === "direct" ? event.by.name : t(thread ? "told.thread" : "told.title", { name: event.by.name, room: label(room) })
  const words = data.told?.hide ? t("told.hidden") : (message?.body ?? "").replace(/\s+/g, " ").slice(0, 240)
  await show(title, { body: words, tag: `room-${event.room}${thread ? "-" + thread : ""}`, data: { url, room: event.room, thread, seq: event.seq, person: data.me?.id } })
}

/** Shows a notification of the system. @param {string} title @param {NotificationOptions & {data: {url: string}}} options */
export async function show(title, options) {
  const all = { lang: data.locale, icon: plain, renotify: true, ...options }
  const worker = await navigator.serviceWorker?.getRegistration()
  if (worker?.active) return worker.showNotification(title, all)
  const one = new Notification(title, all)
  one.addEventListener("click", () => {
    window.focus()
    one.close()
    location.assign(options.data.url)
  })
  open.add(one)
  one.addEventListener("close", () => open.delete(one))
}

/** Those that this page has shown. @type {Set<Notification>} */
const open = new Set()

/** What has been read goes away. @param {number} room @param {number} seq @param {boolean} threads */
async function clear(room, seq, threads) {
  const worker = await navigator.serviceWorker?.getRegistration()
  for (const one of [...open, ...(worker ? await worker.getNotifications() : [])]) {
    const about = one.data
    if (about?.room === room && about.person === data.me?.id && (about.thread ? threads : about.seq <= seq)) one.close()
  }
}

// ---- the icon ----

const icon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"))
const plain = icon.href
let drawn = ""

/** What calls me is a number on the icon, and what is only new a dot. */
function count() {
  let calls = 0
  let fresh = false
  for (const room of rooms.values()) {
    if (silent(room)) continue
    calls += room.threads + (room.kind === "direct" ? room.unread : room.mentions)
    fresh ||= room.unread > 0
  }
  const sign = calls > 99 ? "99+" : calls > 0 ? String(calls) : fresh ? "•" : ""
  if (sign === drawn) return
  drawn = sign
  const badge = /** @type {{setAppBadge?: (n?: number) => Promise<void>, clearAppBadge?: () => Promise<void>}} */ (navigator)
  if (sign) badge.setAppBadge?.(...(calls ? [calls] : [])).catch(() => {})
  else badge.clearAppBadge?.().catch(() => {})
  if (!sign) {
    icon.href = plain
    return
  }
  const image = new Image()
  image.addEventListener("load", () => {
    if (drawn !== sign) return
    const canvas = document.createElement("canvas")
    canvas.width = canvas.height = 64
    const pen = canvas.getContext("2d")
    if (!pen) return
    pen.drawImage(image, 0, 0, 64, 64)
    pen.fillStyle = "#b3261e"
    pen.beginPath()
    if (sign === "•") pen.arc(50, 14, 13, 0, 7)
    else pen.roundRect(64 - (14 + 18 * sign.length), 0, 14 + 18 * sign.length, 36, 16)
    pen.fill()
    if (sign !== "•") {
      pen.fillStyle = "#fff"
      pen.font = "bold 30px sans-serif"
      pen.textAlign = "center"
      pen.textBaseline = "middle"
      pen.fillText(sign, 64 - (14 + 18 * sign.length) / 2, 19)
    }
    icon.href = canvas.toDataURL("image/png")
  })
  image.src = plain
}

// ---- this browser, with no page open ----

const policy = /** @type {any} */ (window).trustedTypes?.createPolicy("worker", { createScriptURL: (/** @type {string} */ path) => (path === "/sw.js" ? path : "") })
const WANTED = `howdah.push.${data.me?.id ?? 0}`
const PAGES = "howdah-pages-"

/** The house's worker in this browser; it comes with the first thing that needs it. @returns {Promise<ServiceWorkerRegistration>} */
export async function worker() {
  await navigator.serviceWorker.register(policy ? policy.createScriptURL("/sw.js") : "/sw.js", { updateViaCache: "none" })
  return navigator.serviceWorker.ready
}

export const pushes = () => store.get(WANTED) !== null

/** Has this browser told with no page open, or no more. @param {boolean} on */
export async function push(on) {
  if (!on) {
    store.remove(WANTED)
    const one = await (await navigator.serviceWorker.getRegistration())?.pushManager.getSubscription()
    await one?.unsubscribe()
    const { devices } = await api("GET", "/devices")
    for (const mine of devices) if (mine.current) await api("DELETE", "/devices/" + mine.id)
    return
  }
  const { key } = await api("GET", "/devices")
  const manager = (await worker()).pushManager
  let one = await manager.getSubscription()
  const theirs = one?.options.applicationServerKey
  if (one && theirs && btoa(String.fromCharCode(...new Uint8Array(theirs))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "") !== key) { // of a house that was before
    await one.unsubscribe()
    one = null
  }
  one ??= await manager.subscribe({ userVisibleOnly: true, applicationServerKey: key })
  await api("POST", "/devices", one.toJSON())
  store.set(WANTED, "1")
}

export const keeps = () => caches.has(PAGES + data.me?.id)

/** Keeps the rooms that are read here for when there is no network, or forgets them. @param {boolean} on */
export async function offline(on) {
  if (!on) {
    await caches.delete(PAGES + data.me?.id)
    return
  }
  await worker()
  await caches.open(PAGES + data.me?.id)
}

/** Rooms that I am not in any more are not kept. */
async function prune() {
  if (!("caches" in window) || !(await keeps())) return
  const cache = await caches.open(PAGES + data.me?.id)
  for (const one of await cache.keys()) if (!rooms.has(Number(new URL(one.url).pathname.split("/")[2]))) await cache.delete(one)
}
live.on("rooms", prune)
live.on("hello", prune)

/** The room is kept as it is when it is left. */
function keep() {
  if (document.visibilityState === "hidden" && data.room && live.ready()) navigator.serviceWorker?.controller?.postMessage({ keep: "/room/" + data.room })
}

// After signing in again, or when the house has lost its memory of it, the browser says anew where it is reached: once for each window.
if (pushes() && "serviceWorker" in navigator && Notification.permission === "granted") {
  try {
    if (!sessionStorage.getItem(WANTED)) push(true).then(() => sessionStorage.setItem(WANTED, "1"), () => {})
  } catch { /* no storage, no memory */ }
}

// ---- who sits here ----

const AWAY = 3 * 60 * 1000 // without a sign of life
let touched = Date.now()
let there = false

/** Tells the house whether somebody sits before this page: then nothing is pushed elsewhere. @param {boolean} [again] */
function attend(again) {
  const now = document.visibilityState === "visible" && document.hasFocus() && Date.now() - touched < AWAY
  if (now || there || again) live.send({ do: "attend", seq: now ? 1 : 0 })
  there = now
}
for (const sign of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) addEventListener(sign, () => { touched = Date.now() }, { passive: true, capture: true })
addEventListener("focus", () => { touched = Date.now(); attend() })
addEventListener("blur", () => attend())
document.addEventListener("visibilitychange", () => { attend(); keep() })
setInterval(() => attend(), 45000)
live.on("hello", () => attend(true))
attend(true)

onPost(hear)
onCount(count)
others?.addEventListener("message", (event) => drop(event.data))
live.on("read", (frame) => clear(frame.room, frame.seq, frame.threads === 0))
live.on("hello", (frame) => { for (const room of frame.rooms) clear(room.id, room.read, room.threads === 0) })
count()

// The page of notification settings: what this browser may do, and the time zones that there are.

import { byId, data, store, t, within } from "./page.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import * as sidebar from "./sidebar.js"

const on = /** @type {HTMLButtonElement} */ (byId("here-on"))
const trial = /** @type {HTMLButtonElement} */ (byId("here-try"))
const OFF = "howdah.told.off"

function state() {
  const line = byId("here-state")
  on.hidden = trial.hidden = true
  if (!(/** @type {object} */ (window).hasOwnProperty("Notification"))) line.textContent = t(window.isSecureContext ? "told.never" : "told.insecure")
  else if (Notification.permission === "denied") line.textContent = t("told.denied")
  else {
    const works = Notification.permission === "granted" && store.get(OFF) === null
    line.textContent = t(works ? "told.on" : "told.off")
    on.textContent = t(works ? "told.turn_off" : "told.turn_on")
    on.classList.toggle("main", !works)
    on.hidden = false
    trial.hidden = !works
  }
}

on.addEventListener("click", async () => {
  if (Notification.permission === "granted" && store.get(OFF) === null) store.set(OFF, "1")
  else {
    store.remove(OFF)
    await Notification.requestPermission()
  }
  state()
})

trial.addEventListener("click", async () => {
  const told = await import("./told.js")
  await told.show(t("told.trial"), { body: t("told.trial.body"), tag: "trial", data: { url: location.pathname } })
})

/** A box that does something at once. @param {string} id @param {() => boolean | Promise<boolean>} is @param {(on: boolean) => Promise<void>} change */
async function box(id, is, change) {
  const label = byId(id)
  const tick = /** @type {HTMLInputElement} */ (within(label, "input"))
  label.hidden = !window.isSecureContext || !("serviceWorker" in navigator)
  if (label.hidden) return
  tick.checked = await is()
  tick.addEventListener("change", async () => {
    tick.disabled = true
    try {
      await change(tick.checked)
      byId("here-state").textContent = t("bell.saved")
    } catch (error) {
      byId("here-state").textContent = t("told.failed", { why: error instanceof Error ? error.message : String(error) })
    }
    tick.checked = await is()
    tick.disabled = false
  })
}

import("./told.js").then((told) => {
  if ("PushManager" in window) {
    box("here-push", told.pushes, async (on) => {
      if (on && await Notification.requestPermission() !== "granted") throw new Error(t("told.denied"))
      await told.push(on)
    })
  }
  box("here-offline", told.keeps, told.offline)
})

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone
const field = /** @type {HTMLInputElement} */ (byId("zone"))
if (zone && field.value === "UTC") field.value = zone
byId("zones").replaceChildren(...Intl.supportedValuesOf("timeZone").map((name) => {
  const option = document.createElement("option")
  option.value = name
  return option
}))

state()
if (data.me) {
  sidebar.start()
  outbox.start()
  live.start(() => ({ room: 0, since: 0 }))
}

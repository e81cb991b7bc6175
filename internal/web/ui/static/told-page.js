// The page of notification settings: what this browser may do, and the time zones that there are.

import { byId, data, store, t } from "./page.js"
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

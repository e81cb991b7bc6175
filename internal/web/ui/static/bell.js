// The bells: what I want to be told of in a room, and in a thread. A choice holds at once.

import { Refusal, api, byId, data, moment, t, within } from "./page.js"

/** @typedef {{bell: string, mute_until?: string}} Ring */
/** @typedef {(why: string) => void} Complain */

const MINUTE = 60000

/** @param {HTMLElement} panel @param {Ring} ring */
function show(panel, ring) {
  for (const one of /** @type {NodeListOf<HTMLInputElement>} */ (panel.querySelectorAll("[name=bell]"))) one.checked = one.value === ring.bell
  const select = /** @type {HTMLSelectElement} */ (within(panel, "select"))
  const keep = /** @type {HTMLOptionElement} */ (within(select, "[value=keep]"))
  const holds = !!ring.mute_until && Date.parse(ring.mute_until) > Date.now()
  keep.hidden = !holds
  keep.textContent = holds ? t("bell.muted", { until: moment(new Date(ring.mute_until ?? 0)) }) : ""
  select.value = holds ? "keep" : ""
  const until = /** @type {HTMLInputElement} */ (within(panel, "[name=until]"))
  until.value = holds ? ring.mute_until ?? "" : ""
}

/** @param {HTMLElement} panel @param {() => string} path @param {(ring: Ring) => void} done @param {Complain} complain */
function wire(panel, path, done, complain) {
  if (panel.dataset.wired) return
  panel.dataset.wired = "1"
  const form = /** @type {HTMLFormElement} */ (within(panel, "form"))
  const change = async () => {
    const fields = new FormData(form)
    const mute = fields.get("mute")
    /** @type {Ring} */
    const ring = { bell: String(fields.get("bell") ?? ""), mute_until: undefined }
    if (mute === "keep") ring.mute_until = String(fields.get("until"))
    else if (mute) ring.mute_until = new Date(Date.now() + Number(mute) * MINUTE).toISOString()
    try {
      await api("PUT", path(), ring)
      show(panel, ring)
      done(ring)
      within(panel, "[role=status]").textContent = t("bell.saved")
    } catch (error) {
      complain(error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error))
    }
  }
  form.addEventListener("change", change)
  form.addEventListener("submit", (event) => {
    event.preventDefault()
    change()
  })
}

/** @param {Ring} ring */
const silent = (ring) => ring.bell === "nothing" || !!ring.mute_until

/** @param {Complain} complain */
export function ofRoom(complain) {
  const panel = byId("bell")
  wire(panel, () => `/rooms/${data.room}/bell`, (ring) => byId("bell-button").classList.toggle("off", silent(ring)), complain)
}

let thread = 0
/** @param {number} root @param {Ring} ring @param {(ring: Ring) => void} done @param {Complain} complain */
export function ofThread(root, ring, done, complain) {
  const panel = byId("thread-bell")
  thread = root
  show(panel, ring)
  within(panel, "[role=status]").textContent = ""
  wire(panel, () => `/rooms/${data.room}/threads/${thread}/bell`, done, complain)
}

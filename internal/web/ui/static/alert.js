// Answering an alert of the house, under its message. The forms are plain ones; this sends them without leaving the page, and shows what others answered.

import { Refusal, api, byId, clone, data, moment, t, within } from "./page.js"
import * as outbox from "./outbox.js"

/** @typedef {import("./page.js").Alert} Alert */

/** The title of a rule in the language of the page. @param {{id: string, title: Record<string, string>}} rule */
const title = (rule) => rule.title[data.locale] || rule.title.en || rule.id

/** What somebody answered, in words; view.go says it in the same. @param {Alert["answers"][0]} answer */
export function saying(answer) {
  const said = t("alert.said." + answer.what, { name: answer.by.name, until: answer.until ? moment(new Date(answer.until)) : "" })
  return answer.note ? t("alert.note", { said, note: answer.note }) : said
}

/** @param {Element} list @param {string[]} texts */
export function fillList(list, texts) {
  list.replaceChildren(...texts.map((text) => {
    const one = document.createElement("li")
    one.dir = "auto"
    one.textContent = text
    return one
  }))
}

/** Shows under a message how its alert stands. Nothing is made anew, so that the focus stays where it is. @param {HTMLElement} line @param {Alert} alert */
export function show(line, alert) {
  if (!data.may?.answer) return
  let box = /** @type {HTMLElement | null} */ (line.querySelector(".alert:not(.way)"))
  if (!box) {
    box = clone("t-alert")
    within(line, ".edited").after(box)
  }
  box.dataset.state = alert.state
  const pill = /** @type {HTMLElement} */ (within(box, ".said").firstElementChild)
  within(pill, ".pill").textContent = t("alert.state." + alert.state)
  within(box, ".said").replaceChildren(pill, ...alert.answers.map((answer) => {
    const one = document.createElement("li")
    const text = document.createElement("span")
    text.dir = "auto"
    text.textContent = saying(answer)
    const time = document.createElement("time")
    time.dateTime = answer.at
    time.textContent = moment(new Date(answer.at))
    one.append(text, " ", time)
    return one
  }))
  within(box, ".caution").hidden = !(alert.critical && alert.state === "open" && alert.answers.at(-1)?.what === "mine")
  const form = /** @type {HTMLFormElement} */ (within(box, "form"))
  const plan = /** @type {HTMLButtonElement | null} */ (form.querySelector("[value=plan]"))
  if (plan) {
    plan.hidden = !alert.back
    plan.formAction = `/room/${data.room}/messages/${line.dataset.seq}/back`
  }
  form.action = `/room/${data.room}/messages/${line.dataset.seq}/answer`
  const look = form.querySelector("a")
  if (look) {
    look.href = "/watch?incident=" + encodeURIComponent(alert.incident)
    look.hidden = alert.incident.includes("/") // of an adopted cluster, which the page knows nothing of
  }
  const cover = /** @type {HTMLInputElement} */ (within(form, "[name=cover]"))
  const id = alert.cover?.id ?? ""
  // What is confirmed is what was read: when it changes under the finger, it has to be opened again.
  if (cover.value !== id) /** @type {HTMLDetailsElement} */ (within(form, "details")).open = false
  cover.value = id
  within(form, ".cover").hidden = !alert.cover
  within(form, ".never").hidden = !!alert.cover
  if (alert.cover) {
    const comma = t("comma")
    within(form, ".origin").textContent = t("alert.who", { actor: alert.cover.actor, network: alert.cover.network })
    fillList(within(form, ".acts"), alert.cover.rules.map((rule) => t("alert.app", { rule: title(rule), kinds: rule.kinds.join(comma),
      apps: rule.apps.map((app) => app || t("alert.noapp")).join(comma) })))
    within(form, ".still").hidden = alert.loud.length === 0
    within(form, ".still span").textContent = alert.loud.map(title).join(comma)
  }
}

/** @param {(why: string) => void} complain */
export function start(complain) {
  byId("lines").addEventListener("toggle", (event) => { // what opens at the end of the history opens below it
    const details = /** @type {HTMLDetailsElement} */ (event.target)
    if (details.open) details.scrollIntoView({ block: "nearest" })
  }, true)
  byId("lines").addEventListener("submit", async (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target)
    const box = /** @type {HTMLElement | null} */ (form.closest(".alert"))
    const line = /** @type {HTMLElement | null} */ (form.closest(".msg"))
    if (!box || !line) return
    event.preventDefault()
    if (box.ariaBusy === "true") return
    const what = /** @type {HTMLButtonElement | null} */ (event.submitter)?.value ?? ""
    const fields = new FormData(form)
    const back = what === "plan" || box.classList.contains("way")
    box.ariaBusy = "true"
    line.tabIndex = -1
    line.focus({ preventScroll: true }) // the button goes
    try {
      await api("POST", `/rooms/${data.room}/messages/${line.dataset.seq}/${back ? "back" : "answer"}`, { client_id: outbox.uuid(), what,
        ...(what === "muted" ? { days: Number(fields.get("days")), cover: String(fields.get("cover")) } : {}) })
      for (const details of form.querySelectorAll("details")) details.open = false
    } catch (error) {
      complain(error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error))
    } finally {
      box.ariaBusy = "false"
    }
  })
}

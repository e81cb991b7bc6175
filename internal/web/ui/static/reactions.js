// Reactions under a message, and the box in which one looks for an emoji by name.

import { Refusal, api, byId, clone, data, t, within } from "./page.js"

/** @typedef {{emoji: string, count: number, people: import("./page.js").Person[]}} Reaction */

/** @type {(why: string) => void} */
let complain = () => {}

/** What I put where beyond those who are named, as far as this page knows: `seq emoji`. @type {Map<string, boolean>} */
const beyond = new Map()

/** Shows what stands on a message; marks.go says it in the same words. Buttons that stay are kept, so that the focus is. @param {HTMLElement} line @param {Reaction[] | undefined} reactions */
export function show(line, reactions) {
  let form = /** @type {HTMLFormElement | null} */ (line.querySelector(".marks"))
  if (!reactions?.length) {
    if (form?.contains(document.activeElement)) line.focus()
    return form?.remove()
  }
  if (!form) {
    form = /** @type {HTMLFormElement} */ (clone("t-marks"))
    form.replaceChildren()
    const actions = line.querySelector(".actions")
    line.insertBefore(form, actions?.parentElement === line ? actions : null)
  }
  form.action = `/room/${data.room}/messages/${line.dataset.seq}/react`
  const old = new Map([...form.querySelectorAll("button")].map((one) => [one.value, one]))
  for (const reaction of reactions) {
    const button = old.get(reaction.emoji) ?? /** @type {HTMLButtonElement} */ (within(clone("t-marks"), "button"))
    old.delete(reaction.emoji)
    const named = reaction.people.some((one) => one.id === data.me?.id)
    const mine = named || reaction.count > reaction.people.length && (beyond.get(line.dataset.seq + " " + reaction.emoji) ?? button.ariaPressed === "true")
    button.value = reaction.emoji
    button.name = mine ? "off" : "on"
    button.ariaPressed = String(mine)
    button.disabled = !data.may?.post
    const list = reaction.people.map((one) => one.name).join(t("comma"))
    const more = reaction.count - reaction.people.length
    const who = t("react.who", { emoji: reaction.emoji, names: more > 0 ? t("react.more", { names: list, n: more }) : list })
    button.title = button.ariaLabel = who
    within(button, ".emoji").textContent = reaction.emoji
    within(button, "b").textContent = String(reaction.count)
    form.append(button)
  }
  for (const gone of old.values()) {
    if (gone === document.activeElement) line.focus()
    gone.remove()
  }
}

/** @param {number} seq @param {string} emoji @param {boolean} on */
async function react(seq, emoji, on) {
  try {
    beyond.set(seq + " " + emoji, on)
    await api(on ? "PUT" : "DELETE", `/rooms/${data.room}/messages/${seq}/reactions/${encodeURIComponent(emoji)}`)
  } catch (error) {
    complain(error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error))
  }
}

// ---- the picker ----

/** Where the emoji goes that is picked. @type {(emoji: string) => void} */
let picked = () => {}
/** @type {typeof import("./emoji.js") | null} */
let names = null
let chosen = 0

const recentKey = `howdah.emoji.${data.me?.id ?? 0}`
/** @returns {string[]} */
const recent = () => (localStorage.getItem(recentKey) ?? "").split(" ").filter(Boolean)

/** Lets the person pick an emoji beside something. @param {Element} beside @param {(emoji: string) => void} then */
export async function pick(beside, then) {
  names ??= await import("./emoji.js")
  const box = byId("picker")
  const search = /** @type {HTMLInputElement} */ (within(box, "input"))
  picked = then
  search.value = ""
  fill()
  box.showPopover()
  const at = beside.getBoundingClientRect()
  const size = box.getBoundingClientRect()
  box.style.left = Math.max(8, Math.min(at.right - size.width, innerWidth - size.width - 8)) + "px"
  box.style.top = Math.max(8, at.bottom + size.height + 8 > innerHeight ? at.top - size.height - 6 : at.bottom + 6) + "px"
  search.focus()
}

function options() {
  return /** @type {HTMLElement[]} */ ([...byId("picker-list").children])
}

function fill() {
  if (!names) return
  const search = /** @type {HTMLInputElement} */ (within(byId("picker"), "input"))
  let found = names.find(search.value)
  if (!search.value.trim()) {
    const mine = recent()
    const first = mine.map((emoji) => found.find((one) => one.emoji === emoji) ?? { emoji, names: [emoji], chinese: [emoji] })
    found = [...first, ...found.filter((one) => !mine.includes(one.emoji))]
  } else if (found.length === 0 && /^\p{Extended_Pictographic}|^[\p{Regional_Indicator}0-9#*]/u.test(search.value.trim())) {
    found = [{ emoji: search.value.trim(), names: [search.value.trim()], chinese: [search.value.trim()] }] // pasted, or from the phone's own keys
  }
  byId("picker-list").replaceChildren(...found.map((one, i) => {
    const option = document.createElement("div")
    option.setAttribute("role", "option")
    option.id = "emoji-" + i
    option.className = "emoji"
    option.textContent = one.emoji
    option.ariaLabel = option.title = names?.called(one, data.locale) ?? ""
    return option
  }))
  choose(0)
}

/** @param {number} i */
function choose(i) {
  const all = options()
  const search = within(byId("picker"), "input")
  const says = within(byId("picker"), "p")
  chosen = Math.max(0, Math.min(i, all.length - 1))
  for (const [at, one] of all.entries()) one.ariaSelected = String(at === chosen)
  const one = all[chosen]
  one?.scrollIntoView({ block: "nearest" })
  if (one) search.setAttribute("aria-activedescendant", one.id)
  else search.removeAttribute("aria-activedescendant")
  says.textContent = one ? `:${one.title}:` : t("picker.none")
}

/** @param {HTMLElement | undefined} option */
function take(option) {
  if (!option) return
  const emoji = option.textContent ?? ""
  try {
    localStorage.setItem(recentKey, [emoji, ...recent().filter((one) => one !== emoji)].slice(0, 16).join(" "))
  } catch { /* then it is not remembered */ }
  byId("picker").hidePopover()
  picked(emoji)
}

/** Puts an emoji of one's choice on a message. @param {HTMLElement} line @param {Element} beside */
export function choice(line, beside) {
  pick(beside, (emoji) => {
    react(Number(line.dataset.seq), emoji, true)
    line.focus({ preventScroll: true })
  })
}

/** @param {(why: string) => void} say */
export function start(say) {
  complain = say
  document.addEventListener("submit", (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target)
    if (!form.matches(".marks")) return
    event.preventDefault()
    const button = /** @type {HTMLButtonElement | null} */ (event.submitter)
    const line = /** @type {HTMLElement | null} */ (form.closest(".msg"))
    if (button && line) react(Number(line.dataset.seq), button.value, button.name === "on")
  })
  const box = document.getElementById("picker")
  if (!box) return
  const search = /** @type {HTMLInputElement} */ (within(box, "input"))
  search.addEventListener("input", fill)
  search.addEventListener("keydown", (event) => {
    if (event.isComposing) return
    const row = 8
    if (event.key === "ArrowRight") choose(chosen + 1)
    else if (event.key === "ArrowLeft") choose(chosen - 1)
    else if (event.key === "ArrowDown") choose(chosen + row)
    else if (event.key === "ArrowUp") choose(chosen - row)
    else if (event.key === "Enter") take(options()[chosen])
    else return
    event.preventDefault()
  })
  byId("picker-list").addEventListener("click", (event) => take(/** @type {HTMLElement | null} */ (/** @type {HTMLElement} */ (event.target).closest("[role=option]")) ?? undefined))
}

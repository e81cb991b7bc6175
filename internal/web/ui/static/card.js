// What the links of a message lead to. card.go shows the same.

import { Refusal, api, clone, data, t, within } from "./page.js"

/** @typedef {{id: string, address: string, title: string, description?: string, site: string, width?: number, height?: number}} Card */

/** @param {number} seq @param {Card} card @param {boolean} mine */
function draw(seq, card, mine) {
  const one = clone("t-card")
  const at = `/room/${data.room}/messages/${seq}/cards/${card.id}`
  one.dataset.card = card.id
  within(one, ".site").textContent = card.site
  for (const link of one.querySelectorAll("a")) link.href = card.address
  within(one, ".name").textContent = card.title
  const text = within(one, "p")
  text.textContent = card.description ?? ""
  text.hidden = !card.description
  if (card.width && card.height) {
    const img = /** @type {HTMLImageElement} */ (within(one, "img"))
    img.width = card.width
    img.height = card.height
    img.src = at
  } else within(one, ".picture").remove()
  const form = /** @type {HTMLFormElement} */ (within(one, "form"))
  if (mine && data.may?.post || data.may?.deleteAny) {
    form.action = at + "/remove"
    const button = within(form, "button")
    button.ariaLabel = button.title = t("card.remove", { title: card.title })
  } else form.remove()
  return one
}

/** Shows the cards of a message in its line; those that stand there stay. @param {HTMLElement} line @param {number} seq @param {Card[] | undefined} cards @param {boolean} mine */
export function show(line, seq, cards, mine) {
  let box = /** @type {HTMLElement | null} */ (line.querySelector(":scope > .cards"))
  if (!cards?.length || data.cards === false) {
    if (box?.contains(document.activeElement)) line.focus()
    return box?.remove()
  }
  if (!box) {
    box = document.createElement("div")
    box.className = "cards"
    const before = line.querySelector(":scope > .files") ?? within(line, ".edited")
    before.after(box)
  }
  const old = new Map([...box.children].map((one) => [/** @type {HTMLElement} */ (one).dataset.card, one]))
  const focused = box.contains(document.activeElement)
  for (const card of cards) {
    box.append(old.get(card.id) ?? draw(seq, card, mine))
    old.delete(card.id)
  }
  for (const gone of old.values()) gone.remove()
  if (focused && !box.contains(document.activeElement)) line.focus()
}

/** @param {(why: string) => void} complain */
export function start(complain) {
  document.addEventListener("submit", async (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target)
    if (!form.matches(".cards form")) return
    event.preventDefault()
    const seq = /** @type {HTMLElement} */ (form.closest(".msg")).dataset.seq
    const card = /** @type {HTMLElement} */ (form.closest("[data-card]")).dataset.card
    try {
      await api("DELETE", `/rooms/${data.room}/messages/${seq}/cards/${card}`)
    } catch (error) {
      complain(error instanceof Refusal ? [error.message, error.hint].join(" ") : String(error))
    }
  })
}

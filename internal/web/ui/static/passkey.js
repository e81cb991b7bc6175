// Passkeys: a button that signs in with one, and a form that adds one. Browsers bind each to the name of the house, so both are shown only where they work.

const place = document.getElementById("passkey")
const able = typeof PublicKeyCredential === "function" && "parseRequestOptionsFromJSON" in PublicKeyCredential

/** Asks the house. @param {string} path @param {unknown} body @returns {Promise<any>} */
async function ask(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json", accept: "application/json" }, body: JSON.stringify(body) })
  const value = await answer.json()
  if (!answer.ok) throw new Refused([value.error?.message, value.error?.hint].filter(Boolean).join(" "))
  return value
}

/** A refusal, as the house words it. */
class Refused extends Error {}

/** Runs one ceremony; what goes wrong is said in the page. @param {HTMLElement} where @param {() => Promise<void>} ceremony */
async function run(where, ceremony) {
  const note = /** @type {HTMLElement} */ (where.querySelector("[role=alert]"))
  note.textContent = ""
  const button = /** @type {HTMLButtonElement} */ (where.querySelector("button"))
  button.disabled = true
  try {
    await ceremony()
  } catch (why) {
    const given = why instanceof DOMException && (why.name === "NotAllowedError" || why.name === "AbortError")
    note.textContent = (why instanceof Refused && why.message) || note.dataset[given ? "cancelled" : "failed"] || ""
    button.disabled = false
    button.focus()
  }
}

/** @param {HTMLElement} where */
async function signIn(where) {
  const begun = await ask("/sign-in/passkey/begin", {})
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.options)
  const got = /** @type {PublicKeyCredential} */ (await navigator.credentials.get({ publicKey }))
  const done = await ask("/sign-in/passkey", { ticket: begun.ticket, next: where.dataset.next, response: got.toJSON() })
  location.assign(done.next)
}

/** @param {HTMLFormElement} form */
async function add(form) {
  const fields = new FormData(form)
  const begun = await ask("/me/security/passkeys/begin", { password: String(fields.get("password") ?? "") })
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.options)
  const made = /** @type {PublicKeyCredential} */ (await navigator.credentials.create({ publicKey }))
  const done = await ask("/me/security/passkeys", { ticket: begun.ticket, name: fields.get("name"), response: made.toJSON() })
  location.assign(done.next)
}

if (place && able && place.dataset.origin === location.origin) {
  place.hidden = false
  document.getElementById("passkey-elsewhere")?.remove()
  if (place instanceof HTMLFormElement) {
    place.addEventListener("submit", (event) => {
      event.preventDefault()
      void run(place, () => add(place))
    })
  } else {
    place.querySelector("button")?.addEventListener("click", () => void run(place, () => signIn(place)))
  }
}

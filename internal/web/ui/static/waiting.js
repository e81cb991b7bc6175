// The waiting page looks again by itself, and loads anew when the house is back: who has it read aloud hears what has changed,
// and not the whole page every three seconds. Without scripts it does just that.
import { byId } from "./page.js"

const pause = 3000

async function look() {
  try {
    const answer = await fetch("/healthz")
    if (answer.ok) return location.reload()
    const reason = (await answer.json()).error?.message
    if (reason && byId("reason").textContent !== reason) byId("reason").textContent = reason
  } catch {
    // nobody answers at all: the next look may find somebody
  }
  setTimeout(look, pause)
}

setTimeout(look, pause)

// The room page: puts the parts together.

import { byId, data, t } from "./page.js"
import * as alert from "./alert.js"
import * as card from "./card.js"
import * as actions from "./actions.js"
import * as composer from "./composer.js"
import * as drafts from "./drafts.js"
import * as files from "./files.js"
import * as history from "./history.js"
import * as live from "./live.js"
import * as outbox from "./outbox.js"
import * as panel from "./panel.js"
import * as reactions from "./reactions.js"
import * as sidebar from "./sidebar.js"
import * as thread from "./thread.js"

const banner = byId("banner")
let shown = 0

function state() {
  const now = live.current()
  const away = now === "offline" || now === "waiting"
  if (away) {
    clearTimeout(shown)
    shown = 0
    banner.classList.remove("bad")
    banner.textContent = t("banner." + now)
    banner.hidden = false
  } else if (!shown && now === "open") banner.hidden = true
}

/** Tells the person that something did not work. @param {string} why */
function complain(why) {
  banner.textContent = t("banner.failed", { why })
  banner.classList.add("bad")
  banner.hidden = false
  clearTimeout(shown)
  shown = setTimeout(() => {
    shown = 0
    banner.hidden = true
    state()
  }, 8000)
}

sidebar.start((room) => room === data.room && history.atEnd() && history.watching())
history.onEvent(sidebar.count)
history.onEvent(panel.hear)
history.start(composer.back)
panel.start()
history.onEvent(drafts.hear)
drafts.start()
composer.start(complain)
thread.start(complain)
actions.start(complain)
alert.start(complain)
reactions.start(complain)
files.start()
card.start(complain)
outbox.start()
live.on("state", state)
// A reader from outside hears nothing live: events go to members.
live.start(() => (data.self?.role ? { room: data.room, since: history.position() } : { room: 0, since: 0 }))

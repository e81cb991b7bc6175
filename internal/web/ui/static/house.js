// A page of the house outside its rooms: the sidebar lives, and what waits in the outbox goes out.

import * as live from "./live.js"
import * as outbox from "./outbox.js"
import * as sidebar from "./sidebar.js"

sidebar.start()
outbox.start()
live.start(() => ({ room: 0, since: 0 }))

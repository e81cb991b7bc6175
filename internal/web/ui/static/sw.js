// @ts-nocheck - a worker's globals are not a page's
// The worker of this house in a browser: it shows what is pushed while no page is open, and, where somebody asked for that, keeps the rooms they read for when
// there is no network. The server puts VERSION and FILES (the scripts of this version) before this. What is kept belongs to one person, and goes when anybody else comes, or nobody.

const STATIC = "howdah-static-" + VERSION
const PAGES = "howdah-pages-" // and the person: pages make it, and only then anything is kept
const SEEN = "howdah-seen"
const MOST = 40 // pages

self.addEventListener("install", (event) => event.waitUntil((async () => {
  const cache = await caches.open(STATIC)
  await cache.addAll([...FILES, "/offline"])
  await self.skipWaiting()
})()))

self.addEventListener("activate", (event) => event.waitUntil((async () => {
  for (const name of await caches.keys()) if (name.startsWith("howdah-static-") && name !== STATIC) await caches.delete(name)
  await self.clients.claim()
})()))

const kept = async () => (await caches.keys()).filter((name) => name.startsWith(PAGES))

/** Forgets all but one person's pages. */
async function forget(but = "") {
  for (const name of await kept()) if (name !== PAGES + but) await caches.delete(name)
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url)
  if (url.origin !== location.origin) return
  if (event.request.mode === "navigate") {
    if (url.pathname === "/sign-out") event.waitUntil(forget())
    else if (event.request.method === "GET") event.respondWith(page(event, url))
  } else if (url.pathname.startsWith("/static/")) event.respondWith(file(event.request, url))
})

/** Scripts under the hash of their version never change. Without a network, those of this version serve for others, as the server's do. */
async function file(request, url) {
  const cache = await caches.open(STATIC)
  const here = await cache.match(url.pathname)
  if (here) return here
  try {
    return await fetch(request)
  } catch (error) {
    const same = FILES.find((one) => one.split("/").slice(3).join("/") === url.pathname.split("/").slice(3).join("/"))
    const other = same && await cache.match(same)
    if (other) return other
    throw error
  }
}

/** What the house says is always right: what was kept is for when it cannot be reached. */
async function page(event, url) {
  let answer
  try {
    answer = await fetch(event.request)
  } catch {
    return away(url)
  }
  event.waitUntil(keep(url, answer.clone()))
  return answer
}

async function keep(url, answer) {
  const person = answer.headers.get("Howdah-Person")
  if (person) await forget(person)
  else if (url.pathname === "/sign-in" && answer.ok) await forget()
  if (person && answer.status === 404) for (const name of await kept()) await (await caches.open(name)).delete(url.pathname) // not theirs any more
  if (!person || answer.status !== 200 || !/^\/room\/\d+$/.test(url.pathname) || url.search || !(await caches.has(PAGES + person))) return
  const cache = await caches.open(PAGES + person)
  await cache.delete(url.pathname) // so that it is the last of all
  await cache.put(url.pathname, answer)
  const all = await cache.keys()
  for (const old of all.slice(0, Math.max(0, all.length - MOST))) await cache.delete(old)
}

async function away(url) {
  for (const name of await kept()) {
    const cache = await caches.open(name)
    const here = await cache.match(url.pathname)
    if (here) return here
    const last = (await cache.keys()).at(-1)
    if (url.pathname === "/" && last) return Response.redirect(new URL(last.url).pathname)
  }
  return await (await caches.open(STATIC)).match("/offline") ?? Response.error()
}

self.addEventListener("message", (event) => {
  const { keep: path, forget: all } = event.data ?? {}
  if (all) event.waitUntil(forget())
  if (typeof path === "string" && /^\/room\/\d+$/.test(path)) {
    event.waitUntil(fetch(path, { headers: { accept: "text/html" } }).then((answer) => keep(new URL(path, location.origin), answer), () => {}))
  }
})

// ---- what is pushed ----

self.addEventListener("push", (event) => event.waitUntil(told(event.data)))

async function told(data) {
  let one = { title: "Howdah", body: "", tag: "howdah", url: "/", seq: 0 }
  try { one = { ...one, ...data.json() } } catch { /* it says at least that there is something */ }
  // A push may come twice; the second time it makes no sound. It has to be shown all the same: for a push that shows nothing, browsers show something of their own.
  const seen = await caches.open(SEEN)
  const mark = "/" + one.person + "/" + one.tag
  const before = Number(await (await seen.match(mark))?.text() ?? 0)
  const again = one.seq !== 0 && one.seq === before
  await seen.put(mark, new Response(String(one.seq)))
  await self.registration.showNotification(one.title, { body: one.body, tag: one.tag, renotify: !again, silent: again, lang: one.lang, icon: VERSION + "mark.svg",
    data: { url: one.url, room: one.room, thread: one.thread, seq: one.seq, person: one.person } })
  if (one.count) await self.navigator.setAppBadge?.(one.count).catch(() => {})
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close()
  event.waitUntil(go(new URL(event.notification.data?.url ?? "/", location.origin)))
})

/** Opens the place in a page that is there, or in a new one. */
async function go(url) {
  if (url.origin !== location.origin) return
  const pages = await self.clients.matchAll({ type: "window" })
  const page = pages.find((one) => one.focused) ?? pages[0]
  if (page) {
    try {
      await page.focus()
      await page.navigate(url.href)
      return
    } catch { /* not one of ours any more */ }
  }
  await self.clients.openWindow(url.href)
}

self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil((async () => {
  const next = event.newSubscription ?? await self.registration.pushManager.subscribe(event.oldSubscription.options)
  await fetch("/api/v1/devices", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(next) })
})()))

// The files of a message: what they look like in its line, and pictures in large.

import { clone, data, t, within } from "./page.js"

/** @typedef {{n: number, name: string, type: string, size: number, width?: number, height?: number, alt?: string, excerpt?: string}} Shared */

const WIDTH = 420 // see file.go
const HEIGHT = 320

/** How a file is shown; file.go has the same rule. @param {Shared} file */
function form(file) {
  const kind = file.type.split("/")[0]
  if (kind === "image" && file.width) return "image"
  if (kind === "video" || kind === "audio") return kind
  if (file.type === "text/plain") return "text"
  return file.type === "application/pdf" || kind === "image" ? "page" : "file"
}

/** A number of bytes as people read it; file.go has the same rule. @param {number} n */
export function weight(n) {
  const units = ["B", "kB", "MB", "GB", "TB"]
  let i = 0
  for (; n >= 999.5 && i < units.length - 1; i++) n /= 1000
  return n.toFixed(i > 0 && n < 9.95 ? 1 : 0) + " " + units[i]
}

/** @param {number} seq @param {Shared} file */
function draw(seq, file) {
  const is = form(file)
  const one = clone("t-file-" + is)
  const at = `/room/${data.room}/messages/${seq}/`
  const open = `${at}files/${file.n}/${encodeURIComponent(file.name)}`
  if (is === "image") {
    const k = Math.min(1, WIDTH / (file.width ?? 1), HEIGHT / (file.height ?? 1))
    const img = /** @type {HTMLImageElement} */ (within(one, "img"))
    img.width = Math.max(1, Math.round((file.width ?? 1) * k))
    img.height = Math.max(1, Math.round((file.height ?? 1) * k))
    img.alt = file.alt || t("files.picture", { name: file.name })
    img.src = `${at}previews/${file.n}`
    const link = within(one, ".picture")
    link.setAttribute("href", open)
    link.title = file.name
  } else if (is === "video" || is === "audio") {
    const media = /** @type {HTMLMediaElement} */ (within(one, is))
    media.ariaLabel = file.name
    media.src = open
  } else if (is === "text") within(one, ".excerpt").textContent = file.excerpt ?? ""
  const name = within(one, ".name")
  name.setAttribute("href", is === "file" ? open + "?save" : open)
  within(name, "bdi").textContent = file.name
  within(one, "small").textContent = weight(file.size)
  const save = within(one, ".save")
  save.setAttribute("href", open + "?save")
  save.ariaLabel = `${save.title} ${file.name}`
  return one
}

/** Shows the files of a message in its line: those that stand there stay, so that what plays goes on. @param {HTMLElement} line @param {number} seq @param {Shared[] | undefined} files */
export function show(line, seq, files) {
  let box = /** @type {HTMLElement | null} */ (line.querySelector(":scope > .files"))
  if (!files?.length) return box?.remove()
  if (box) return
  box = document.createElement("div")
  box.className = "files"
  box.setAttribute("role", "group")
  box.ariaLabel = t("files.n", { n: files.length })
  box.append(...files.map((one) => draw(seq, one)))
  within(line, ".edited").after(box)
}

/** What a line says aloud of its files. @param {Element | null} line */
export function told(line) {
  const names = [...line?.querySelectorAll(":scope > .files .name bdi") ?? []].map((one) => one.textContent)
  return names.join(t("comma"))
}

export function start() {
  document.addEventListener("click", async (event) => {
    const link = /** @type {HTMLAnchorElement | null} */ (/** @type {Element} */ (event.target).closest(".files .picture"))
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return
    event.preventDefault()
    const viewer = await import("./viewer.js")
    viewer.open(link)
  })
}

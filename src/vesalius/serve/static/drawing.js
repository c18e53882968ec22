// One job on a page: its place, how far it is, previews, images as they come, what to do with them.
"use strict";
import { API, complain, el, get, me, picture, plural, reason, remove, say, spell } from "./app.js";
import { openPicture } from "./picture.js";

const OVER = ["done", "failed", "cancelled"];
const POLL_MS = 2000;

export class Drawing {
  /** `onImages(images)` is called whenever images have come: [{number, id}]. */
  constructor(root, hint, { onImages = () => {} } = {}) {
    Object.assign(this, { root, hint, onImages });
    this.id = null;
    this.previews = new Map();
    addEventListener("server-back", () => { if (this.id) this.open(); });
    addEventListener("image-deleted", (event) => this.list?.querySelector(`[data-id="${event.detail}"]`)?.remove());
    this.empty();
  }

  empty() { this.root.replaceChildren(el("p", { class: "hint" }, this.hint)); }

  /** Show a job, from now on until it is over; null shows none. */
  follow(id) {
    if (id === this.id) return;
    this.leave();
    this.id = id;
    if (!id) { this.empty(); return; }
    this.build();
    this.open();
  }

  leave() {
    this.source?.close();
    clearInterval(this.clock);
    clearTimeout(this.later);
    for (const url of this.previews.values()) URL.revokeObjectURL(url);
    this.previews.clear();
    this.id = this.job = null;
  }

  build() {
    this.title = el("h2");
    this.status = el("p", { class: "status" }, "One moment");
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "Progress" });
    this.cancel = el("button", { type: "button", class: "quiet", hidden: true, on: { click: () => this.stop() } }, "Cancel");
    this.error = el("p", { class: "error", role: "alert" });
    this.notes = el("ul", { class: "notes" });
    this.list = el("ul", { class: "tiles", "aria-label": "Images" });
    this.after = el("div", { class: "buttons after", hidden: true });
    this.root.replaceChildren(
      el("header", { class: "jobhead" }, this.title, el("div", { class: "progress" }, this.bar, this.status, this.cancel)),
      this.error, this.notes, this.list, this.after);
  }

  open() {
    this.source?.close();
    clearTimeout(this.later);
    const source = new EventSource(`${API}/jobs/${this.id}/events`);
    this.source = source;
    const hear = (name, does) => source.addEventListener(name, (event) => { if (this.source === source) does.call(this, JSON.parse(event.data)); });
    hear("job", this.take);
    hear("step", this.step);
    hear("image", (image) => { this.image(image); this.onImages(this.images()); });
    source.addEventListener("error", () => this.lost(source));
  }

  async lost(source) {
    if (this.source !== source || (this.job && OVER.includes(this.job.state))) return;
    const answer = await get(`jobs/${this.id}`);
    if (this.source !== source) return;
    if (answer.ok) { this.take(answer.data); if (source.readyState === EventSource.CLOSED && !OVER.includes(answer.data.state)) this.again(1000); }
    else if (answer.status) { source.close(); this.bar.hidden = true; this.status.textContent = ""; complain(this.error, answer.status === 404 ? "There is no such job any more." : reason(answer)); }
  }

  take(job) {
    const before = this.job;
    this.job = job;
    this.title.textContent = job.prompt;
    while (this.list.children.length < job.total) this.list.append(this.tile(this.list.children.length));
    for (const image of job.images) this.image(image);
    this.notes.replaceChildren(...job.warnings.map((text) => el("li", {}, text)));
    complain(this.error, job.state === "failed" ? `This could not be drawn: ${job.error}` : "");
    this.eta(job.eta_seconds);
    this.tell();
    if (before?.state !== job.state || before?.place !== job.place) say(this.words());
    if (job.images.length && job.images.length !== before?.images.length) this.onImages(job.images);
    if (OVER.includes(job.state)) this.finish();
    // a browser has few connections to a server, and each stream of events takes one
    else if (job.place > 1) { this.source.close(); this.again(POLL_MS); }
  }

  again(ms) {
    clearTimeout(this.later);
    this.later = setTimeout(() => this.open(), ms);
  }

  step({ done, step, eta_seconds, previews }) {
    if (!this.job) return;
    Object.assign(this.job, { done, step });
    if (this.job.state === "queued") Object.assign(this.job, { state: "running", place: 0 });
    this.eta(eta_seconds);
    for (const { number, png } of previews) this.preview(number, png);
    this.tell();
  }

  eta(seconds) {
    this.until = seconds === null || seconds === undefined ? null : performance.now() + seconds * 1000;
    clearInterval(this.clock);
    this.clock = setInterval(() => this.tell(), 1000);
  }

  words() {
    const { state, place, done, total, step, steps, owner } = this.job;
    const left = this.until === null ? "" : `, ${spell(Math.max(0, this.until - performance.now()) / 1000)} left`;
    if (state === "queued") return place > 1 ? `Waiting: ${plural(place - 1, "job")} before it${left}` : `Next in the queue${left}`;
    if (state === "running") return `${total === 1 ? "Step" : `${Math.floor(done + 1e-6)} of ${total} drawn, step`} ${step} of ${steps || "?"}${left}`;
    if (state === "done") return `${plural(total, "image")} drawn${owner === me() ? "" : ` by ${owner}`}`;
    return state === "failed" ? "Failed" : `Cancelled${this.job.images.length ? `; ${plural(this.job.images.length, "image")} kept` : ""}`;
  }

  tell() {
    const { state, done, total, owner } = this.job;
    const over = OVER.includes(state);
    this.status.textContent = this.words();
    this.bar.hidden = over;
    this.bar.value = total ? done / total : 0;
    this.cancel.hidden = over || owner !== me();
  }

  tile(number) {
    return el("li", { class: "tile waiting", "data-number": number }, el("span", { class: "unseen" }, `Image ${number + 1} is not drawn yet`));
  }

  preview(number, png) {
    const tile = this.list.children[number];
    if (!tile || tile.dataset.id) return;
    const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    const old = this.previews.get(number);
    this.previews.set(number, url);
    let shown = tile.querySelector("img");
    if (!shown) { shown = el("img", { class: "preview", alt: "" }); tile.append(shown); }
    shown.src = url;
    if (old) URL.revokeObjectURL(old);
  }

  image({ number, id }) {
    const tile = this.list.children[number];
    if (this.job && !this.job.images.some((one) => one.number === number)) this.job.images.push({ number, id });
    if (!tile || tile.dataset.id) return;
    tile.dataset.id = id;
    tile.classList.remove("waiting");
    const preview = tile.querySelector(".preview");
    const shown = el("img", { alt: `${this.job?.prompt ?? "Image"}, image ${number + 1}`, src: picture(id, "jpeg") });
    shown.addEventListener("load", () => preview?.remove());
    tile.replaceChildren(el("button", { type: "button", class: "open", on: { click: () => openPicture(id) } }, shown), ...(preview ? [preview] : []));
  }

  images() { return [...(this.job?.images ?? [])].sort((a, b) => a.number - b.number); }

  async stop() {
    this.cancel.disabled = true;
    const answer = await remove(`jobs/${this.id}`);
    this.cancel.disabled = false;
    if (!answer.ok) complain(this.error, reason(answer));
    else this.take(answer.data);
  }

  finish() {
    this.source.close();
    clearInterval(this.clock);
    for (const tile of this.list.querySelectorAll(".waiting")) tile.remove();
    const ids = this.images().map((image) => image.id);
    this.after.hidden = !ids.length;
    if (!ids.length) return;
    this.after.replaceChildren(...downloads(ids),
      ...(ids.length > 1 ? [el("a", { class: "button small", href: `compare?${ids.slice(0, 4).map((id) => `id=${id}`).join("&")}` }, "Compare")] : []),
      el("a", { class: "button small", href: `library?job=${this.id}` }, "In the library"));
  }
}

/** Links that download images as a ZIP with its manifest, in each format. */
export function downloads(ids) {
  const query = ids.map((id) => `id=${id}`).join("&");
  return [el("span", { class: "soft" }, "Download with manifest"),
    ...["PNG", "JPEG", "DICOM"].map((name) => el("a", { class: "button small", download: true, href: `${API}/archive?${query}&format=${name.toLowerCase()}`, "aria-label": `ZIP of ${name} files` }, name))];
}

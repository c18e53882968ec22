// All images made here: searched, selected, downloaded, deleted.
"use strict";
import { complain, el, find, get, me, picture, plural, reason, remove, say } from "./app.js";
import { change, collect, fill, params, write } from "./address.js";
import { downloads } from "./drawing.js";
import { openPicture } from "./picture.js";

const PAGE = 60, MOST_SELECTED = 64, TYPING_MS = 300;
const form = find("search"), tiles = find("tiles"), error = find("error");
const selected = new Map(); // id to image
let next = null, asked = 0, timer = 0, total = 0;

function query(before) {
  const from = params(), wanted = new URLSearchParams({ limit: PAGE });
  for (const name of ["words", "label", "model", "job"]) if (from.get(name)) wanted.set(name, from.get(name));
  if (from.get("own") === "1") wanted.set("owner", me());
  if (before) wanted.set("before", before);
  return `images?${wanted}`;
}

async function load(more = false) {
  const mine = ++asked;
  const answer = await get(query(more ? next : null));
  if (mine !== asked) return;
  complain(error, answer.ok ? "" : reason(answer));
  if (!answer.ok) { addEventListener("server-back", () => load(), { once: true }); return; }
  const { images } = answer.data;
  const before = tiles.children.length;
  const made = images.map(tile);
  if (more) tiles.append(...made); else tiles.replaceChildren(...made);
  next = answer.data.next;
  total = answer.data.total;
  find("more-images").hidden = next === null;
  if (more) tiles.children[before]?.querySelector("button").focus();
  count();
}

function count() {
  const searched = ["words", "label", "model", "job", "own"].some((name) => params().get(name));
  const shown = tiles.children.length;
  let text = searched ? `${plural(shown, "image")}${next === null ? "" : " and more"} found` : `${plural(total, "image")}, the newest first`;
  if (!shown) text = searched ? "Nothing is found: change or clear the search." : "Nothing is drawn here yet. What Generate and Steer draw is kept here.";
  find("found").textContent = text;
}

function tile(image) {
  const box = el("input", { type: "checkbox", "aria-label": `Select: ${image.title}, seed ${image.seed}`, on: { change: (event) => select(image, event.target) } });
  box.checked = selected.has(image.id);
  return el("li", { class: "tile", "data-id": image.id },
    el("button", { type: "button", class: "open", on: { click: () => openPicture(image.id) } },
      el("img", { src: picture(image.id, "thumbnail"), alt: `${image.title}, seed ${image.seed}`, loading: "lazy" })),
    el("label", { class: "pick" }, box),
    el("p", {}, image.title, el("br"), image.label ? el("b", {}, `${image.label} `) : null, `seed ${image.seed}`));
}

function select(image, box) {
  if (box.checked && selected.size >= MOST_SELECTED) { box.checked = false; complain(error, `${MOST_SELECTED} images at most can be selected.`); return; }
  complain(error);
  if (box.checked) selected.set(image.id, image); else selected.delete(image.id);
  bar();
}

function bar() {
  const ids = [...selected.keys()];
  const own = [...selected.values()].filter((image) => image.owner === me());
  find("selection").hidden = !ids.length;
  if (!ids.length) return;
  find("selected").textContent = `${ids.length} selected`;
  find("selected-downloads").replaceChildren(...downloads(ids));
  const compare = find("selected-compare");
  compare.hidden = ids.length < 2 || ids.length > 4;
  compare.href = `compare?${ids.map((id) => `id=${id}`).join("&")}`;
  const button = find("selected-delete");
  button.hidden = !own.length;
  button.textContent = own.length === ids.length ? "Delete" : `Delete my ${own.length}`;
  button.dataset.asked = "";
}

function none() {
  selected.clear();
  for (const box of tiles.querySelectorAll("input")) box.checked = false;
  bar();
}

async function erase() {
  const button = find("selected-delete");
  const own = [...selected.values()].filter((image) => image.owner === me());
  if (!button.dataset.asked) { button.dataset.asked = "1"; button.textContent = `Delete ${plural(own.length, "image")} for good?`; return; }
  let done = 0;
  for (const image of own) {
    const answer = await remove(`images/${image.id}`);
    if (!answer.ok && answer.status !== 404) { complain(error, reason(answer)); break; }
    done += 1;
    gone(image.id);
  }
  say(`${plural(done, "image")} deleted.`);
  bar();
}

function gone(id) {
  selected.delete(id);
  const tile = tiles.querySelector(`[data-id="${id}"]`);
  if (tile) { tile.remove(); total -= 1; }
  count();
  bar();
}

async function show() {
  fill(form);
  find("only-job").hidden = !params().get("job");
  await load();
}

async function labels() {
  const { ok, data } = await get("labels");
  if (!ok) return;
  const chosen = params().get("label") ?? "";
  form.label.replaceChildren(new Option("All", "", true), ...data.labels.filter((one) => one.label).map((one) => new Option(`${one.label} (${one.images})`, one.label)));
  form.label.value = chosen;
}

function search() { write(collect(form)); load(); }
form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); search(); });
form.addEventListener("input", (event) => { clearTimeout(timer); timer = setTimeout(search, event.target.type === "text" ? TYPING_MS : 0); });
find("all-jobs").addEventListener("click", () => { change({ job: null }, true); show(); });
find("more-images").addEventListener("click", () => load(true));
find("selected-none").addEventListener("click", none);
find("selected-delete").addEventListener("click", erase);
addEventListener("image-deleted", (event) => gone(event.detail));
let last = "";
const searched = () => { const from = params(); from.delete("show"); return from.toString(); };
addEventListener("popstate", () => { if (searched() !== last) { last = searched(); show(); } });
await labels();
last = searched();
show();

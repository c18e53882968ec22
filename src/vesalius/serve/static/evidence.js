// Synthetic sets with their images, and reports in frames that run no scripts.
"use strict";
import "./picture.js";
import { API, complain, el, find, get, plural, reason } from "./app.js";
import { change, params } from "./address.js";

const PAGE = 60;
const result = find("result"), error = find("error");
let sets = [], reports = [], shown = null;

function link(name, id, text, note) {
  return el("li", {}, el("a", { href: `evidence?${name}=${id}`, "data-id": id, "data-name": name, on: { click: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    change({ set: null, report: null, first: null, [name]: id }, true);
    show();
  } } }, text, note ? el("small", {}, note) : null));
}

async function begin() {
  const [one, two] = await Promise.all([get("sets"), get("evidence")]);
  const bad = [one, two].find((answer) => !answer.ok);
  complain(error, bad ? reason(bad) : "");
  if (bad) { addEventListener("server-back", begin, { once: true }); return; }
  sets = one.data.sets;
  reports = two.data.evidence;
  const nothing = (text) => el("li", { class: "soft" }, text);
  find("sets").replaceChildren(...(sets.length ? sets.map((s) => link("set", s.id, s.name, [plural(s.images, "image"), s.model].filter(Boolean).join(", "))) : [nothing("None")]));
  find("reports").replaceChildren(...(reports.length ? reports.map((r) => link("report", r.id, r.title || r.name, r.title ? r.name : "")) : [nothing("None")]));
  show();
}

function show() {
  const found = params(), name = found.has("set") ? "set" : "report", id = found.get(name);
  const wanted = [name, id, found.get("first")].join();
  if (wanted === shown) return;
  shown = wanted;
  for (const one of document.querySelectorAll(".choices a")) {
    if (one.dataset.id === id && one.dataset.name === name) one.setAttribute("aria-current", "true"); else one.removeAttribute("aria-current");
  }
  result.classList.toggle("framed", name === "report" && !!id);
  if (name === "report" && id) report(id);
  else if (id) set(id, Math.max(0, Number(found.get("first")) || 0));
  else hint(sets.length + reports.length ? "Choose a set or a report." : "Nothing is shown here yet. Start the server with --show FOLDER for each synthetic set or report to look at.");
}

const hint = (text) => result.replaceChildren(el("p", { class: "hint" }, text));

function report(id) {
  const one = reports.find((found) => found.id === id);
  if (!one) { hint("There is no such report."); return; }
  const address = `${API}/evidence/${id}/report`;
  result.replaceChildren(el("header", { class: "jobhead" }, el("h2", {}, one.title || one.name), el("a", { href: address, target: "_blank", rel: "noopener" }, "Open on its own")),
    el("iframe", { sandbox: "", src: address, title: one.title || one.name }));
}

async function set(id, first) {
  const one = sets.find((found) => found.id === id);
  if (!one) { hint("There is no such set."); return; }
  const answer = await get(`sets/${id}/images?first=${first}&limit=${PAGE}`);
  if (!answer.ok) { hint(reason(answer)); return; }
  const { images, total } = answer.data;
  const turn = (to, text) => el("button", { type: "button", disabled: to < 0 || to >= total, on: { click: () => { change({ first: to || null }, true); show(); result.scrollIntoView(); } } }, text);
  result.replaceChildren(
    el("header", { class: "jobhead" }, el("h2", {}, one.name), el("span", { class: "soft" }, `${first + 1} to ${first + images.length} of ${total.toLocaleString("en")}`)),
    el("ul", { class: "tiles small", "aria-label": `Images of ${one.name}` }, images.map((image) => el("li", { class: "tile" },
      el("img", { src: `${API}/sets/${id}/images/${image.number}`, alt: image.prompt || `Image ${image.number}`, loading: "lazy" }),
      el("p", {}, image.label ? el("b", {}, `${image.label} `) : null, image.prompt)))),
    el("div", { class: "buttons" }, turn(first - PAGE, "Back"), turn(first + PAGE, "Next")));
}

addEventListener("popstate", show);
begin();

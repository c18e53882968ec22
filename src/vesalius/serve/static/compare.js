// Two to four images in linked views; or one setting changed from one image to the next.
"use strict";
import { complain, el, find, get, picture, reason } from "./app.js";
import { change, fill, params } from "./address.js";
import { choose } from "./chooser.js";
import { Grid } from "./grid.js";
import { Look, load } from "./look.js";
import "./picture.js";

const MOST = 4, BLINK_MS = 600; // slower than three flashes a second
const views = find("views"), viewers = find("viewers");
const known = new Map(); // id to {image, pixels}
let shown = "", timer = 0, at = 0, look = null;
const grid = new Grid();
const mode = () => [...views.querySelectorAll("input")].find((one) => one.checked).value;
const ids = () => [...new Set(params().getAll("id"))].slice(0, MOST);

async function one(id) {
  if (!known.has(id)) {
    const answer = await get(`images/${id}/about`);
    if (!answer.ok) throw new Error(answer.status === 404 ? "An image of this address is not in the library any more." : reason(answer));
    known.set(id, { image: answer.data, pixels: await load(answer.data) });
  }
  return known.get(id);
}

async function show() {
  fill({ elements: views.querySelectorAll("input") });
  const wanted = JSON.stringify([ids(), mode()]);
  if (wanted === shown) { grid.show(known.get(ids()[0])?.image); return; }
  shown = wanted;
  stop();
  complain(find("error"));
  const found = [];
  for (const id of ids()) {
    try { found.push(await one(id)); } catch (error) { complain(find("error"), error.message); }
  }
  if (wanted !== shown) return;
  listed(found);
  const isGrid = mode() === "grid";
  find("none").hidden = found.length > (isGrid ? 0 : 1);
  find("none").textContent = isGrid ? "Add an image: it is drawn again with one setting changed." : "Add two to four images. They zoom, move and change their window together.";
  find("vary").hidden = find("grid").hidden = !isGrid || !found.length;
  find("looking").hidden = isGrid || !found.length;
  find("blinking").hidden = mode() !== "blink" || found.length < 2;
  find("add").disabled = found.length >= MOST;
  if (isGrid) grid.show(found[0]?.image);
  else if (found.length) VIEWS[mode()](found);
}

function listed(found) {
  find("compared").replaceChildren(...found.map(({ image }, number) => el("li", {},
    el("img", { src: picture(image.id, "thumbnail"), alt: "" }),
    el("span", {}, el("b", {}, `${number + 1} `), `${image.title} `, el("small", {}, `seed ${image.seed}`)),
    el("button", { type: "button", class: "quiet", "aria-label": `Remove image ${number + 1}`, on: { click: () => { change({ id: ids().filter((id) => id !== image.id) }, true); show(); find("add").focus(); } } }, "Remove"))));
}

/** New places for views, with their names. */
function places(names) {
  for (const tools of find("looking").querySelectorAll(".tools")) tools.remove();
  const made = names.map((name) => el("div", { class: "view" }, el("div", { class: "side" }, name)));
  viewers.replaceChildren(...made);
  look = new Look(made);
  viewers.after(look.tools);
}

const name = ({ image }, number) => `${number + 1}  ${image.title}`;

const VIEWS = {
  side(found) {
    places(found.map(name));
    found.forEach(({ pixels }, number) => look.show(number, pixels));
  },
  blink(found) {
    places([""]);
    at = 0;
    turn(found, 0);
    find("blink-next").onclick = () => turn(found, at + 1, true);
    find("blink-run").onclick = () => {
      if (timer) stop();
      else { timer = setInterval(() => turn(found, at + 1), BLINK_MS); find("blink-run").setAttribute("aria-pressed", "true"); }
    };
  },
  difference(found) {
    if (found.length < 2) { VIEWS.side(found); return; }
    const [a, b] = found.map((one) => one.pixels);
    if (a.width !== b.width || a.height !== b.height) {
      complain(find("error"), "The first two images differ in size: their difference cannot be shown.");
      VIEWS.side(found);
      return;
    }
    places([name(found[0], 0), name(found[1], 1), "Difference of 1 and 2, black is none"]);
    look.show(0, a);
    look.show(1, b);
    look.show(2, difference(a, b));
  },
};

function turn(found, number, tell = false) {
  at = number % found.length;
  look.show(0, found[at].pixels, { keepZoom: number > 0, keepWindow: number > 0 });
  viewers.querySelector(".side").textContent = name(found[at], at);
  if (tell) find("blink-name").textContent = `Image ${at + 1} of ${found.length}`;
}

function stop() {
  clearInterval(timer);
  timer = 0;
  find("blink-run").setAttribute("aria-pressed", "false");
}

/** How far two images are apart in each pixel, on the scale of their values, as grey of 16 bits. */
function difference(a, b) {
  const data = new Uint16Array(a.width * a.height);
  const value = ({ data: from, max }, i) => (from instanceof Uint16Array ? from[i] / max : (from[4 * i] + from[4 * i + 1] + from[4 * i + 2]) / (3 * max));
  const isGrey = a.data instanceof Uint16Array || b.data instanceof Uint16Array;
  for (let i = 0; i < data.length; i++) {
    if (isGrey) data[i] = Math.abs(value(a, i) - value(b, i)) * 65535;
    else data[i] = Math.max(...[0, 1, 2].map((c) => Math.abs(a.data[4 * i + c] - b.data[4 * i + c]))) * 257;
  }
  return { width: a.width, height: a.height, data, max: 65535 };
}

views.addEventListener("change", () => { change({ view: mode() === "side" ? null : mode() }, true); show(); });
find("add").addEventListener("click", () => choose((image) => { change({ id: [...ids(), image.id] }, true); show(); }));
addEventListener("popstate", show);
addEventListener("server-back", () => { shown = ""; show(); });
show();

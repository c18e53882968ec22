// The reading page: one trial after another, whatever the connection does.
"use strict";
import { Viewer } from "../static/viewer.js";
import { KeyDialog, Keys, spoken } from "./keys.js";
import { Panel } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Queue, uuid } from "./queue.js";

const POLL_MS = 15000;
const byId = (id) => document.getElementById(id);
const main = byId("main");
const options = {
  atOnce: JSON.parse(main.dataset.atOnce),
  keepZoom: JSON.parse(main.dataset.keepZoom),
  keepWindow: JSON.parse(main.dataset.keepWindow),
  changed: () => panel.label(),
};

const keys = new Keys(JSON.parse(main.dataset.keys));
const dialog = new KeyDialog(keys, options);
const panel = new Panel(keys, complete, go);
const pictures = new Pictures(() => connection("offline"), lost);
const queue = new Queue(`answers-${main.dataset.study}-${main.dataset.reader}`, answered, connection);
const canvases = [...byId("viewers").querySelectorAll("canvas")];
const viewers = canvases.map((canvas) => new Viewer(canvas, moved));

let state = null; // what the server said last, counted on by what was answered since
let current = null; // the trial on the screen
let waiting = null; // a state to go on with, once feedback was read
let begun = 0; // the block whose introduction was read
let clock = { shown: null, visible: 0, since: null, hidden: 0, zoom: 1 };
let pause = { trials: Infinity, at: Infinity };

function mode(name) {
  main.dataset.mode = name;
  byId("stage").hidden = byId("panel").hidden = !["trial", "feedback", "sending"].includes(name);
  byId("cover").hidden = !["intro", "pause", "waiting", "lost"].includes(name);
  byId("undo").disabled = !(name === "trial" && state?.back);
}

function say(text) { byId("live").textContent = text; }

function connection(kind, text = "") {
  const at = byId("link-state"), left = queue.items.filter((item) => item.path === "answer").length;
  const kept = left ? `, ${left} ${left === 1 ? "answer" : "answers"} kept here` : "";
  if (kind === "lost") return lost(text);
  if (kind === "sent" && !left) { at.textContent = ""; at.className = "state"; return; }
  if (kind === "sent") return;
  at.className = `state ${kind === "trouble" ? "bad" : "care"}`;
  at.textContent = kind === "trouble" && text ? text : `No connection${kept}`;
}

function cover(name, part, title, lines, button) {
  mode(name);
  byId("cover-part").textContent = part;
  byId("cover-title").textContent = title;
  byId("cover-text").replaceChildren(...lines.map((line) => {
    const p = document.createElement("p");
    p.append(...[line].flat());
    return p;
  }));
  byId("cover-go").hidden = !button;
  byId("cover-go").textContent = button ?? "";
  (button ? byId("cover-go") : byId("cover-title")).focus();
}

function lost(reason) {
  queue.stopped = true;
  stopClock();
  const text = reason === "elsewhere"
    ? "This reading was opened in another browser or window. Nothing is lost. To go on here instead, open your link again."
    : "Open the link that you were given to go on.";
  cover("lost", "", reason === "elsewhere" ? "Open elsewhere" : "Please open your link", [text], null);
}

// what comes from the server

async function load() {
  await queue.wake();
  if (queue.stopped) return;
  if (queue.items.length) { // answers of before are still on their way
    cover("waiting", "", "No connection", ["Your answers are kept in this browser and are sent when the connection is back."], null);
    return;
  }
  try {
    const response = await fetch("state", { credentials: "same-origin" });
    const told = await response.json();
    if (response.status === 401) lost(told.reason);
    else if (response.ok) apply(told);
    else throw new Error(told.detail);
  } catch {
    connection("offline");
    setTimeout(load, 2000);
  }
}

function take(told) {
  state = told;
  pause = { trials: told.pause.trials, at: performance.now() + told.pause.seconds * 1000 };
  pictures.expect([...told.trials, ...(told.back ? [told.back] : [])]);
  count();
}

function apply(told) {
  if (told.page !== "reading") { location.replace("./"); return; }
  const isNew = state?.block.number !== told.block.number;
  take(told);
  if (isNew || !panel.block) panel.setUp(told.block);
  if (begun !== told.block.number) introduce();
  else next();
}

/** After an acknowledgement: the page has gone on by itself, unless the server says otherwise. */
function answered(item, { status, data }, isLast) {
  if (item.path !== "answer") return;
  if (data.feedback && main.dataset.mode === "sending") {
    waiting = data.state;
    mode("feedback");
    panel.tell(data.feedback);
    panel.setGo("Go on", true);
    say(byId("feedback").textContent);
    return;
  }
  if (!isLast) return;
  if (!data.state) { load(); return; }
  const same = current && main.dataset.mode === "trial" && data.state.page === "reading"
    && data.state.trials[0]?.token === current.token && data.state.block.number === state.block.number;
  if (same || (main.dataset.mode === "pause" && status === 200 && data.state.page === "reading")) {
    take(data.state);
    if (same) mode("trial");
  } else {
    apply(data.state);
  }
}

// what the reader sees

function count() {
  const { block, done, of } = state;
  byId("part").textContent = block.of > 1 ? `${block.heading}, part ${block.number} of ${block.of}` : block.heading;
  byId("count").textContent = `${Math.min(done + 1, of)} of ${of}`;
  byId("progress").max = of;
  byId("progress").value = done;
}

function introduce() {
  const { block } = state, key = (id) => { const k = document.createElement("kbd"); k.textContent = spoken(keys.of(id)); return k; };
  const lines = [...block.how,
    ["Each answer has a key, shown on its button. ", key("undo"), " takes the last answer back, ", key("keys"), " shows all keys and lets you change them."]];
  if (options.atOnce && !block.words) lines.push("The next image comes as soon as an answer is complete.");
  const images = `${block.left} ${block.pair ? "pair" : "image"}${block.left === 1 ? "" : "s"}`;
  const part = `${block.heading}${block.of > 1 ? `, part ${block.number} of ${block.of}` : ""}: ${images}`;
  cover("intro", part, block.question, lines, "Begin");
}

function next() {
  const due = pause.trials <= 0 || performance.now() > pause.at;
  if (due && !state.block.practice && current) { rest(); return; }
  if (!state.trials.length) {
    current = null;
    cover("waiting", "", "One moment", ["The next images come as soon as the connection allows."], null);
    return;
  }
  show(state.trials[0]);
}

function rest() {
  current = null;
  stopClock();
  clock.rested = performance.now();
  cover("pause", `${state.done} of ${state.of} images`, "Time for a break", ["Look away from the screen for some minutes. You can also close this page and come back by your link: it goes on from here."], "Go on");
}

async function show(trial) {
  current = trial;
  mode("trial");
  panel.locked = false;
  panel.clear(trial);
  panel.lock(true);
  panel.setGo("Next", false);
  canvases.forEach((canvas, k) => {
    canvas.parentElement.hidden = k >= trial.images.length;
    canvas.setAttribute("aria-label", trial.images.length > 1 ? ["Left image", "Right image"][k] : "Image");
  });
  byId("viewers").classList.toggle("single", trial.images.length === 1);
  Viewer.link(...viewers.slice(0, trial.images.length));
  const images = await pictures.of(trial);
  if (current !== trial) return;
  images.forEach((image, k) => viewers[k].show(image, options));
  moved(viewers[0].view);
  panel.lock(false);
  count();
  requestAnimationFrame(() => {
    if (current !== trial) return;
    clock = { shown: performance.now(), visible: 0, since: document.hidden ? null : performance.now(), hidden: 0, zoom: viewers[0].view.zoom };
    say(`Image ${state.done + 1} of ${state.of}`);
  });
}

function stopClock() {
  if (clock.since !== null) clock.visible += performance.now() - clock.since;
  clock.since = null;
}

// what the reader does

function complete() {
  if (options.atOnce && !state.block.words) go();
}

function go() {
  if (main.dataset.mode === "feedback") { panel.setGo("Next", false); const told = waiting; waiting = null; apply(told); return; }
  if (main.dataset.mode !== "trial" || !panel.isComplete || panel.locked || clock.shown === null) return;
  const now = performance.now();
  stopClock();
  const used = viewers.slice(0, current.images.length).map((viewer) => viewer.used);
  const sum = (name) => used.reduce((all, one) => all + one[name], 0);
  queue.add("answer", {
    client_uuid: uuid(),
    trial: current.token,
    ...panel.answer,
    elapsed_ms: Math.round(now - clock.shown),
    visible_ms: Math.round(clock.visible),
    tools: { zoomed: sum("zoomed"), panned: sum("panned"), windowed: sum("windowed"), reset: sum("reset"), zoom: clock.zoom, hidden: clock.hidden, input: panel.input },
  });
  clock.shown = null;
  if (state.block.practice) { panel.lock(true); mode("sending"); panel.setGo("Next", false); return; }
  state = { ...state, trials: state.trials.slice(1), back: current, done: state.done + 1, block: { ...state.block, left: state.block.left - 1 } };
  pause.trials -= 1;
  if (!state.block.left) { current = null; cover("waiting", "", "One moment", ["This part is done. The next one comes as soon as your answers have arrived."], null); return; }
  next();
}

function undo() {
  if (!["trial", "pause"].includes(main.dataset.mode) || !state.back || state.block.practice) return;
  stopClock();
  const back = state.back;
  queue.add("answer", { client_uuid: uuid(), trial: back.token, value: "" });
  state = { ...state, trials: [back, ...state.trials], back: null, done: state.done - 1, block: { ...state.block, left: state.block.left + 1 } };
  say("The last answer was taken back");
  show(back);
}

function moved(view, kind) {
  byId("zoom").textContent = `${Math.round(view.zoom * 100)} %`;
  byId("window").value = Math.round(view.window * 100);
  byId("level").value = Math.round(view.level * 100);
  if (kind === "zoom") clock.zoom = Math.max(clock.zoom, view.zoom);
}

const STEP = 60; // CSS pixels of a key press
const VIEW = {
  zoomin: (v) => v.zoomBy(1.25), zoomout: (v) => v.zoomBy(0.8),
  left: (v) => v.panBy(STEP, 0), right: (v) => v.panBy(-STEP, 0), up: (v) => v.panBy(0, STEP), down: (v) => v.panBy(0, -STEP),
  narrow: (v) => v.windowBy(-0.05, 0), wide: (v) => v.windowBy(0.05, 0),
  bright: (v) => v.windowBy(0, -0.03), dark: (v) => v.windowBy(0, 0.03), reset: (v) => v.reset(),
};

addEventListener("keydown", (event) => {
  const at = event.target;
  if (dialog.isOpen || at.matches?.("input[type=text], textarea, select")) return;
  const action = keys.action(event);
  if (!action) return;
  const isButton = at.matches?.("button, a, summary");
  if (event.key === "Enter" && isButton && !(panel.isComplete && at.getAttribute("aria-pressed") === "true")) return;
  if (at.matches?.("input[type=range]") && event.key.startsWith("Arrow")) return;
  event.preventDefault();
  if (VIEW[action]) { if (current) VIEW[action](viewers[0]); return; }
  if (event.repeat) return;
  if (action === "keys") dialog.open();
  else if (action === "undo") undo();
  else if (action === "go") { if (byId("cover").hidden) go(); else if (!byId("cover-go").hidden) byId("cover-go").click(); }
  else if (main.dataset.mode === "trial" && action.startsWith("choose")) panel.choose(Number(action.slice(6)) - 1);
  else if (main.dataset.mode === "trial") panel.setSure(Number(action.slice(4)) - 1);
});

for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => { if (current) VIEW[button.dataset.view](viewers[0]); });
for (const id of ["window", "level"]) byId(id).addEventListener("input", () => viewers[0].windowTo(byId("window").value / 100, byId("level").value / 100));
byId("tool").addEventListener("click", () => {
  const isWindow = viewers[0].tool !== "window";
  for (const viewer of viewers) viewer.tool = isWindow ? "window" : "pan";
  byId("tool").setAttribute("aria-pressed", String(isWindow));
  byId("tool").textContent = isWindow ? "Drag: window" : "Drag: move";
});
byId("undo").addEventListener("click", undo);
byId("open-keys").addEventListener("click", () => dialog.open());
byId("cover-go").addEventListener("click", () => {
  if (main.dataset.mode === "intro") {
    begun = state.block.number;
    queue.add("event", { kind: "begin", details: String(begun) });
  } else {
    queue.add("event", { kind: "break", details: `${Math.round((performance.now() - clock.rested) / 1000)} s` });
    pause = { trials: Infinity, at: Infinity }; // the server counts anew
  }
  next();
  canvases[0].focus();
});
document.addEventListener("visibilitychange", () => {
  if (clock.shown === null) return;
  if (document.hidden) { stopClock(); clock.hidden += 1; }
  else if (main.dataset.mode === "trial") clock.since = performance.now();
});
setInterval(async () => {
  if (document.hidden || queue.stopped) return;
  try {
    const response = await fetch("here", { credentials: "same-origin" });
    if (response.status === 401) lost((await response.json()).reason);
    else if (response.ok) { if (!queue.items.length) connection("sent"); else queue.wake(); if (main.dataset.mode === "loading") load(); }
  } catch { connection("offline"); }
}, POLL_MS);

load();

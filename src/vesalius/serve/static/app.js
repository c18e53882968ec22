// What all pages share: requests, elements, what is said aloud, and how the server is.
"use strict";
import { send } from "../static/page.js";

export const API = "api/v1";
const LOST = "The server cannot be reached. This page tries again by itself; nothing is lost.";
const LEFT = "You are signed out. Open the address that vesalius serve printed, or load this page again.";
const HEALTH_MS = 5000;

export const find = (id) => document.getElementById(id);

/** The user whose page this is. */
export const me = () => find("main").dataset.user;

/** An element with properties (`class`, `data-*`, `aria-*` and `on` for listeners) and children. */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, does] of Object.entries(value)) made.addEventListener(event, does);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Say something to those who cannot see the page change. */
export function say(text) { find("said").textContent = text; }

/** Where it went wrong: `text` in one line. Nothing clears it. */
export function complain(where, text = "") { where.textContent = text; }

/** What a refusal says, as one line. */
export function reason({ status, data }) {
  if (status === 0) return LOST;
  if (status === 401) return LEFT;
  return typeof data?.detail === "string" ? sentence(data.detail) : `The server refused this (${status}).`;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** GET as JSON; {ok, status, data}, status 0 where the server is out of reach. */
export async function get(path) {
  try {
    const response = await fetch(`${API}/${path}`, { credentials: "same-origin" });
    const data = await response.json().catch(() => ({}));
    stands(response.status);
    return { ok: response.ok, status: response.status, data };
  } catch {
    stands(0);
    return { ok: false, status: 0, data: {} };
  }
}

export const post = (path, body) => send(`${API}/${path}`, body);
export const remove = (path) => send(`${API}/${path}`, undefined, "DELETE");

/** A new job. A request that was lost on its way is sent again under the same key: it stays one job. */
export async function submit(body) {
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map((x) => x.toString(16).padStart(2, "0")).join("");
  const csrf = document.querySelector("meta[name=csrf-token]")?.content ?? "";
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf, "Idempotency-Key": key };
  for (let tries = 0; ; tries++) {
    try {
      const response = await fetch(`${API}/jobs`, { method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin" });
      return { ok: response.ok, status: response.status, data: await response.json().catch(() => ({})) };
    } catch {
      if (tries === 2) { stands(0); return { ok: false, status: 0, data: {} }; }
      await new Promise((done) => setTimeout(done, 700));
    }
  }
}

let problem = ""; // why nothing is drawn, as `health` said last

// how the server is: in the bar, and above the page where it is out of reach
function stands(status) {
  const trouble = find("trouble");
  const text = status === 0 ? LOST : status === 401 ? LEFT : problem && `Nothing can be drawn: ${problem}`;
  if (trouble.textContent === text) return;
  if (trouble.textContent === LOST && status !== 401) { say("The server is back."); dispatchEvent(new Event("server-back")); }
  trouble.textContent = text;
  trouble.hidden = !text;
}

const STATES = { loading: "Loading the model", ready: "Ready", drawing: "Drawing", stopped: "Stopped" };

async function health() {
  if (!document.hidden) {
    const { ok, status, data } = await get("health");
    const state = find("health"), waiting = find("waiting");
    state.classList.toggle("bad", !ok || data.status === "broken");
    state.textContent = !ok ? (status ? "Signed out" : "No connection") : STATES[data.status] ?? "Cannot draw";
    if (ok) { problem = data.problem; stands(status); }
    waiting.hidden = !data.queued;
    waiting.replaceChildren(String(data.queued ?? ""), el("span", { class: "unseen" }, " waiting or being drawn"));
  }
  setTimeout(health, HEALTH_MS);
}
if (find("health")) health();
for (const event of ["online", "offline"]) addEventListener(event, () => get("health"));

find("leave")?.addEventListener("click", async () => {
  const { ok, status } = await remove("session");
  if (ok || status === 401) location.reload(); else stands(status);
});

/** Seconds as people say them. */
export function spell(seconds) {
  if (seconds < 1.5) return "about a second";
  if (seconds < 90) return `about ${Math.round(seconds)} s`;
  return seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${Math.round(seconds / 3600)} h`;
}

/** A date of the server in words of this browser. */
export const when = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** The address of an image as browsers show it. */
export const picture = (id, format = "png") => `${API}/images/${id}?format=${format}`;

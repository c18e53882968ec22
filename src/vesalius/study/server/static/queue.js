// Answers on their way: kept in the browser until the server has acknowledged them, sent in order, each
// as often as it takes; the server stores each once.
"use strict";
import { send } from "../static/page.js";

const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];
const PAGE = crypto.randomUUID?.() ?? String(Math.random());

/** A random id in the form of a UUID; plain http to another machine has no crypto.randomUUID. */
export function uuid() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export class Queue {
  /** `onResult(item, result, isLast)` follows each acknowledgement or refusal, `onState(state, text)` each change. */
  constructor(name, onResult, onState) {
    this.name = name;
    this.onResult = onResult;
    this.onState = onState;
    this.tries = 0;
    this.running = false;
    this.stopped = false;
    try { this.items = JSON.parse(localStorage.getItem(name) ?? "[]"); } catch { this.items = []; }
    addEventListener("online", () => this.wake());
  }

  add(path, body) {
    this.items.push({ path, body, page: PAGE, at: performance.now(), clock: Date.now() });
    this.keep();
    this.wake();
  }

  keep() {
    try { localStorage.setItem(this.name, JSON.stringify(this.items)); } catch { /* stays in memory */ }
  }

  wake() {
    clearTimeout(this.timer);
    return this.run();
  }

  async run() {
    if (this.running || this.stopped) return;
    this.running = true;
    while (this.items.length && !this.stopped) {
      const item = this.items[0];
      const result = await send(item.path, this.body(item));
      if (result.status === 401) { this.stopped = true; this.onState("lost", result.data.reason); break; }
      if (result.status === 0 || result.status >= 500) { this.later(result); break; }
      this.tries = 0;
      this.items.shift();
      this.keep();
      this.onState("sent", "");
      this.onResult(item, result, this.items.length === 0);
    }
    this.running = false;
  }

  /** How long the answer waited: by the steady clock of this page, or else by the wall's. */
  body(item) {
    if (item.path !== "answer") return item.body;
    const waited = item.page === PAGE ? performance.now() - item.at : Date.now() - item.clock;
    return { ...item.body, waited_ms: Math.round(waited) };
  }

  later(result) {
    const wait = RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)];
    this.onState(result.status ? "trouble" : "offline", result.data.detail ?? "");
    this.timer = setTimeout(() => this.run(), wait);
  }
}

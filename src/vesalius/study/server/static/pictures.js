// Images, fetched and decoded before they are needed. They are kept in memory only.
"use strict";
import { decode } from "../static/viewer.js";

const RETRY_MS = 1500;

export class Pictures {
  constructor(onTrouble, onLost) {
    this.kept = new Map();
    this.onTrouble = onTrouble;
    this.onLost = onLost;
  }

  /** Fetch what comes next and forget the rest. */
  expect(trials) {
    const wanted = new Set(trials.flatMap((trial) => trial.images));
    for (const path of this.kept.keys()) if (!wanted.has(path)) this.kept.delete(path);
    for (const path of wanted) this.get(path);
  }

  of(trial) { return Promise.all(trial.images.map((path) => this.get(path))); }

  get(path) {
    if (!this.kept.has(path)) this.kept.set(path, this.load(path));
    return this.kept.get(path);
  }

  async load(path) {
    for (;;) {
      try {
        const response = await fetch(path, { credentials: "same-origin", cache: "no-store" });
        if (response.status === 401) { this.onLost((await response.json()).reason); return new Promise(() => {}); }
        if (response.ok) return await decode(await response.blob());
      } catch { /* out of reach */ }
      if (!this.kept.has(path)) return new Promise(() => {});
      this.onTrouble();
      await new Promise((wake) => setTimeout(wake, RETRY_MS));
    }
  }
}

// The prompts of a composition, each with its weight; in the address as part=WEIGHT:PROMPT.
"use strict";
import { el, find } from "./app.js";
import { params } from "./address.js";

const MOST = 8;

export class Parts {
  constructor() {
    this.list = find("part-list");
    find("part-add").addEventListener("click", () => { this.add("", 1).querySelector("input").focus(); this.changed(); });
  }

  show() {
    const wanted = params().getAll("part");
    if (this.list.children.length && JSON.stringify(wanted) === JSON.stringify(this.address())) return;
    this.list.replaceChildren();
    for (const text of wanted.length ? wanted : ["1:", "1:"]) {
      const weight = Number(text.slice(0, text.indexOf(":")));
      this.add(text.slice(text.indexOf(":") + 1), Number.isFinite(weight) ? weight : 1);
    }
  }

  add(prompt, weight) {
    const number = this.list.children.length + 1;
    const said = el("output", {}, String(weight));
    const slider = el("input", { type: "range", min: -1, max: 2, step: 0.05, value: weight, "aria-label": `Weight of prompt ${number}`, on: { input: (event) => { said.textContent = event.target.value; } } });
    const line = el("li", {},
      el("input", { type: "text", value: prompt, maxlength: 1000, autocomplete: "off", spellcheck: "false", "aria-label": `Prompt ${number}`, list: "known-prompts", placeholder: number === 1 ? "chest X-ray, normal" : "chest X-ray, COVID-19" }),
      el("div", { class: "weight" }, slider, said,
        el("button", { type: "button", class: "quiet", "aria-label": `Remove prompt ${number}`, on: { click: () => { line.remove(); find("part-add").focus(); this.changed(); } } }, "Remove")));
    this.list.append(line);
    find("part-add").disabled = this.list.children.length >= MOST;
    return line;
  }

  changed() {
    find("part-add").disabled = this.list.children.length >= MOST;
    this.list.dispatchEvent(new Event("input", { bubbles: true }));
  }

  all() {
    return [...this.list.children].map((line) => ({ prompt: line.querySelector("input[type=text]").value.trim(), weight: Number(line.querySelector("input[type=range]").value) }));
  }

  address() { return this.all().map((part) => `${part.weight}:${part.prompt}`); }

  /** What a job gets. Throws Error where nothing is written. */
  get body() {
    const found = this.all().filter((part) => part.prompt);
    if (!found.length) { this.list.querySelector("input")?.focus(); throw new Error("Write at least one prompt."); }
    return found;
  }
}

// The same seed with one setting changed: a job for each value, side by side.
"use strict";
import { complain, el, find, reason, submit } from "./app.js";
import { change, params } from "./address.js";
import { Drawing } from "./drawing.js";

const MOST = 8;
const USUAL = { guidance: "1, 2, 4, 7", steps: "5, 10, 20, 40", sampler: "ddim, dpm++2m, unipc, euler", seed: "1, 2, 3, 4", prompt: "" };
const HINTS = {
  guidance: "Numbers, with commas between. 1 is no guidance.", steps: "Whole numbers, with commas between.", sampler: "Names of samplers, with commas between.",
  seed: "Whole numbers, with commas between.", prompt: "Prompts, with a semicolon between.",
};

export class Grid {
  constructor() {
    this.name = find("vary-name");
    this.values = find("vary-values");
    this.drawings = [];
    this.name.addEventListener("change", () => { this.values.value = USUAL[this.name.value]; this.hint(); this.keep(); });
    this.values.addEventListener("input", () => this.keep());
    find("vary").addEventListener("submit", (event) => { event.preventDefault(); this.draw(); });
  }

  hint() { find("vary-hint").textContent = `${HINTS[this.name.value]} ${MOST} at most.`; }

  keep() { change({ vary: this.name.value, values: this.values.value }); }

  /** What the address says, on top of `image`. */
  show(image) {
    this.image = image;
    const found = params();
    this.name.value = found.get("vary") ?? "guidance";
    this.values.value = found.get("values") ?? USUAL[this.name.value];
    this.hint();
    this.follow(found.getAll("job"));
  }

  list() {
    const separator = this.name.value === "prompt" ? ";" : ",";
    return this.values.value.split(separator).map((text) => text.trim()).filter(Boolean);
  }

  async draw() {
    const error = find("error"), name = this.name.value, list = this.list();
    const isText = name === "prompt" || name === "sampler";
    complain(error);
    if (!list.length || list.length > MOST) { complain(error, `Give 1 to ${MOST} values.`); this.values.focus(); return; }
    const wrong = isText ? undefined : list.find((text) => !Number.isFinite(Number(text)) || (name !== "guidance" && !Number.isInteger(Number(text))));
    if (wrong !== undefined) { complain(error, `${wrong} is no ${name === "guidance" ? "number" : "whole number"}.`); this.values.focus(); return; }
    const { settings } = this.image;
    if (settings.kind !== "generate") { complain(error, "Only images made from a prompt alone can be drawn again here: choose another first image."); return; }
    const button = find("vary").querySelector("button");
    button.disabled = true;
    const jobs = [];
    for (const text of list) {
      const answer = await submit({ ...settings, n: 1, [name]: isText ? text : Number(text) });
      if (!answer.ok) { complain(error, `${text}: ${reason(answer)}`); break; }
      jobs.push(answer.data.id);
    }
    button.disabled = false;
    change({ vary: name, values: this.values.value, job: jobs }, true);
    this.follow(jobs);
  }

  follow(jobs) {
    if (JSON.stringify(jobs) === JSON.stringify(this.drawings.map((one) => one.id))) return;
    for (const one of this.drawings) one.leave();
    const names = this.list();
    this.drawings = [];
    find("grid").replaceChildren(...jobs.map((id, number) => {
      const place = el("div");
      const drawing = new Drawing(place, "");
      this.drawings.push(drawing);
      drawing.follow(id);
      return el("li", {}, el("h2", {}, `${this.name.selectedOptions[0].textContent} ${names[number] ?? ""}`), place);
    }));
  }
}

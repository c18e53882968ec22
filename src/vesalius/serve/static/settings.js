// The settings that all kinds of drawing share: the model's own values, adapters, sizes, the address.
"use strict";
import { complain, find, get, reason, submit } from "./app.js";
import { collect, fill, params, write } from "./address.js";
import { offer } from "./words.js";

const TYPING_MS = 250;

/** A form that draws. `kind()` is the kind of job, `own(values)` its fields; `onJob(job)` follows a submission. */
export class Settings {
  constructor({ kind, own, onJob, onShow = () => {} }) {
    this.form = find("form");
    this.error = find("error");
    Object.assign(this, { kind, own, onJob, onShow });
    this.models = [];
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.send(); });
    this.form.addEventListener("keydown", (event) => {
      if (event.target.tagName === "TEXTAREA" && event.target.id !== "ellipses" && event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.form.requestSubmit();
      }
    });
    this.form.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.keep(), TYPING_MS);
    });
    this.form.addEventListener("change", (event) => { if (event.target.id === "model") this.adapt(); this.keep(); });
    addEventListener("popstate", () => this.show());
    addEventListener("pagehide", () => this.keep());
  }

  async begin() {
    this.show();
    const { ok, data, ...rest } = await get("models");
    if (!ok) {
      complain(this.error, reason({ data, ...rest }));
      addEventListener("server-back", () => { complain(this.error); this.begin(); }, { once: true });
      return;
    }
    this.models = data.models;
    this.adapt();
    this.show(false);
  }

  get model() {
    return this.models.find((one) => one.id === find("model").value) ?? this.models[0];
  }

  /** What the chosen model has of its own: sizes, steps, words. */
  adapt() {
    const { model } = this;
    if (!model) return;
    find("steps").placeholder = model.steps;
    find("guidance").placeholder = model.guidance;
    find("sampler").options[0].textContent = model.sampler ? `The model's own (${model.sampler})` : "The model's own";
    const size = find("size");
    if (size) {
      const chosen = size.value || params().get("size") || "";
      size.replaceChildren(...sizes(model).map(([value, text]) => new Option(text, value, value === "", value === "")));
      if (chosen && ![...size.options].some((option) => option.value === chosen)) size.add(new Option(chosen.replace("x", " × "), chosen));
      size.value = chosen;
    }
    for (const place of document.querySelectorAll("[data-words]")) offer(place, find(place.dataset.words), model);
  }

  show(tell = true) {
    const found = params();
    fill(this.form, found);
    const used = new Map(found.getAll("adapter").map((text) => [text.slice(0, text.lastIndexOf(":")), text.slice(text.lastIndexOf(":") + 1)]));
    for (const box of this.form.querySelectorAll("[data-adapter]")) {
      box.checked = used.has(box.dataset.adapter);
      this.weight(box).value = used.get(box.dataset.adapter) ?? "1";
    }
    if (["label", "model", "steps", "guidance", "guidance_from", "guidance_to", "guidance_rescale", "sampler", "negative", "adapter"].some((name) => found.has(name))) find("more").open = true;
    for (const area of this.form.querySelectorAll("textarea")) area.dispatchEvent(new Event("input"));
    if (tell) this.onShow(found);
  }

  weight(box) { return this.form.querySelector(`[data-weight="${CSS.escape(box.dataset.adapter)}"]`); }

  adapters() {
    return [...this.form.querySelectorAll("[data-adapter]")].filter((box) => box.checked)
      .map((box) => ({ id: box.dataset.adapter, weight: Number(this.weight(box).value) }));
  }

  /** The form as it is, in the address. */
  keep(push = false, extra = {}) {
    clearTimeout(this.timer);
    const found = collect(this.form);
    found.delete("adapter");
    for (const use of this.adapters()) found.append("adapter", `${use.id}:${use.weight}`);
    for (const [name, value] of Object.entries(extra)) { if (value === null) found.delete(name); else found.set(name, value); }
    write(found, push);
  }

  body() {
    const value = (name) => this.form.elements[name]?.value.trim() ?? "";
    const number = (name) => (value(name) === "" ? null : Number(value(name)));
    const body = {
      kind: this.kind(), label: value("label"), model: value("model") || null, adapters: this.adapters(),
      seed: number("seed") ?? -1, steps: number("steps"), guidance: number("guidance"),
      guidance_rescale: number("guidance_rescale") ?? 0, guidance_interval: [number("guidance_from") ?? 0, number("guidance_to") ?? 1],
      sampler: value("sampler") || null, negative: value("negative"),
    };
    if (this.form.elements.size && !find("size").closest("[hidden]")) body.size = value("size") || null;
    return Object.assign(body, this.own({ value, number }));
  }

  /** The first visible field that cannot be taken, marked and said; or nothing. */
  wrong() {
    for (const field of this.form.elements) field.removeAttribute("aria-invalid");
    const bad = [...this.form.elements].find((field) => field.willValidate && field.offsetParent !== null && !field.checkValidity())
      ?? [...this.form.elements].find((field) => field.willValidate && field.closest("#more") && !field.checkValidity());
    if (!bad) return false;
    if (bad.closest("#more")) find("more").open = true;
    bad.setAttribute("aria-invalid", "true");
    const name = bad.labels?.[0]?.textContent.trim() ?? bad.getAttribute("aria-label");
    complain(this.error, `${name}: ${bad.validationMessage}`);
    bad.focus();
    return true;
  }

  async send() {
    complain(this.error);
    if (this.wrong()) return;
    let body;
    try { body = await this.body(); } catch (error) { complain(this.error, error.message); return; }
    const button = this.form.querySelector("button[type=submit]");
    button.disabled = true;
    const answer = await submit(body);
    button.disabled = false;
    if (!answer.ok) { complain(this.error, reason(answer)); return; }
    this.keep(true, { job: answer.data.id, show: null });
    this.onJob(answer.data.id);
  }
}

/** Sizes to choose from: the model's own, wide, tall, larger. */
function sizes({ width, height, multiple }) {
  const whole = (pixels) => Math.round(pixels / multiple) * multiple;
  const found = new Map([["", `${width} × ${height}`]]);
  for (const [w, h] of [[width * 1.5, height], [width, height * 1.5], [width * 1.5, height * 1.5]]) {
    found.set(`${whole(w)}x${whole(h)}`, `${whole(w)} × ${whole(h)}`);
  }
  return [...found];
}

// The question and its answers, by pointer and by key.
"use strict";
import { spoken } from "./keys.js";

const byId = (id) => document.getElementById(id);

function button(label, hint, onClick) {
  const made = document.createElement("button");
  made.type = "button";
  made.setAttribute("aria-pressed", "false");
  const name = document.createElement(hint ? "b" : "strong");
  name.textContent = label;
  made.append(name);
  if (hint) { const more = document.createElement("span"); more.textContent = hint; made.append(more); }
  made.append(document.createElement("kbd"));
  made.addEventListener("click", onClick);
  return made;
}

export class Panel {
  /** `onComplete()` is called when an answer has all its parts, `onGo()` when it is to be sent. */
  constructor(keys, onComplete, onGo) {
    this.keys = keys;
    this.onComplete = onComplete;
    this.onGo = onGo;
    byId("go").addEventListener("click", onGo);
  }

  /** The answers of a block; they stay from trial to trial. */
  setUp(block) {
    this.block = block;
    byId("question").textContent = block.question;
    const two = block.pair ? "sides" : block.choices.some((choice) => choice.hint) ? "anchored" : block.choices.length > 5 ? "many" : "";
    byId("choices").className = `choices ${two}`;
    this.choices = block.choices.map((choice, k) => button(choice.label, choice.hint, (event) => this.choose(k, event)));
    if (block.pair && this.choices.length === 3) this.choices[1].classList.add("wide");
    byId("choices").replaceChildren(...this.choices);
    this.sure = block.confidence.map((level, k) => button(level.label, "", (event) => this.setSure(k, event)));
    byId("confidence").replaceChildren(...this.sure);
    byId("sure").hidden = !this.sure.length;
    byId("prompt").hidden = !block.words;
    this.label();
  }

  /** Keys on the buttons. */
  label() {
    const write = (made, key) => { made.querySelector("kbd").textContent = spoken(key); };
    this.choices?.forEach((made, k) => k < 9 ? write(made, this.keys.of(`choose${k + 1}`)) : made.querySelector("kbd")?.remove());
    this.sure?.forEach((made, k) => write(made, this.keys.of(`sure${k + 1}`)));
    for (const id of ["go", "undo"]) {
      const at = byId(id), hint = document.createElement("kbd"), text = at.firstChild?.textContent ?? "";
      hint.textContent = spoken(this.keys.of(id));
      at.replaceChildren(text, " ", hint);
    }
  }

  /** A new trial: nothing chosen. */
  clear(trial) {
    this.chosen = this.level = null;
    this.input = "pointer";
    byId("prompt").replaceChildren(...trial.words.map((word) => {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = word;
      made.setAttribute("aria-pressed", "false");
      made.addEventListener("click", () => made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true")));
      return made;
    }));
    byId("feedback").hidden = true;
    this.draw();
  }

  get isComplete() { return this.chosen !== null && (!this.sure.length || this.level !== null); }

  get answer() {
    const wrong = [...byId("prompt").children].flatMap((made, k) => made.getAttribute("aria-pressed") === "true" ? [k] : []);
    return {
      value: this.block.choices[this.chosen].value,
      confidence: this.sure.length ? this.block.confidence[this.level].value : null,
      wrong_words: wrong,
    };
  }

  choose(k, event = null) { this.set("chosen", k, this.choices, event); }
  setSure(k, event = null) { this.set("level", k, this.sure, event); }

  set(what, k, list, event) {
    if (this.locked || !list?.[k]) return;
    this.input = event && event.detail > 0 ? "pointer" : "key";
    this[what] = k;
    this.draw();
    if (this.isComplete) this.onComplete();
  }

  lock(isLocked) { this.locked = isLocked; for (const made of [...this.choices, ...this.sure, ...byId("prompt").children]) made.disabled = isLocked; this.draw(); }

  draw() {
    this.choices.forEach((made, k) => made.setAttribute("aria-pressed", String(k === this.chosen)));
    this.sure.forEach((made, k) => made.setAttribute("aria-pressed", String(k === this.level)));
    if (!this.locked) byId("go").disabled = !this.isComplete;
  }

  setGo(text, isOn) {
    byId("go").firstChild ? (byId("go").firstChild.textContent = text) : (byId("go").textContent = text);
    byId("go").disabled = !isOn;
  }

  tell(said) {
    const box = byId("feedback");
    box.hidden = false;
    box.className = `notice ${said.right === null ? "" : said.right ? "good" : "care"}`;
    box.textContent = (said.right === null ? "" : said.right ? "Right. " : "Not right. ") + said.text;
  }
}

// Which key does what. Keys are letters, digits and signs by themselves, which no browser takes.
"use strict";
import { send } from "../static/page.js";

export const ACTIONS = [
  ...Array.from({ length: 9 }, (_, k) => [`choose${k + 1}`, `Answer ${k + 1}`, String(k + 1)]),
  ["sure1", "Confidence: lowest", "a"],
  ["sure2", "Confidence: middle", "s"],
  ["sure3", "Confidence: highest", "d"],
  ["go", "Next", "Enter"],
  ["undo", "Undo", "u"],
  ["zoomin", "Zoom in", "+"],
  ["zoomout", "Zoom out", "-"],
  ["left", "Move left", "ArrowLeft"],
  ["right", "Move right", "ArrowRight"],
  ["up", "Move up", "ArrowUp"],
  ["down", "Move down", "ArrowDown"],
  ["narrow", "Narrower window", "n"],
  ["wide", "Wider window", "w"],
  ["bright", "Brighter", "b"],
  ["dark", "Darker", "v"],
  ["reset", "Reset the view", "r"],
  ["keys", "Show the keys", "k"],
];
const TAKEN = new Set(["Tab", "Escape", " ", "Backspace", "Delete", "/", "'", "Dead", "Unidentified", "ContextMenu", "Process"]);
const NAMES = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Enter: "Enter" };

/** The name of the key of an event: digits wherever they are on the keyboard, letters in lower case. */
export function keyOf(event) {
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code ?? "");
  if (digit && !event.shiftKey) return digit[1];
  if (event.key === "=") return "+";
  return event.key?.length === 1 ? event.key.toLowerCase() : event.key;
}

/** How a key is written on a button. */
export function spoken(key) {
  return NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);
}

export class Keys {
  constructor(kept, onChange) {
    this.keys = Object.fromEntries(ACTIONS.map(([id, , key]) => [id, kept[id] ?? key]));
    this.onChange = onChange;
    this.waiting = null;
  }

  of(action) { return this.keys[action]; }

  action(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return null;
    const key = keyOf(event);
    return Object.keys(this.keys).find((id) => this.keys[id] === key) ?? null;
  }

  /** Why a key cannot be taken for an action; empty where it can. */
  refuses(event, action) {
    const key = keyOf(event);
    if (event.ctrlKey || event.altKey || event.metaKey) return "Keys with Ctrl, Alt or Command belong to the browser.";
    if (TAKEN.has(key) || /^F\d+$/.test(key) || (key.length > 1 && !(key in NAMES))) return "This key belongs to the browser. Choose a letter, a digit or a sign.";
    const other = Object.keys(this.keys).find((id) => this.keys[id] === key && id !== action);
    if (other) return `${spoken(key)} is the key of “${ACTIONS.find(([id]) => id === other)[1]}”.`;
    return "";
  }
}

/** The dialog in which keys are shown and changed. */
export class KeyDialog {
  constructor(keys, options) {
    this.keys = keys;
    this.options = options; // {atOnce, changed()}
    this.dialog = document.getElementById("keys");
    this.list = document.getElementById("key-list");
    this.error = document.getElementById("keys-error");
    this.box = document.getElementById("at-once");
    this.box.checked = options.atOnce;
    this.box.addEventListener("change", () => { options.atOnce = this.box.checked; this.save(); });
    document.getElementById("keys-close").addEventListener("click", () => this.dialog.close());
    document.getElementById("keys-default").addEventListener("click", () => {
      for (const [id, , key] of ACTIONS) keys.keys[id] = key;
      this.save();
      this.fill();
    });
    this.dialog.addEventListener("keydown", (event) => this.press(event));
    this.fill();
  }

  open() { this.waiting = null; this.error.textContent = ""; this.fill(); this.dialog.showModal(); }
  get isOpen() { return this.dialog.open; }

  fill() {
    this.list.replaceChildren(...ACTIONS.map(([id, label]) => {
      const row = document.createElement("div"), name = document.createElement("span"), button = document.createElement("button");
      name.textContent = label;
      button.type = "button";
      button.dataset.action = id;
      button.textContent = this.waiting === id ? "Press a key" : spoken(this.keys.of(id));
      button.setAttribute("aria-label", `${label}: ${button.textContent}`);
      button.setAttribute("aria-pressed", String(this.waiting === id));
      button.addEventListener("click", () => { this.waiting = id; this.error.textContent = ""; this.fill(); this.focus(id); });
      row.append(name, button);
      return row;
    }));
  }

  focus(id) { this.list.querySelector(`[data-action=${id}]`)?.focus(); }

  press(event) {
    if (!this.waiting || ["Shift", "Control", "Alt", "Meta", "AltGraph"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const id = this.waiting;
    this.waiting = null;
    if (event.key !== "Escape") {
      this.error.textContent = this.keys.refuses(event, id);
      if (!this.error.textContent) { this.keys.keys[id] = keyOf(event); this.save(); }
    }
    this.fill();
    this.focus(id);
  }

  save() {
    this.options.changed();
    send("keys", { keys: this.keys.keys, at_once: this.options.atOnce });
  }
}

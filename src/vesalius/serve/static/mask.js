// A mask painted over an image: brush, erase, undo, by pointer or by keys, and ellipses. White is drawn anew.
"use strict";
import { find, get, picture, say } from "./app.js";

const MOST_UNDO = 30, STEP = 0.02; // of the image's longer side, for a key
const KEPT = "vesalius-mask", TOOLS = ["brush", "erase", "ellipse"];

/** The PNG in a text of base64, which may be a data URI. */
const decoded = (text) => new Blob([Uint8Array.from(atob(text.slice(text.indexOf(",") + 1)), (letter) => letter.charCodeAt(0))], { type: "image/png" });

export class Mask {
  constructor() {
    this.below = find("mask-image");
    this.canvas = find("mask-paint");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.tool = "brush";
    this.past = [];
    this.at = null; // the brush, in pixels of the image
    this.listen();
  }

  /** Begin on another image; the mask of this tab comes back where it belongs to the same one. */
  show(image, name, keeps = true) {
    this.image = image;
    this.name = name;
    this.past = [];
    if (!image) return;
    for (const canvas of [this.below, this.canvas]) { canvas.width = image.naturalWidth; canvas.height = image.naturalHeight; }
    this.below.getContext("2d").drawImage(image, 0, 0);
    this.layer = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    this.at = { x: this.canvas.width / 2, y: this.canvas.height / 2 };
    if (keeps) this.restore();
    this.draw();
  }

  get radius() { return (Number(find("mask-size").value) / 100) * Math.max(this.canvas.width, this.canvas.height) / 2; }

  /** Whether nothing is painted. */
  get isEmpty() {
    if (!this.layer) return true;
    const { data } = this.layer.getContext("2d").getImageData(0, 0, this.layer.width, this.layer.height);
    for (let k = 3; k < data.length; k += 4) if (data[k] > 127) return false;
    return true;
  }

  /** The mask as a data URI of a PNG: white is drawn anew. */
  png() {
    const out = document.createElement("canvas");
    out.width = this.layer.width;
    out.height = this.layer.height;
    const context = out.getContext("2d");
    const pixels = this.layer.getContext("2d").getImageData(0, 0, out.width, out.height);
    for (let k = 0; k < pixels.data.length; k += 4) {
      pixels.data.fill(pixels.data[k + 3] > 127 ? 255 : 0, k, k + 3);
      pixels.data[k + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
    return out.toDataURL("image/png");
  }

  stroke(from, to) {
    const context = this.layer.getContext("2d");
    context.globalCompositeOperation = this.tool === "erase" ? "destination-out" : "source-over";
    Object.assign(context, { lineCap: "round", lineJoin: "round", lineWidth: this.radius * 2, strokeStyle: "#fff" });
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.01, to.y);
    context.stroke();
    this.draw();
  }

  remember() {
    this.past.push(this.layer.getContext("2d").getImageData(0, 0, this.layer.width, this.layer.height));
    if (this.past.length > MOST_UNDO) this.past.shift();
    find("mask-undo").disabled = false;
  }

  undo() {
    const before = this.past.pop();
    if (before) this.layer.getContext("2d").putImageData(before, 0, 0);
    find("mask-undo").disabled = !this.past.length;
    this.done();
  }

  clear() {
    this.remember();
    this.layer.getContext("2d").clearRect(0, 0, this.layer.width, this.layer.height);
    this.done();
  }

  choose(tool) {
    this.tool = tool;
    for (const name of TOOLS) find(`mask-${name}`).setAttribute("aria-pressed", String(name === tool));
    this.draw();
  }

  /** The ellipses as a job gets them: those of the text field. */
  get ellipses() { return find("ellipses").value.split("\n").map((line) => line.trim()).filter(Boolean); }

  /** An ellipse from its centre to the corner of its box, as a line of the text field. */
  add(from, to) {
    const { width, height } = this.canvas;
    const shares = [from.x / width, from.y / height, Math.abs(to.x - from.x) / width, Math.abs(to.y - from.y) / height];
    if (Math.min(shares[2], shares[3]) < 0.005) return;
    const field = find("ellipses");
    field.value = [...this.ellipses, shares.map((share) => Math.min(1, Math.max(0, share)).toFixed(3)).join(",")].join("\n");
    field.dispatchEvent(new Event("input", { bubbles: true }));
    say("Ellipse added");
  }

  /** The outline of `text`, where it is an ellipse. */
  trace(text) {
    const [x, y, rx, ry, angle = 0] = text.split(",").map(Number);
    const { width, height } = this.canvas;
    if (![x, y, rx, ry, angle].every(Number.isFinite) || rx <= 0 || ry <= 0) return;
    this.context.beginPath();
    this.context.ellipse(x * width, y * height, rx * width, ry * height, (angle * Math.PI) / 180, 0, 7);
    this.context.fill();
  }

  draw() {
    const { context, canvas } = this;
    if (!this.layer) return;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    context.drawImage(this.layer, 0, 0);
    context.fillStyle = "#fff";
    for (const text of this.ellipses) this.trace(text);
    if (this.painting && this.tool === "ellipse") this.trace([this.from.x / canvas.width, this.from.y / canvas.height, Math.abs(this.at.x - this.from.x) / canvas.width, Math.abs(this.at.y - this.from.y) / canvas.height].join());
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "rgb(255 140 40 / .55)";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    if (this.tool === "ellipse" || (!this.near && document.activeElement !== canvas)) return;
    context.strokeStyle = this.tool === "erase" ? "#fff" : "#ffb066";
    context.lineWidth = Math.max(1, canvas.width / 256);
    context.beginPath();
    context.arc(this.at.x, this.at.y, this.radius, 0, 7);
    context.stroke();
  }

  done() {
    this.draw();
    try { sessionStorage.setItem(KEPT, JSON.stringify({ name: this.name, data: this.png() })); } catch { /* lasts until the page is left */ }
  }

  async restore() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEPT));
      if (kept?.name === this.name) await this.put(decoded(kept.data));
    } catch { /* begins empty */ }
  }

  /** The mask that an image of the library was drawn with, in the place of what is painted. */
  async take(id) {
    const { ok, data } = await get(`images/${id}/about`);
    const mask = ok ? data.settings.mask : null;
    if (!mask || !this.layer) return;
    this.layer.getContext("2d").clearRect(0, 0, this.layer.width, this.layer.height);
    try {
      await this.put(mask.data ? decoded(mask.data) : await (await fetch(picture(mask.id), { credentials: "same-origin" })).blob());
    } catch { return; } // it is gone, or was too large to be kept
    this.done();
  }

  /** White of a PNG is painted. */
  async put(blob) {
    const layer = this.layer, bitmap = await createImageBitmap(blob);
    if (layer !== this.layer || bitmap.width !== this.layer.width || bitmap.height !== this.layer.height) return;
    const context = layer.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
    for (let k = 0; k < pixels.data.length; k += 4) pixels.data[k + 3] = pixels.data[k] > 127 ? 255 : 0;
    context.putImageData(pixels, 0, 0);
    this.draw();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.x) / box.width) * this.canvas.width, y: ((event.clientY - box.y) / box.height) * this.canvas.height };
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || !this.layer) return;
      canvas.setPointerCapture(event.pointerId);
      this.painting = true;
      this.at = this.from = this.place(event);
      if (this.tool === "ellipse") return;
      this.remember();
      this.stroke(this.at, this.at);
    });
    canvas.addEventListener("pointermove", (event) => {
      const to = this.place(event);
      this.near = true;
      if (this.painting && this.tool !== "ellipse") this.stroke(this.at, to);
      this.at = to;
      this.draw();
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => {
      if (!this.painting) return;
      this.painting = false;
      if (this.tool !== "ellipse") this.done();
      else if (kind === "pointerup") this.add(this.from, this.at);
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => { this.near = false; this.draw(); });
    for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, () => this.draw());
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const name of TOOLS) find(`mask-${name}`).addEventListener("click", () => this.choose(name));
    find("ellipses").addEventListener("input", () => this.draw());
    find("mask-undo").addEventListener("click", () => this.undo());
    find("mask-clear").addEventListener("click", () => this.clear());
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.layer) return;
    const far = STEP * Math.max(this.canvas.width, this.canvas.height) * (event.shiftKey ? 4 : 1);
    const moves = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] };
    if (moves[event.key]) {
      this.at = { x: Math.min(this.canvas.width, Math.max(0, this.at.x + moves[event.key][0])), y: Math.min(this.canvas.height, Math.max(0, this.at.y + moves[event.key][1])) };
      this.draw();
    } else if (event.key === " ") {
      if (this.tool === "ellipse") this.choose("brush");
      this.remember();
      this.stroke(this.at, this.at);
      this.done();
      say(this.tool === "erase" ? "Erased" : "Painted");
    } else if (event.key.toLowerCase() === "e") { this.choose(this.tool === "erase" ? "brush" : "erase"); say(this.tool === "erase" ? "Eraser" : "Brush"); }
    else if (event.key.toLowerCase() === "z") this.undo();
    else return;
    event.preventDefault();
  }
}

// An image on a canvas: zoom, pan, window and level, by wheel, drag, pinch or calls of the page.
"use strict";

const LARGEST_ZOOM = 16;
const SMALLEST_ZOOM = 0.5;
const GESTURE_MS = 400; // wheel steps that follow one another within this time are one gesture

/** The pixels of a PNG or JPEG in a Blob: 8-bit RGBA. */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  return { width, height, data, max: 255 };
}

/** Grey values as they come from the server: width * height little-endian uint16. */
export function greys(buffer, width, height, max = 65535) {
  return { width, height, data: new Uint16Array(buffer), max };
}

export class Viewer {
  /** `onChange(view, kind)` is called after each change; kind is zoom, pan, window or reset. */
  constructor(canvas, onChange = () => {}) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.context = canvas.getContext("2d", { alpha: false });
    this.image = null;
    this.linked = [];
    this.tool = "pan";
    this.used = { zoomed: 0, panned: 0, windowed: 0, reset: 0 };
    this.view = { zoom: 1, x: 0.5, y: 0.5, window: 1, level: 0.5 }; // in parts of the image, of its range
    this.pointers = new Map();
    this.last = { kind: "", at: -Infinity };
    this.pending = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.listen();
  }

  /** Views that move together. */
  static link(...viewers) {
    for (const one of viewers) one.linked = viewers.filter((other) => other !== one);
  }

  /** Show what `decode` or `greys` gave; null clears. What is not kept goes back to the whole image. */
  show(image, { keepZoom = false, keepWindow = false } = {}) {
    this.image = image;
    if (!keepZoom) Object.assign(this.view, { zoom: 1, x: 0.5, y: 0.5 });
    if (!keepWindow) Object.assign(this.view, { window: 1, level: 0.5 });
    this.used = { zoomed: 0, panned: 0, windowed: 0, reset: 0 };
    this.last = { kind: "", at: -Infinity };
    if (image) {
      this.buffer = new OffscreenCanvas(image.width, image.height);
      this.levelled = null;
    }
    this.paint();
  }

  // what a page calls, for its buttons and keys
  zoomBy(factor, at = null) {
    const view = { ...this.view };
    view.zoom = Math.min(LARGEST_ZOOM, Math.max(SMALLEST_ZOOM, view.zoom * factor));
    if (at && this.image) { // the point under the pointer stays where it is
      const { scale, width, height } = this.geometry();
      const wider = (scale * view.zoom) / this.view.zoom;
      const dx = (at.x - width / 2) / this.image.width;
      const dy = (at.y - height / 2) / this.image.height;
      view.x += dx / scale - dx / wider;
      view.y += dy / scale - dy / wider;
    }
    this.change(view, "zoom");
  }
  panBy(dx, dy) { // in CSS pixels
    if (!this.image) return;
    const { scale } = this.geometry();
    const x = this.view.x - dx / scale / this.image.width;
    const y = this.view.y - dy / scale / this.image.height;
    this.change({ ...this.view, x, y }, "pan");
  }
  windowBy(dWindow, dLevel) { // in parts of the range
    this.windowTo(this.view.window + dWindow, this.view.level + dLevel);
  }
  windowTo(window, level) {
    window = Math.min(2, Math.max(0.02, window));
    level = Math.min(1, Math.max(0, level));
    this.change({ ...this.view, window, level }, "window");
  }
  reset() {
    this.change({ zoom: 1, x: 0.5, y: 0.5, window: 1, level: 0.5 }, "reset");
  }

  change(view, kind) {
    view.x = Math.min(1, Math.max(0, view.x));
    view.y = Math.min(1, Math.max(0, view.y));
    this.count(kind);
    this.view = view;
    for (const other of this.linked) {
      other.view = { ...view };
      other.paint();
    }
    this.paint();
    this.onChange(view, kind);
  }

  count(kind) {
    const now = performance.now();
    const goesOn = kind === this.last.kind && now - this.last.at < GESTURE_MS;
    this.last = { kind, at: now };
    if (goesOn) return;
    this.used[{ zoom: "zoomed", pan: "panned", window: "windowed", reset: "reset" }[kind]] += 1;
  }

  geometry() {
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    const fit = this.image ? Math.min(width / this.image.width, height / this.image.height) : 1;
    return { width, height, scale: fit * this.view.zoom };
  }

  paint() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.draw(); });
  }

  draw() {
    const { canvas, context, image } = this;
    const ratio = devicePixelRatio || 1;
    const { width, height, scale } = this.geometry();
    const wide = Math.round(width * ratio), high = Math.round(height * ratio);
    if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#07080a";
    context.fillRect(0, 0, wide, high);
    if (!image || !wide || !high) return;
    this.lookUp();
    context.setTransform(scale * ratio, 0, 0, scale * ratio, wide / 2, high / 2);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.buffer, -this.view.x * image.width, -this.view.y * image.height);
  }

  /** The image's values through the window into the buffer, where the window has changed. */
  lookUp() {
    const { image, view } = this;
    const wanted = `${view.window} ${view.level}`;
    if (this.levelled === wanted) return;
    this.levelled = wanted;
    const table = new Uint8ClampedArray(image.max + 1);
    const low = view.level - view.window / 2;
    for (let v = 0; v <= image.max; v++) table[v] = ((v / image.max - low) / view.window) * 255 + 0.5;
    const out = new ImageData(image.width, image.height);
    const to = out.data, from = image.data;
    if (from instanceof Uint16Array) {
      for (let i = 0, k = 0; i < from.length; i++, k += 4) {
        to[k] = to[k + 1] = to[k + 2] = table[Math.min(from[i], image.max)];
        to[k + 3] = 255;
      }
    } else {
      for (let k = 0; k < from.length; k += 4) {
        to[k] = table[from[k]];
        to[k + 1] = table[from[k + 1]];
        to[k + 2] = table[from[k + 2]];
        to[k + 3] = 255;
      }
    }
    this.buffer.getContext("2d").putImageData(out, 0, 0);
  }

  listen() {
    const { canvas, pointers } = this;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? event.deltaY * 33 : event.deltaY;
      this.zoomBy(Math.exp(-lines / 400), { x: event.offsetX, y: event.offsetY });
    }, { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      const windows = event.button === 2 || event.shiftKey || this.tool === "window";
      this.dragging = windows ? "window" : "pan";
      canvas.classList.toggle("windowing", windows);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const others = [...pointers.values()].filter((p) => p.pointerId !== event.pointerId);
      pointers.set(event.pointerId, event);
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      if (!dx && !dy) return;
      if (others.length) this.pinch(before, event, others[0]);
      else if (this.dragging === "window") this.windowBy(dx / 400, dy / 400);
      else this.panBy(dx, dy);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        pointers.delete(event.pointerId);
        if (!pointers.size) canvas.classList.remove("windowing");
      });
    }
  }

  pinch(before, now, other) {
    const apart = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
    const box = this.canvas.getBoundingClientRect();
    const middle = { x: (now.clientX + other.clientX) / 2 - box.x, y: (now.clientY + other.clientY) / 2 - box.y };
    this.zoomBy(apart(now, other) / apart(before, other), middle);
    this.panBy((now.clientX - before.clientX) / 2, (now.clientY - before.clientY) / 2);
  }
}

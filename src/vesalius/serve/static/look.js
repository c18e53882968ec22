// Images looked at closely: linked views with their tools and keys, on top of the shared viewer.
"use strict";
import { Viewer, decode, greys } from "../static/viewer.js";
import { el, picture } from "./app.js";

/** The pixels of an image of the library; grey of more than 8 bits with all its values. */
export async function load(image) {
  const response = await fetch(picture(image.id, image.bits > 8 ? "raw" : "png"), { credentials: "same-origin" });
  if (!response.ok) throw new Error("no image");
  return image.bits > 8 ? greys(await response.arrayBuffer(), image.width, image.height) : decode(await response.blob());
}

export class Look {
  /** Views in `places`, which move together, and one row of tools after the last. */
  constructor(places) {
    this.viewers = places.map((place, number) => this.view(place, number, places.length));
    Viewer.link(...this.viewers);
    this.window = el("input", { type: "range", min: 0.02, max: 2, step: 0.01, value: 1, "aria-label": "Contrast window", on: { input: () => this.slide() } });
    this.level = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0.5, "aria-label": "Brightness level", on: { input: () => this.slide() } });
    const button = (text, name, does) => el("button", { type: "button", "aria-label": name, title: name, on: { click: does } }, text);
    this.tools = el("div", { class: "tools", role: "group", "aria-label": "View" },
      button("−", "Zoom out", () => this.first.zoomBy(0.8)), button("+", "Zoom in", () => this.first.zoomBy(1.25)),
      el("label", {}, "Window", this.window), el("label", {}, "Level", this.level),
      button("Reset", "Reset the view", () => this.first.reset()));
    places.at(-1).after(this.tools);
  }

  get first() { return this.viewers[0]; }

  view(place, number, count) {
    const name = count > 1 ? `View ${number + 1}` : "Image";
    const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": `${name}. Arrow keys move, plus and minus zoom, 0 resets.` });
    place.classList.add("viewer");
    place.append(canvas);
    const viewer = new Viewer(canvas, (view) => { this.window.value = view.window; this.level.value = view.level; });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) viewer.panBy(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") viewer.zoomBy(1.25);
      else if (event.key === "-") viewer.zoomBy(0.8);
      else if (event.key === "0") viewer.reset();
      else return;
      event.preventDefault();
    });
    return viewer;
  }

  slide() { this.first.windowTo(Number(this.window.value), Number(this.level.value)); }

  show(number, pixels, kept = {}) { this.viewers[number].show(pixels, kept); }
}

// Four ways to steer: between two prompts, several at once, a part redrawn, from an image.
"use strict";
import { el, find, picture } from "./app.js";
import { change, params } from "./address.js";
import { Drawing } from "./drawing.js";
import { Mask } from "./mask.js";
import { Parts } from "./parts.js";
import { Settings } from "./settings.js";
import { Source } from "./source.js";
import "./picture.js";

const form = find("form");
const mode = () => form.elements.mode.value;
const parts = new Parts(), mask = new Mask();
const source = new Source(async (image) => {
  const given = params().has("mask"); // an image that was drawn with a mask
  mask.show(image, source.id === "file" ? source.file?.name : source.id, !given);
  layout();
  if (!image || !given) return;
  await mask.take(params().get("mask"));
  change({ mask: null });
});
const HINTS = {
  interpolate: "Two prompts and one seed: the frames go from the first to the last.",
  compose: "Each prompt pulls by its weight; a negative one pushes away.",
  inpaint: "Choose an image, paint over a part of it, and say what the image shows.",
  "image-to-image": "Choose an image and how much of it changes.",
};

const drawing = new Drawing(find("result"), HINTS.interpolate, { onImages: frames });

const settings = new Settings({
  kind: mode,
  own: ({ value, number }) => OWN[mode()]({ value, number }),
  onJob: (id) => drawing.follow(id),
  onShow: (found) => { parts.show(); layout(); source.show(); drawing.follow(found.get("job")); },
});

function needed(value, name, text) {
  if (!value(name)) { find(name).focus(); throw new Error(text); }
  return value(name);
}

const OWN = {
  interpolate: ({ value, number }) => ({ first: needed(value, "first", "Say what the first frame shows."), second: needed(value, "second", "Say what the last frame shows."), frames: number("frames") ?? 9 }),
  compose: ({ number }) => ({ parts: parts.body, n: number("n") ?? 1 }),
  inpaint: ({ value, number }) => {
    const image = source.body, prompt = needed(value, "prompt", "Say what the image shows.");
    const ellipses = mask.ellipses;
    if (mask.image && mask.isEmpty && !ellipses.length) { find("mask-paint").focus(); throw new Error("Paint over the part that is to be drawn anew."); }
    if (!mask.image && !ellipses.length) throw new Error("This browser cannot show the image, so that no mask can be painted on it: give ellipses.");
    const painted = mask.image && !mask.isEmpty ? { data: mask.png() } : null;
    return { prompt, image, mask: painted, ellipses, feather: number("feather") ?? 4, strength: number("strength"), n: number("n") ?? 1 };
  },
  "image-to-image": ({ value, number }) => ({ image: source.body, prompt: needed(value, "prompt", "Say what the image shows."), strength: number("strength"), n: number("n") ?? 1 }),
};

/** What belongs to the chosen way. */
function layout() {
  for (const place of document.querySelectorAll("[data-for]")) place.hidden = !place.dataset.for.split(" ").includes(mode());
  if (!mask.image) find("mask").hidden = true;
  drawing.hint = HINTS[mode()];
  if (!drawing.id) { drawing.empty(); if (!find("mask").hidden) find("result").replaceChildren(); }
  find("strength-said").textContent = find("strength").value;
  if (mode() !== "interpolate") find("frames-view").hidden = true; else frames(drawing.images());
}

// the frames of an interpolation under a slider
let shown = [];
function frames(images) {
  const job = drawing.job;
  const slider = find("frame-slider");
  shown = [...images].sort((a, b) => a.number - b.number);
  find("frames-view").hidden = job?.kind !== "interpolate" || !shown.length || mode() !== "interpolate";
  if (find("frames-view").hidden) return;
  slider.max = shown.length - 1;
  find("frame-first").textContent = job.settings.first;
  find("frame-second").textContent = job.settings.second;
  slide();
}

function slide() {
  const number = Math.min(shown.length - 1, Number(find("frame-slider").value));
  if (number < 0) return;
  find("frame-image").src = picture(shown[number].id, "jpeg");
  find("frame-image").alt = `Frame ${number + 1} of ${shown.length}`;
  find("frame-slider").setAttribute("aria-valuetext", `Frame ${number + 1} of ${shown.length}`);
}
find("frame-slider").addEventListener("input", slide);

form.addEventListener("change", (event) => { if (event.target.name === "mode") { change({ job: null }); drawing.follow(null); layout(); } });
form.addEventListener("input", (event) => {
  if (event.target.id === "strength") find("strength-said").textContent = event.target.value;
  if (find("part-list").contains(event.target)) change({ part: parts.address() });
});
find("mask-size").addEventListener("input", () => mask.draw());
await settings.begin();
if (settings.model) document.body.append(el("datalist", { id: "known-prompts" }, settings.model.prompts.map((text) => el("option", { value: text }))));
if (!params().has("image")) source.show();

// One image in a window of its own: looked at closely, with its provenance; its id is in the address.
"use strict";
import { complain, el, find, get, me, picture, reason, remove, say, when } from "./app.js";
import { addressOf, change, params } from "./address.js";
import { Look, load } from "./look.js";

const box = find("picture");
let look = null, shown = null, stepped = false;

/** Show an image of the library. */
export function openPicture(id) {
  stepped = true;
  change({ show: id }, true);
  follow();
}

function row(name, value) { return [el("dt", {}, name), el("dd", {}, String(value))]; }

async function follow() {
  const id = params().get("show");
  if (!id) { if (box.open) box.close(); shown = null; return; }
  if (id === shown) return;
  shown = id;
  for (const place of ["picture-facts", "picture-provenance"]) find(place).replaceChildren();
  complain(find("picture-error"));
  find("picture-made").open = false;
  look ??= new Look([find("picture-view")]);
  look.show(0, null);
  if (!box.open) box.showModal();
  const answer = await get(`images/${id}/about`);
  if (shown !== id) return;
  if (!answer.ok) { complain(find("picture-error"), answer.status === 404 ? "This image is not in the library any more." : reason(answer)); return; }
  tell(answer.data);
  try {
    const pixels = await load(answer.data);
    if (shown === id) look.show(0, pixels);
  } catch { complain(find("picture-error"), "The image could not be loaded."); }
}

function tell(image) {
  find("picture-title").textContent = image.title;
  const settings = image.settings;
  find("picture-facts").replaceChildren(...row("Seed", image.seed), ...row("Model", image.model),
    ...(image.title === image.prompt ? [] : row("Prompt", image.prompt)), ...(image.adapters ? row("Adapters", image.adapters) : []), ...(image.label ? row("Label", image.label) : []),
    ...row("Size", `${image.width} × ${image.height}, ${image.bits} bits`), ...row("Made", `${when(image.created)} by ${image.owner}`));
  find("picture-use").href = addressOf(settings, image.id);
  find("picture-edit").href = `steer?${new URLSearchParams({ mode: "inpaint", image: image.id, prompt: image.prompt })}`;
  find("picture-vary").href = `steer?${new URLSearchParams({ mode: "image-to-image", image: image.id, prompt: image.prompt })}`;
  find("picture-compare").href = `compare?id=${image.id}`;
  for (const format of ["png", "jpeg", "dicom"]) {
    const suffix = { png: "png", jpeg: "jpg", dicom: "dcm" }[format];
    Object.assign(find(`picture-${format}`), { href: picture(image.id, format), download: `vesalius-${image.id}.${suffix}` });
  }
  const button = find("picture-delete");
  button.hidden = image.owner !== me();
  button.textContent = "Delete";
  button.onclick = () => erase(image.id, button);
}

/** Asks once more in its own words, then deletes. */
async function erase(id, button) {
  if (button.textContent === "Delete") { button.textContent = "Delete for good?"; return; }
  const answer = await remove(`images/${id}`);
  if (!answer.ok) { complain(find("picture-error"), reason(answer)); return; }
  dispatchEvent(new CustomEvent("image-deleted", { detail: id }));
  say("The image is deleted.");
  leave();
}

function leave() {
  if (stepped) { stepped = false; history.back(); } else { change({ show: null }); follow(); }
}

find("picture-close").addEventListener("click", leave);
box.addEventListener("cancel", (event) => { event.preventDefault(); leave(); });
box.addEventListener("click", (event) => { if (event.target === box) leave(); });
find("picture-made").addEventListener("toggle", async () => {
  const place = find("picture-provenance");
  if (!find("picture-made").open || place.children.length) return;
  const { ok, data } = await get(`images/${shown}/provenance`);
  if (ok) place.replaceChildren(...Object.entries(data).flatMap(([name, value]) => row(name.replaceAll("_", " "), typeof value === "object" ? JSON.stringify(value) : value)));
});
addEventListener("popstate", follow);
follow();

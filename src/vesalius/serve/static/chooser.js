// An image of the library, chosen in a window.
"use strict";
import { el, find, get, picture } from "./app.js";

let next = null, chosen = () => {};

async function load() {
  const { ok, data } = await get(`images?limit=40${next === null ? "" : `&before=${next}`}`);
  if (!ok) return;
  next = data.next;
  find("chooser-more").hidden = next === null;
  find("chooser-tiles").append(...data.images.map((image) => el("li", { class: "tile" },
    el("button", { type: "button", class: "open", on: { click: () => { find("chooser").close(); chosen(image); } } },
      el("img", { src: picture(image.id, "thumbnail"), alt: `${image.title}, seed ${image.seed}`, loading: "lazy" })),
    el("p", { "aria-hidden": "true" }, image.title))));
  find("chooser-none").hidden = !!find("chooser-tiles").children.length;
}

/** Let somebody choose; `take(image)` gets the image's row of the library. */
export function choose(take) {
  chosen = take;
  next = null;
  find("chooser-tiles").replaceChildren();
  find("chooser").showModal();
  load();
}

find("chooser-close").addEventListener("click", () => find("chooser").close());
find("chooser-more").addEventListener("click", load);

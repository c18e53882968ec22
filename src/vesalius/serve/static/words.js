// Words for prompts from the dictionary that the model's captions came from: kinds of image, then findings.
"use strict";
import { el } from "./app.js";

const FEW = 7; // findings that are shown at first

/** Offer words in `place` for what `field` holds, anew with each change of it. */
export function offer(place, field, model) {
  const kinds = new Map();
  for (const prompt of model.prompts) {
    const [kind, ...rest] = prompt.split(", ");
    if (!kinds.has(kind)) kinds.set(kind, []);
    if (rest.length) kinds.get(kind).push(rest.join(", "));
  }
  const put = (text) => {
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const draw = () => {
    if (!kinds.size) { place.replaceChildren(); return; }
    const text = field.value.trim();
    const kind = [...kinds.keys()].filter((name) => text.toLowerCase().startsWith(name.toLowerCase())).sort((a, b) => b.length - a.length)[0];
    const focused = document.activeElement?.closest("[data-words]") === place ? document.activeElement.textContent : null;
    const chosen = el("select", { "aria-label": "Kind of image", on: { change: (event) => put(event.target.value) } },
      el("option", { value: "" }, "Choose a kind of image"), [...kinds.keys()].map((name) => el("option", {}, name)));
    chosen.value = kind ?? "";
    const children = [chosen];
    const findings = kinds.get(kind) ?? [];
    if (findings.length) {
      const rest = text.slice(kind.length).replace(/^,\s*/, "");
      const known = findings.includes(rest);
      const fits = known || !rest ? findings : findings.filter((word) => word.toLowerCase().includes(rest.toLowerCase()));
      const all = fits.length ? fits : findings;
      const short = place.dataset.all === kind ? all : all.slice(0, FEW);
      const some = known && !short.includes(rest) ? [...short, rest] : short;
      children.push(el("div", { class: "chips", role: "group", "aria-label": "Findings that the model knows" },
        some.map((word) => el("button", {
          type: "button", class: "chip", "aria-pressed": String(word === rest),
          on: { click: () => put(word === rest ? kind : `${kind}, ${word}`) },
        }, word)),
        some.length < all.length ? el("button", { type: "button", class: "chip quiet", on: { click: () => { place.dataset.all = kind; draw(); place.querySelectorAll("button")[FEW]?.focus(); } } }, `All ${all.length}`) : null));
    }
    place.replaceChildren(...children);
    if (focused) ([...place.querySelectorAll("button")].find((one) => one.textContent === focused) ?? chosen).focus();
  };
  if (place.redraw) field.removeEventListener("input", place.redraw);
  place.redraw = draw;
  field.addEventListener("input", draw);
  draw();
}

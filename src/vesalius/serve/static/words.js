// Words for prompts from the dictionary that the model's captions came from: kinds of image, findings, then the rest.
"use strict";
import { el } from "./app.js";
import { say, understand, unsaid } from "./phrases.js";

const FEW = 7; // findings that are shown at first
const OLDEST = 120;

/** Offer words in `place` for what `field` holds, anew with each change of it. */
export function offer(place, field, model) {
  const put = (text) => {
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };
  let open = { text: "", words: {} }; // chosen, and not said yet by the text
  const draw = () => {
    if (!model.kinds.length) { place.replaceChildren(); return; }
    const text = field.value.trim();
    const found = understand(model.kinds, text), { kind, exact } = found;
    const words = exact && open.text === text ? { ...found.words, ...open.words } : found.words;
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    const kinds = el("select", { "aria-label": "Kind of image", "data-name": "kind", on: { change: (event) => put(event.target.value === "" ? "" : say(model.kinds[event.target.value], {})) } },
      el("option", { value: "" }, "Choose a kind of image"), model.kinds.map((one, number) => el("option", { value: number }, one.kind)));
    kinds.value = kind ? String(model.kinds.indexOf(kind)) : "";
    const change = (some) => {
      const wanted = { ...words, ...some };
      open = { text: say(kind, wanted), words: Object.fromEntries(unsaid(kind, wanted).map(({ name }) => [name, wanted[name]])) };
      put(open.text);
    };
    place.replaceChildren(kinds, ...(kind ? [findings(place, { kind, words, rest: exact ? "" : text.slice(kind.kind.length).replace(/^,\s*/, ""), change, draw }), others({ kind, words, change })] : []));
    if (focused) ([...place.querySelectorAll("[data-name]")].find((one) => one.dataset.name === focused) ?? kinds).focus();
  };
  if (place.redraw) field.removeEventListener("input", place.redraw);
  place.redraw = draw;
  field.addEventListener("input", draw);
  draw();
}

/** Chips of what is seen: those that what is being typed fits, some of many. */
function findings(place, { kind, words, rest, change, draw }) {
  const every = kind.words.label ?? [], chosen = words.label ?? "";
  const fits = rest ? every.filter((word) => word.toLowerCase().includes(rest.toLowerCase())) : every;
  const all = fits.length ? fits : every;
  const short = place.dataset.all === kind.kind ? all : all.slice(0, FEW);
  const some = chosen && !short.includes(chosen) ? [...short, chosen] : short;
  const more = () => { place.dataset.all = kind.kind; draw(); place.querySelectorAll("button")[FEW]?.focus(); };
  return el("div", { class: "chips", role: "group", "aria-label": "Findings that the model knows" },
    some.map((word) => el("button", {
      type: "button", class: "chip", "data-name": word, "aria-pressed": String(word === chosen),
      on: { click: () => change({ label: word === chosen ? "" : word }) },
    }, word)),
    some.length < all.length ? el("button", { type: "button", class: "chip quiet", on: { click: more } }, `All ${all.length}`) : null);
}

/** What else a kind can say: view, side, age, sex. */
function others({ kind, words, change }) {
  const names = Object.keys(kind.words).filter((name) => name !== "label");
  const title = (name) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
  return el("div", { class: "others" }, names.map((name) => {
    const shared = { "data-name": name, on: { change: (event) => change({ [name]: event.target.value }) } };
    const field = kind.words[name].length
      ? el("select", shared, el("option", { value: "" }, "any"), kind.words[name].map((word) => el("option", {}, word)))
      : el("input", { type: "number", min: 0, max: OLDEST, step: 1, placeholder: "any", inputmode: "numeric", ...shared });
    field.value = words[name] ?? "";
    return el("label", {}, title(name), field);
  }), unsaid(kind, words).map(({ name, needs }) => el("small", {}, needs.length ? `${title(name)} is said together with ${needs.join(" and ")}.` : `${title(name)} is not said beside the rest.`)));
}

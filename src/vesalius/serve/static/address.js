// The settings of a page in its address: copied, kept, gone back to.
"use strict";

/** The address's settings as URLSearchParams. */
export const params = () => new URLSearchParams(location.search);

/** Write `found` (URLSearchParams) into the address; `push` makes a step that "back" undoes. */
export function write(found, push = false) {
  const text = found.toString();
  const target = text ? `?${text}` : location.pathname;
  if (text === location.search.slice(1)) return;
  history[push ? "pushState" : "replaceState"](null, "", target);
}

/** Change some settings of the address, null to take one out. */
export function change(some, push = false) {
  const found = params();
  for (const [name, value] of Object.entries(some)) {
    if (value === null || value === "") found.delete(name);
    else if (Array.isArray(value)) { found.delete(name); for (const one of value) found.append(name, one); }
    else found.set(name, value);
  }
  write(found, push);
}

/** A form's fields from the address; those that it does not name go back to what the page came with. */
export function fill(form, found = params()) {
  for (const field of form.elements) {
    if (!field.name) continue;
    const value = found.get(field.name);
    if (field.type === "radio") field.checked = value === null ? field.defaultChecked : value === field.value;
    else if (field.type === "checkbox") field.checked = value === null ? field.defaultChecked : value === "1";
    else if (field.tagName === "SELECT") choose(field, value ?? initial(field));
    else field.value = value ?? field.defaultValue;
  }
}

const initial = (select) => [...select.options].find((option) => option.defaultSelected)?.value ?? select.options[0]?.value ?? "";

function choose(select, value) {
  if (![...select.options].some((option) => option.value === value) && value) select.add(new Option(value, value));
  select.value = value;
}

/** A form's fields that differ from what the page came with, on top of what the address has besides. */
export function collect(form, found = params()) {
  for (const field of form.elements) {
    if (!field.name) continue;
    if (field.type === "radio") {
      if (field.checked && !field.defaultChecked) found.set(field.name, field.value);
      else if (field.checked) found.delete(field.name);
    } else if (field.type === "checkbox") {
      if (field.checked !== field.defaultChecked) found.set(field.name, field.checked ? "1" : "0");
      else found.delete(field.name);
    } else {
      const usual = field.tagName === "SELECT" ? initial(field) : field.defaultValue;
      if (field.value !== usual) found.set(field.name, field.value);
      else found.delete(field.name);
    }
  }
  return found;
}

/** The address of a page that draws what `settings`, a body of the API, asks for; `id` is an image drawn with them. */
export function addressOf(settings, id) {
  const found = new URLSearchParams();
  const put = (name, value) => { if (value !== null && value !== undefined && value !== "") found.set(name, value); };
  for (const name of ["prompt", "negative", "label", "model", "seed", "steps", "guidance", "sampler", "size", "n", "frames", "first", "second", "strength", "feather"]) put(name, settings[name]);
  const [from, to] = settings.guidance_interval ?? [0, 1];
  put("guidance_from", from || null);
  put("guidance_to", to === 1 ? null : to);
  put("guidance_rescale", settings.guidance_rescale || null);
  put("ellipses", settings.ellipses?.join("\n"));
  if (settings.mask?.data || settings.mask?.id) put("mask", id);
  for (const use of settings.adapters ?? []) found.append("adapter", `${use.id}:${use.weight}`);
  for (const part of settings.parts ?? []) found.append("part", `${part.weight}:${part.prompt}`);
  if (settings.image?.id) put("image", settings.image.id);
  if (settings.kind && settings.kind !== "generate") {
    put("mode", settings.kind);
    return `steer?${found}`;
  }
  return `./?${found}`;
}

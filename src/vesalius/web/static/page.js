// Requests of a page, and forms that are sent as JSON.
"use strict";

/** POST `body` as JSON; {ok, status, data}, with status 0 where the server is out of reach. */
export async function send(path, body, method = "POST") {
  const csrf = document.querySelector("meta[name=csrf-token]")?.content ?? "";
  try {
    const response = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
      body: JSON.stringify(body),
      credentials: "same-origin",
    });
    const data = await response.json().catch(() => ({}));
    return { ok: response.ok, status: response.status, data };
  } catch {
    return { ok: false, status: 0, data: {} };
  }
}

/** What a form holds: texts, numbers where the field is one, and for boxes of one name a list. */
export function values(form) {
  const found = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled) continue;
    if (field.type === "radio") { if (field.checked) found[field.name] = field.value; }
    else if (field.type === "checkbox") found[field.name] = field.checked;
    else if (field.type === "number" || field.type === "range") found[field.name] = field.value === "" ? null : Number(field.value);
    else found[field.name] = field.value.trim();
  }
  return found;
}

/** Forms with data-send go to that address; the answer names the next page or says what is wrong. */
for (const form of document.querySelectorAll("form[data-send]")) {
  const said = form.querySelector("[data-error]");
  form.noValidate = true;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    for (const field of form.elements) field.removeAttribute("aria-invalid");
    const missing = [...form.elements].find((field) => field.willValidate && !field.checkValidity());
    if (missing) {
      missing.setAttribute("aria-invalid", "true");
      said.textContent = missing.dataset.missing || "Please fill in what is marked.";
      missing.focus();
      return;
    }
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    const { ok, data, status } = await send(form.dataset.send, values(form));
    if (ok) { location.assign(data.next ?? form.dataset.next ?? "./"); return; }
    button.disabled = false;
    said.textContent = status ? (typeof data.detail === "string" ? data.detail : "That was not accepted: please check what you filled in.")
      : "The server cannot be reached. What you filled in stays here: try again.";
  });
}

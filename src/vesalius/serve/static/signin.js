// A key for a cookie, then on to the page that was wanted.
"use strict";
import { send } from "../static/page.js";

const form = document.getElementById("signin"), error = document.getElementById("error");
form.noValidate = true;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  error.textContent = "";
  if (!form.key.value) { error.textContent = "Give the key of your user."; form.key.focus(); return; }
  const { ok, status } = await send("api/v1/session", { key: form.key.value.trim() });
  if (ok) { location.reload(); return; }
  error.textContent = status ? "This key is nobody's here." : "The server cannot be reached: try again.";
});

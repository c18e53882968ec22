// The queue: who has asked for what, how far it is, and what can be cancelled.
"use strict";
import { complain, el, find, get, me, plural, reason, remove, say, spell, when } from "./app.js";
import { addressOf } from "./address.js";

const POLL_MS = 2000;
const body = find("jobs").tBodies[0];
const KINDS = { generate: "Generate", "image-to-image": "From an image", compose: "Compose", interpolate: "Interpolate", inpaint: "Inpaint" };
const rows = new Map();

/** Where a job is looked at. */
function place(job) {
  const address = addressOf(job.settings, job.images[0]?.id);
  return `${address}${address.includes("?") ? "&" : "?"}job=${job.id}`;
}

function state(job) {
  const left = job.eta_seconds === null ? "" : `, ${spell(job.eta_seconds)} left`;
  if (job.state === "running") return [el("progress", { max: job.total, value: job.done, "aria-label": `Progress of ${job.prompt}` }), ` ${Math.floor(job.done + 1e-6)} of ${job.total}${left}`];
  if (job.state === "queued") return [job.place > 1 ? `Waiting, ${plural(job.place - 1, "job")} before it` : `Next${left}`];
  if (job.state === "failed") return [el("span", { class: "bad" }, `Failed: ${job.error}`)];
  const kept = job.images.length;
  return [job.state === "done" ? plural(kept, "image") : `Cancelled${kept ? `, ${plural(kept, "image")} kept` : ""}`];
}

/** A row, made once and then only changed, so that the focus stays where it is. */
function row(job) {
  let found = rows.get(job.id);
  if (!found) {
    const cancel = el("button", { type: "button", class: "quiet", "aria-label": `Cancel: ${job.prompt}`, on: { click: () => stop(job) } }, "Cancel");
    const cells = { state: el("td", { class: "standing" }), link: el("a", {}, job.prompt), cancel };
    found = { cells, line: el("tr", { "data-job": job.id },
      el("th", { scope: "row" }, cells.link, job.label ? el("small", {}, ` ${job.label}`) : null),
      el("td", {}, KINDS[job.kind] ?? job.kind), el("td", {}, job.owner), cells.state, el("td", {}, when(job.created)), el("td", {}, cancel)) };
    rows.set(job.id, found);
  }
  const wanted = JSON.stringify([job.state, job.done, job.place, job.eta_seconds, job.images.length]);
  if (found.told !== wanted) {
    found.told = wanted;
    found.cells.state.replaceChildren(...state(job));
    found.cells.link.href = place(job); // a mask is that of an image, once there is one
  }
  found.cells.cancel.hidden = job.owner !== me() || !["queued", "running"].includes(job.state);
  return found.line;
}

async function stop(job) {
  const answer = await remove(`jobs/${job.id}`);
  complain(find("error"), answer.ok ? "" : reason(answer));
  if (answer.ok) say("The job is cancelled.");
  await load();
}

async function load() {
  const answer = await get("jobs?limit=50");
  if (!answer.ok) return;
  const { jobs } = answer.data;
  const lines = jobs.map(row);
  lines.forEach((line, index) => { if (body.children[index] !== line) body.insertBefore(line, body.children[index] ?? null); });
  while (body.children.length > lines.length) body.lastElementChild.remove();
  find("jobs").hidden = !jobs.length;
  find("none").hidden = !!jobs.length;
}

async function poll() {
  if (!document.hidden) await load();
  setTimeout(poll, POLL_MS);
}
addEventListener("server-back", load);
poll();

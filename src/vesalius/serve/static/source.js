// The image that a drawing starts from: of the library by its id in the address, or a file kept in this tab.
"use strict";
import { complain, find, get, picture } from "./app.js";
import { change, params } from "./address.js";
import { choose } from "./chooser.js";

const KEPT = "vesalius-upload", LARGEST = 11_000_000; // bytes of a file: as base64 it fits into a request

export class Source {
  /** `onImage(bitmap)` gets what is to be seen, null where there is nothing. */
  constructor(onImage) {
    this.onImage = onImage;
    this.id = null;
    this.file = null; // {name, data}: a data URI
    find("source-library").addEventListener("click", () => choose((image) => {
      change({ image: image.id }, true);
      if (!find("prompt").value) { find("prompt").value = image.prompt; find("prompt").dispatchEvent(new Event("input", { bubbles: true })); }
      this.show();
    }));
    find("source-file").addEventListener("change", (event) => this.upload(event.target.files[0]));
  }

  /** What the address says. */
  async show() {
    const id = params().get("image");
    if (id === this.id) return;
    this.id = id;
    if (id === "file") { await this.again(); return; }
    if (!id) { this.nothing("None is chosen yet."); return; }
    const { ok, data } = await get(`images/${id}/about`);
    if (this.id !== id) return;
    if (!ok) { this.nothing("This image is not in the library any more."); return; }
    await this.see(picture(id, "jpeg"), data.title);
  }

  async see(address, name) {
    const shown = find("source-image");
    shown.src = address;
    shown.hidden = false;
    find("source-name").textContent = name;
    try { await shown.decode(); this.onImage(shown); } catch { this.onImage(null); shown.hidden = true; find("source-name").textContent = `${name}: this browser cannot show it, the server may read it.`; }
  }

  nothing(text) {
    find("source-image").hidden = true;
    find("source-name").textContent = text;
    this.onImage(null);
  }

  async upload(file) {
    complain(find("error"));
    if (!file) return;
    if (file.size > LARGEST) { complain(find("error"), `${file.name} has more than ${LARGEST / 1e6} MB.`); return; }
    const data = await new Promise((done, failed) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = () => failed(reader.error);
      reader.readAsDataURL(file);
    }).catch(() => null);
    if (!data) { complain(find("error"), `${file.name} cannot be read.`); return; }
    this.file = { name: file.name, data };
    try { sessionStorage.setItem(KEPT, JSON.stringify(this.file)); } catch { /* too large to keep: lasts until the page is left */ }
    find("source-file").value = "";
    change({ image: "file" }, true);
    this.id = "file";
    await this.again();
  }

  async again() {
    try { this.file ??= JSON.parse(sessionStorage.getItem(KEPT)); } catch { this.file = null; }
    if (!this.file) { this.nothing("The file is not kept in this tab any more: give it again."); return; }
    const content = this.file.data.slice(this.file.data.indexOf(",") + 1);
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    await this.see(URL.createObjectURL(new Blob([bytes])), this.file.name);
  }

  /** What a job gets. Throws Error where there is none. */
  get body() {
    if (this.id === "file" && this.file) return { data: this.file.data };
    if (this.id && this.id !== "file") return { id: this.id };
    find("source-library").focus();
    throw new Error("Choose an image to start from.");
  }
}

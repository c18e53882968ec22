// From a prompt to images.
"use strict";
import { Drawing } from "./drawing.js";
import { Settings } from "./settings.js";
import "./picture.js";
import { find } from "./app.js";

const drawing = new Drawing(find("result"), "Choose a kind of image, then what it shows, and press Draw. The images appear here while they are drawn.");
const settings = new Settings({
  kind: () => "generate",
  own: ({ value, number }) => {
    if (!value("prompt")) { find("prompt").focus(); throw new Error("Say what the images are to show."); }
    return { prompt: value("prompt"), n: number("n") ?? 1 };
  },
  onJob: (id) => drawing.follow(id),
  onShow: (found) => drawing.follow(found.get("job")),
});
settings.begin();

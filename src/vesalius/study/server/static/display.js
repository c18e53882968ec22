// The test picture of the display page, and the size of a bank card on this screen.
"use strict";

const STEPS = 10;
const CARD_MM = 85.6, CARD_HIGH_MM = 53.98;

function bar(canvas, ground, direction) {
  const context = canvas.getContext("2d", { alpha: false });
  const grey = (value) => `rgb(${value},${value},${value})`;
  context.fillStyle = grey(ground);
  context.fillRect(0, 0, canvas.width, canvas.height);
  for (let k = 0; k < STEPS; k++) {
    context.fillStyle = grey(ground + direction * (STEPS - k) * 2);
    context.fillRect(20 + k * 64, 25, 40, 40);
  }
}
bar(document.getElementById("dark-bar"), 0, 1);
bar(document.getElementById("bright-bar"), 255, -1);

const form = document.getElementById("display");
const card = document.getElementById("card");
const slider = document.getElementById("card-width");
const none = document.getElementById("card-none");

function measure() {
  const width = Number(slider.value);
  card.style.width = `${width}px`;
  card.style.height = `${(width * CARD_HIGH_MM) / CARD_MM}px`;
  card.classList.toggle("off", none.checked);
  slider.disabled = none.checked;
  form.elements.px_per_mm.value = none.checked ? "" : (width / CARD_MM).toFixed(3);
  form.elements.width.value = screen.width;
  form.elements.height.value = screen.height;
  form.elements.ratio.value = devicePixelRatio;
}
slider.addEventListener("input", measure);
none.addEventListener("change", measure);
measure();

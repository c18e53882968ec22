// The theme is chosen before the page is drawn: the system's, unless the reader has switched.
"use strict";
(() => {
  const order = ["auto", "dark", "light"];
  let kept = "auto";
  try { kept = localStorage.getItem("theme") || "auto"; } catch { /* storage is off */ }
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.textContent = `Theme: ${theme}`;
    }
  };
  apply(kept);
  document.addEventListener("DOMContentLoaded", () => {
    apply(kept);
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.addEventListener("click", () => {
        kept = order[(order.indexOf(kept) + 1) % order.length];
        try { localStorage.setItem("theme", kept); } catch { /* lasts for this page */ }
        apply(kept);
      });
    }
  });
})();

"""What the page does by itself where scripts run: the slider over the epochs, and the logarithmic drawings.

Without it the page shows the last epoch and the first drawing of each figure. It only ever writes text and classes.
"""

from __future__ import annotations

SCRIPT = """
"use strict";
(() => {
  const all = (query, root = document) => Array.from(root.querySelectorAll(query));

  for (const button of all("button[data-scale]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const log = button.closest("figure").classList.toggle("log");
      button.setAttribute("aria-pressed", String(log));
    });
  }

  const data = document.getElementById("frames"), replay = document.getElementById("replay");
  if (data && replay) {
    const { words, frames } = JSON.parse(data.textContent);
    const part = document.getElementById("structure");
    const cells = all("td[data-top]", part), texts = all("[data-text]", part);
    const [button, slider, output] = ["button", "input", "output"].map((name) => replay.querySelector(name));

    const show = (place) => {
      const frame = frames[place], taken = new Set(frame.k);
      cells.forEach((cell, n) => {
        const weight = frame.w[n], top = Number(cell.dataset.top), mark = taken.has(n) ? "\\u25b8" : "";
        const shade = weight < 0 ? "none" : Math.min(Math.floor(weight * 10 / top), 9);
        cell.className = "w" + shade + (mark ? " taken" : "");
        cell.textContent = mark + (weight < 0 ? "-" : (weight / 100).toFixed(2));
      });
      texts.forEach((text, n) => { text.textContent = words[frame.t[n]]; });
      output.textContent = "epoch " + frame.e + (words[frame.n] ? ": " + words[frame.n] : "");
      slider.value = String(place);
    };

    let timer = null;
    const stop = () => { clearInterval(timer); timer = null; button.textContent = "play"; };
    const step = () => {
      const next = Number(slider.value) + 1;
      if (next < frames.length) show(next);
      if (next >= frames.length - 1) stop();
    };
    slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
    button.addEventListener("click", () => {
      if (timer) { stop(); return; }
      if (Number(slider.value) >= frames.length - 1) show(0);
      button.textContent = "pause";
      timer = setInterval(step, Math.max(40, Math.min(400, 8000 / frames.length)));
    });
    replay.hidden = false;
    show(frames.length - 1);
  }

  document.documentElement.dataset.script = "ready";
})();
"""

"use strict";
// Everything works without this file. It copies, selects all, and says a chart's figures at the pointer.
(() => {
  document.addEventListener("click", (e) => {
    const id = e.target.dataset && e.target.dataset.copy;
    if (!id) return;
    const field = document.getElementById(id);
    field.select();
    const said = () => { e.target.textContent = "Copied"; };
    if (navigator.clipboard) navigator.clipboard.writeText(field.value).then(said, () => {});
    else if (document.execCommand("copy")) said();
  });
  document.addEventListener("change", (e) => {
    if (e.target.id !== "pick-all") return;
    for (const box of document.querySelectorAll('input[name="id"][type=checkbox]')) box.checked = e.target.checked;
  });
  // A chart tells the figures of the column that the pointer is at.
  document.documentElement.classList.add("js");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  (document.getElementById("main") || document.body).append(tip);
  let at = null; // where the pointer was last
  const point = (e) => {
    at = { clientX: e.clientX, clientY: e.clientY };
    const under = document.elementFromPoint(e.clientX, e.clientY), area = under && under.closest(".plot .area");
    for (const hit of document.querySelectorAll(".hit.on")) hit.classList.remove("on");
    tip.hidden = !area;
    if (!area) return;
    const hits = area.querySelectorAll(".hit"), box = area.getBoundingClientRect();
    const hit = hits[Math.max(0, Math.min(hits.length - 1, Math.floor((e.clientX - box.left) / box.width * hits.length)))];
    hit.classList.add("on");
    tip.textContent = hit.querySelector("title").textContent.replace(": ", "\n").split(", ").join("\n");
    tip.style.top = Math.max(8, box.top - tip.offsetHeight - 6) + "px";
    tip.style.left = Math.max(8, Math.min(innerWidth - tip.offsetWidth - 8, e.clientX - tip.offsetWidth / 2)) + "px";
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  addEventListener("scroll", () => { if (at) point(at); }, { passive: true });
  document.addEventListener("renewed", () => { if (at) point(at); });
  const problem = document.getElementById("problem");
  if (problem && problem.tabIndex === -1) problem.focus();
})();

"use strict";
// Everything works without this file. It copies, selects all, and draws the charts.
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
    tip.textContent = hit.querySelector("title").textContent.split(": ")[0] + "\n" + hit.dataset.tip.split(", ").join("\n");
    tip.style.top = Math.max(8, box.top - tip.offsetHeight - 6) + "px";
    tip.style.left = Math.max(8, Math.min(innerWidth - tip.offsetWidth - 8, e.clientX - tip.offsetWidth / 2)) + "px";
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  addEventListener("scroll", () => { if (at) point(at); }, { passive: true });
  document.addEventListener("renewed", () => { if (at) point(at); });
  const problem = document.getElementById("problem");
  if (problem && problem.tabIndex === -1) problem.focus();

  const live = document.getElementById("live");
  if (!document.getElementById("samples") || !window.uPlot) return;
  const kept = 300; // samples, one a second
  const samples = [];
  // take adds what the page has brought: at first five minutes, then what is new since.
  const take = () => {
    const last = samples.length ? Date.parse(samples[samples.length - 1].time) : 0;
    for (const sample of JSON.parse(document.getElementById("samples").dataset.samples)) if (Date.parse(sample.time) > last) samples.push(sample);
    samples.splice(0, Math.max(0, samples.length - kept));
    if (samples.length) live.dataset.since = samples[samples.length - 1].time;
  };
  take();
  const charts = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const draw = () => {
    while (charts.length) charts.pop().plot.destroy();
    const make = (id, lines) => {
      const el = document.getElementById(id);
      const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
      const data = () => [samples.map((s) => Date.parse(s.time) / 1000), ...lines.map((l) => samples.map((s) => l.of(s) ?? null))];
      const plot = new uPlot({
        width: el.clientWidth, height: el.clientHeight, legend: { show: false }, cursor: { show: false },
        axes: [{ ...axis, size: 30, space: 70, values: (u, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false })) }, { ...axis, size: 48 }],
        scales: { x: { range: (u, min, max) => [max - kept, max] }, y: { range: (u, min, max) => [0, Math.max(max * 1.1, 1)] } },
        series: [{}, ...lines.map((l) => ({ stroke: color(l.color), width: 2, dash: l.dash, points: { show: false }, spanGaps: false }))],
      }, data(), el);
      charts.push({ plot, data, el });
    };
    make("chart-flow", [
      { of: (s) => s.eventsPerSecond, color: "--c1" }, { of: (s) => s.deliveredPerSecond, color: "--c2" },
      { of: (s) => s.failedPerSecond, color: "--c3", dash: [6, 4] }]);
    make("chart-time", [{ of: (s) => s.attemptP50Ms, color: "--c1" }, { of: (s) => s.attemptP99Ms, color: "--c4", dash: [6, 4] }]);
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", () => charts.forEach((c) => c.plot.setSize({ width: c.el.clientWidth, height: c.el.clientHeight })));
  live.addEventListener("renewed", () => {
    take();
    charts.forEach((c) => c.plot.setData(c.data()));
  });
})();

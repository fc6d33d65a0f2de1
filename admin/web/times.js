"use strict";
// The server writes times in UTC. This shows them in the reader's zone, and in UTC again where the switch in the header says so.
// Without it they stay as they are.
(() => {
  const clocks = /^(\d{4}-\d\d-\d\d )?\d\d:\d\d(:\d\d)?( UTC)?$/, switcher = document.getElementById("zone");
  let here = true;
  try { here = localStorage.getItem("zone") !== "utc"; } catch { /* it is not remembered then */ }
  const two = (n) => String(n).padStart(2, "0");
  const day = (t) => [t.getFullYear(), two(t.getMonth() + 1), two(t.getDate())].join("-");
  const zone = (t) => new Intl.DateTimeFormat([], { timeZoneName: "short" }).formatToParts(t).find((part) => part.type === "timeZoneName").value;

  // local is a time of the server's as the reader's clock has it, written as it was: with seconds, day and zone, or without.
  const local = (t, utc, short) => {
    const [, dated, seconds, named] = clocks.exec(utc);
    let text = two(t.getHours()) + ":" + two(t.getMinutes());
    if (seconds) text += ":" + two(t.getSeconds());
    if (!short && (dated || day(t) !== day(new Date()))) text = day(t) + " " + text;
    return named ? text + " " + zone(t) : text;
  };

  const write = (node, utc, text) => {
    node.dataset.utc = utc;
    if (node.textContent !== text) node.textContent = text;
  };

  // show writes all times within root.
  const show = (root) => {
    for (const node of root.querySelectorAll("time[datetime]")) {
      const utc = node.dataset.utc || node.textContent.trim();
      if (clocks.test(utc)) write(node, utc, here ? local(new Date(node.dateTime), utc, "short" in node.dataset) : utc);
    }
    for (const node of root.querySelectorAll("rect[data-at] title")) { // of a chart's column
      const utc = node.dataset.utc || node.textContent, [at, says] = utc.split(/: (.*)/s);
      if (clocks.test(at)) write(node, utc, here ? local(new Date(node.parentNode.dataset.at), at) + ": " + says : utc);
    }
    for (const node of root.querySelectorAll("label, th, .tz")) { // they say which zone it is
      const utc = node.dataset.utc || node.textContent;
      if (/\bUTC\b/.test(utc) && !node.children.length) write(node, utc, here ? utc.replace(/\bUTC\b/, zone(new Date())) : utc);
    }
  };

  // Fields for a time are filled in in the same zone. They are sent in UTC.
  const fields = "input[type=datetime-local]";
  const shifted = (value, by) => {
    const t = new Date(value + (by < 0 ? "Z" : ""));
    if (isNaN(t)) return value;
    return by < 0 ? day(t) + "T" + [t.getHours(), t.getMinutes(), t.getSeconds()].map(two).join(":") : t.toISOString().slice(0, 19);
  };
  const fill = (to) => {
    for (const field of document.querySelectorAll(fields)) {
      // A browser that goes back fills in what was there, which is in the reader's zone already.
      const restored = !field.dataset.zone && +new Date(field.value) !== +new Date(field.defaultValue);
      if (field.value && !restored && (field.dataset.zone || "utc") !== to) field.value = shifted(field.value, to === "here" ? -1 : 1);
      field.dataset.zone = to;
    }
  };
  document.addEventListener("formdata", (e) => {
    for (const field of e.target.querySelectorAll(fields)) {
      if (here && field.value) e.formData.set(field.name, shifted(field.value, 1));
    }
  });

  const renew = () => {
    show(document);
    fill(here ? "here" : "utc");
    if (!switcher) return;
    const name = zone(new Date());
    switcher.hidden = name === "UTC";
    switcher.textContent = here ? name : "UTC";
    switcher.title = "Times are in " + switcher.textContent + ". Click for " + (here ? "UTC" : name) + ".";
  };
  if (switcher) switcher.addEventListener("click", () => {
    here = !here;
    try { localStorage.setItem("zone", here ? "here" : "utc"); } catch { /* it is not remembered then */ }
    renew();
  });
  window.fanoutTimes = { show, clock: (t) => here ? local(t, "00:00:00") : t.toISOString().slice(11, 19) + " UTC" };
  renew();
})();

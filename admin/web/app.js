"use strict";
// Everything works without this file. It copies, selects all, finds accounts, keeps what was typed from being lost, shows whole
// what is cut short, and says a chart's figures at the pointer.
(() => {
  document.addEventListener("click", (e) => {
    const button = e.target.closest && e.target.closest("[data-copies]");
    if (button && navigator.clipboard) {
      navigator.clipboard.writeText(button.dataset.copies).then(() => { button.firstChild.textContent = "Copied"; }, () => {});
      return;
    }
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
    keepPicks();
  });
  // What is ticked stays ticked on the other pages of the same filter, a thousand at most.
  const picks = document.querySelector("form[data-picks]"), most = 1000;
  const filter = new URLSearchParams(location.search);
  filter.delete("before");
  const pickKey = "picks " + location.pathname + "?" + filter;
  const picked = new Set();
  const boxes = () => picks.querySelectorAll('input[name="id"][type=checkbox]');
  const showPicks = () => {
    const button = picks.querySelector('button[value="selected"]'), clear = picks.querySelector("[data-unpick]");
    if (!button) return;
    button.textContent = picked.size ? "Replay selected (" + picked.size + ")…" : "Replay selected…";
    clear.hidden = !picked.size;
  };
  const keepPicks = () => {
    if (!picks) return;
    for (const box of boxes()) {
      if (box.checked && picked.size < most) picked.add(box.value);
      else { box.checked = box.checked && picked.has(box.value); if (!box.checked) picked.delete(box.value); }
    }
    try { sessionStorage.setItem(pickKey, JSON.stringify([...picked])); } catch { /* it stays on this page */ }
    showPicks();
  };
  if (picks) {
    try { for (const id of JSON.parse(sessionStorage.getItem(pickKey) || "[]")) picked.add(id); } catch { /* nothing is ticked */ }
    for (const box of boxes()) box.checked = picked.has(box.value);
    picks.addEventListener("change", keepPicks);
    picks.addEventListener("click", (e) => {
      if (!e.target.closest("[data-unpick]")) return;
      picked.clear();
      for (const box of boxes()) box.checked = false;
      document.getElementById("pick-all").checked = false;
      keepPicks();
    });
    picks.addEventListener("submit", (e) => {
      for (const one of picks.querySelectorAll("input[data-elsewhere]")) one.remove();
      if (!e.submitter || e.submitter.value !== "selected") return;
      const here = new Set([...boxes()].map((box) => box.value));
      for (const id of picked) {
        if (here.has(id)) continue;
        const field = document.createElement("input");
        Object.assign(field, { type: "hidden", name: "id", value: id });
        field.dataset.elsewhere = "1";
        picks.append(field);
      }
    });
    showPicks();
  }
  // "all" ticks every event of its channel, or of all channels, and unticks them where all are ticked.
  document.addEventListener("click", (e) => {
    const pick = e.target.closest && e.target.closest("[data-all]");
    if (!pick) return;
    const group = pick.dataset.all ? document.getElementById(pick.dataset.all) : pick.closest(".channel");
    const boxes = [...group.querySelectorAll("input[type=checkbox]")], on = boxes.some((box) => !box.checked);
    for (const box of boxes) box.checked = on;
    pick.dispatchEvent(new Event("input", { bubbles: true }));
  });
  // Who leaves with something typed and not saved is asked first.
  const form = document.querySelector("form[data-guard]"), unsaved = document.getElementById("unsaved");
  if (form && unsaved) {
    const typed = () => new URLSearchParams(new FormData(form)).toString();
    const saved = form.dataset.guard === "saved" ? typed() : null;
    let saving = false;
    form.addEventListener("input", () => { unsaved.hidden = typed() === saved; });
    form.addEventListener("submit", (e) => { saving = Boolean(e.submitter) && e.submitter.value === "save"; });
    addEventListener("pageshow", () => { saving = false; });
    addEventListener("beforeunload", (e) => { if (!saving && typed() !== saved) e.preventDefault(); });
  }
  // The account field proposes accounts that have what was typed in their id.
  const account = document.querySelector("input[data-find]"), accounts = document.getElementById("accounts");
  if (account && accounts) {
    let timer = 0, asked = "";
    account.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const part = asked = account.value;
        if (!part) return;
        try {
          const answer = await fetch(account.dataset.find + encodeURIComponent(part));
          if (!answer.ok || part !== asked) return;
          const page = new DOMParser().parseFromString(await answer.text(), "text/html"), list = page.getElementById("accounts");
          if (list) accounts.replaceChildren(...list.children);
        } catch { /* nothing is proposed then */ }
      }, 150);
    });
  }
  // What is cut short is shown whole, to be copied, while the pointer or the focus is there.
  const whole = document.createElement("div"), wholeText = document.createElement("span"), wholeCopy = document.createElement("button");
  whole.className = "whole";
  whole.hidden = true;
  wholeText.dir = "auto";
  wholeCopy.type = "button";
  whole.append(wholeText, wholeCopy);
  (document.getElementById("main") || document.body).append(whole);
  let hiding = 0;
  const cut = (name) => name.scrollWidth > name.clientWidth || name.scrollHeight > name.clientHeight + 2;
  const hide = () => { hiding = setTimeout(() => { whole.hidden = true; }, 150); };
  const showWhole = (name) => {
    clearTimeout(hiding);
    name.removeAttribute("title");
    if (!cut(name)) return;
    const box = name.getBoundingClientRect();
    wholeText.textContent = name.textContent;
    wholeCopy.dataset.copies = name.textContent;
    wholeCopy.textContent = "Copy";
    whole.hidden = false;
    const under = box.bottom + whole.offsetHeight + 4 < innerHeight;
    whole.style.top = (under ? box.bottom + 2 : box.top - whole.offsetHeight - 2) + "px";
    whole.style.left = Math.max(8, Math.min(innerWidth - whole.offsetWidth - 8, box.left)) + "px";
  };
  const named = (node) => node.closest && (node.closest(".name") || (node.matches("a") && node.querySelector(".name")));
  document.addEventListener("pointerover", (e) => {
    if (whole.contains(e.target)) clearTimeout(hiding);
    else if (named(e.target)) showWhole(named(e.target));
    else if (!whole.hidden) hide();
  });
  document.addEventListener("focusin", (e) => {
    if (whole.contains(e.target)) clearTimeout(hiding);
    else if (named(e.target)) showWhole(named(e.target));
    else if (!whole.hidden) hide();
  });
  document.addEventListener("keydown", (e) => { if (e.key === "Escape") whole.hidden = true; });
  addEventListener("scroll", () => { whole.hidden = true; }, { passive: true });
  document.addEventListener("copy", (e) => {
    if (whole.hidden || !getSelection().isCollapsed) return;
    e.clipboardData.setData("text/plain", wholeText.textContent);
    e.preventDefault();
  });
  // The keyboard reaches what is cut short as well.
  const reach = () => { for (const name of document.querySelectorAll("main .name")) if (!name.closest("a") && cut(name)) name.tabIndex = 0; };
  document.addEventListener("renewed", reach);
  reach();
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

"use strict";
// Everything works without this file. It copies, selects all, finds accounts, keeps what was typed from being lost, and says a
// chart's figures at the pointer.
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

"use strict";
// Renews the live part of a page once a second, and the verdict at its head, while its tab is seen. A page without a live part
// renews the verdict alone, every five seconds. The dot says whether what is seen is true now. It asks with short requests and holds no stream
// open: a browser has six connections to a host for all its tabs together.
(() => {
  const region = document.getElementById("live"), verdict = document.getElementById("verdict"), dot = document.getElementById("dot");
  if (!(region || verdict) || !window.Idiomorph) return;
  const slower = 5000, every = region ? 1000 : slower, patience = 10000; // ms
  const note = document.getElementById("live-note");
  const [text, count, button] = note ? note.children : [];
  const times = window.fanoutTimes, clock = (t) => times ? times.clock(t) : t.toLocaleTimeString();
  let tag = "", timer = 0, asking = false, over = false, renewed = new Date();

  // say shows one sentence at the foot of the window, or nothing. What changes every second is not read out.
  const say = (sentence, more, action) => {
    if (!note) return;
    note.hidden = !sentence;
    if (text.textContent !== sentence) text.textContent = sentence;
    count.textContent = more || "";
    button.hidden = !action;
    button.textContent = more ? "Show them" : "Go on";
    note.classList.toggle("bad", !action);
  };

  // is says in the header how true the page is: live, paused, stale, or out.
  const is = (state, words) => {
    if (!dot) return;
    dot.hidden = false;
    dot.className = "dot " + state;
    if (dot.lastChild.textContent !== words) dot.lastChild.textContent = words;
  };

  // unknown takes the verdict away: what was true then says nothing of now.
  const unknown = () => {
    if (!verdict) return;
    const line = document.createElement("p");
    line.className = "wrap bad";
    line.textContent = "Whether all is well is not known: there has been no answer since " + clock(renewed) + ".";
    verdict.replaceChildren(line);
    tag = "";
  };

  // A list that somebody reads does not change under their eyes: one of its entries is open, has the keyboard's focus, or
  // is selected. The attributes data-hold mark such lists.
  const selected = (list) => {
    const selection = getSelection();
    return selection && !selection.isCollapsed && selection.rangeCount > 0 && selection.getRangeAt(0).intersectsNode(list);
  };
  const read = (list) => Boolean(list.querySelector("details[open], :focus-visible")) || selected(list);

  const show = (answer) => {
    const next = document.createElement("template");
    next.innerHTML = answer;
    if (times) times.show(next.content);
    const judged = next.content.getElementById("verdict");
    if (judged) {
      judged.remove();
      if (verdict) Idiomorph.morph(verdict, judged.innerHTML, { morphStyle: "innerHTML" });
    }
    return region ? renewRegion(next.innerHTML) : false;
  };

  const renewRegion = (html) => {
    const focused = region.contains(document.activeElement) ? document.activeElement : null;
    let held = false, fresh = 0, all = 0;
    Idiomorph.morph(region, html, {
      morphStyle: "innerHTML",
      callbacks: {
        beforeNodeMorphed: (now, next) => {
          if (!(now instanceof Element) || !now.hasAttribute("data-hold") || !read(now)) return true;
          held = true;
          all += next.children.length;
          for (const entry of next.children) if (!document.getElementById(entry.id)) fresh++;
          return false;
        },
        // An entry whose list is gone altogether stays too while it is read.
        beforeNodeRemoved: (node) => {
          if (!(node instanceof Element)) return true;
          const list = node.matches("[data-hold]") ? node : node.querySelector("[data-hold]");
          if (!list || !read(list)) return true;
          held = true;
          return false;
        },
      },
    });
    if (focused && !focused.isConnected) region.focus({ preventScroll: true });
    if (held) say("The list waits while you read it.", fresh ? fresh + (fresh >= all ? "+" : "") + " new" : "", true);
    else say("");
    region.dispatchEvent(new CustomEvent("renewed", { bubbles: true }));
    return held;
  };

  const ask = async () => {
    const answer = await fetch((region || verdict).dataset.live, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", signal: AbortSignal.timeout(patience) });
    if (answer.status === 401 || answer.status === 404) {
      over = true;
      is("out", answer.status === 401 ? "signed out" : "gone");
      say(answer.status === 401 ? "You are signed out. Reload the page to sign in again." : "What this page shows is no longer there.");
      return;
    }
    if (answer.status !== 304 && !answer.ok) throw new Error(String(answer.status));
    renewed = new Date();
    if (answer.status === 304) { is("live", "live"); say(""); return; }
    // What is held back is asked for again, so the answer does not count as shown.
    const held = show(await answer.text());
    tag = held ? "" : answer.headers.get("ETag");
    is(held ? "paused" : "live", held ? "paused" : "live");
  };

  const renew = async () => {
    clearTimeout(timer);
    if (document.hidden || asking || over) return;
    let wait = every;
    asking = true;
    try {
      await ask();
    } catch {
      wait = slower;
      is("stale", "stale since " + clock(renewed));
      unknown();
      say("No answer since " + clock(renewed) + ": what you see is as old as that.");
    }
    asking = false;
    timer = setTimeout(renew, wait);
  };

  if (button) button.addEventListener("click", () => {
    for (const entry of region.querySelectorAll("[data-hold] details[open]")) entry.open = false;
    getSelection().removeAllRanges();
    region.focus({ preventScroll: true });
    renew();
  });
  document.addEventListener("visibilitychange", renew);
  renew();
})();

// What makes the console live: nudges from the server, then the visible part is asked for again (htmx, morphing).
// Everything reads without it. No inline handlers, no eval: the page's policy forbids both.
(() => {
  "use strict";
  const POLL = 10000, SLOW = 30000; // milliseconds: without nudges, and beside them, for what they do not tell
  let stream = null, timer = 0, broken = 0, due = false, asking = false;
  const live = () => document.getElementById("live");
  const show = (state, words) => {
    const light = document.getElementById("live-state");
    if (!light) return;
    light.hidden = false;
    light.className = `live ${state}`;
    light.title = words;
    if (light.textContent) light.textContent = "";
    light.setAttribute("aria-label", words);
  };
  const typing = () => {
    const at = document.activeElement;
    return at && live() && live().contains(at) && at.matches("input, select, textarea");
  };
  const refresh = () => {
    if (document.hidden || typing()) { due = true; return; }
    if (asking || !live()) return;
    due = false;
    window.htmx.trigger(live(), "nudge");
  };
  const poll = () => {
    clearTimeout(timer);
    if (document.hidden) return;
    timer = setTimeout(() => { refresh(); poll(); }, stream && stream.readyState === 1 ? SLOW : POLL);
  };
  const close = () => { if (stream) { stream.close(); stream = null; } clearTimeout(timer); };
  const open = () => {
    close();
    if (document.hidden || !live()) return;
    poll();
    if (broken > 3) { show("off", "Looks for changes every 10 seconds"); return; }
    stream = new EventSource(document.body.dataset.events);
    stream.addEventListener("open", () => { broken = 0; show("on", "Live"); poll(); });
    stream.addEventListener("nudge", refresh);
    stream.addEventListener("error", () => {
      show("off", "Looks for changes every 10 seconds");
      if (stream && stream.readyState === 2) { // refused: too many, or logged out; an ended one is opened anew by itself
        broken += 1;
        stream = null;
        setTimeout(open, 2000 * 2 ** broken);
      }
      poll();
    });
  };
  const copy = (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const said = button.textContent;
    navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent).then(
      () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = said; }, 1500); },
      () => { button.textContent = "Not allowed by the browser"; },
    );
  };
  document.addEventListener("click", copy);
  document.addEventListener("focusout", () => { if (due) setTimeout(refresh, 0); });
  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else { refresh(); open(); } });
  document.addEventListener("htmx:before:request", () => { asking = true; });
  document.addEventListener("htmx:finally:request", () => { asking = false; });
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  if (document.body.dataset.events) open();
})();

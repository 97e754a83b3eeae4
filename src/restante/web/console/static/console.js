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
  // The chart is drawn from the table beside it, which is what those see who cannot see it.
  let chart = null;
  const draw = () => {
    const place = document.getElementById("plot");
    if (!place || !window.uPlot) return;
    const rows = [...document.querySelectorAll(`#${place.dataset.rows} tbody tr`)].reverse();
    const column = (at) => rows.map((row) => Number(row.cells[at].textContent.replace(/\D/g, "")));
    const done = column(1), failed = column(2); // failed ones stand below, answered ones upon them
    const data = [rows.map((row) => Number(row.dataset.at)), done.map((one, at) => one + failed[at]), failed];
    if (chart) { chart.setData(data); return; }
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const bars = window.uPlot.paths.bars({ size: [0.75, 24], radius: 0.15 });
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    chart = new window.uPlot({
      width: place.clientWidth, height: 190, tzDate: (at) => window.uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
      cursor: { y: false, points: { show: false } }, legend: { show: false },
      scales: { y: { range: (u, low, high) => [0, Math.max(5, Math.ceil(high * 1.1))] } },
      axes: [{ ...axis, size: 30, grid: { show: false }, values: "{HH}:{mm}", space: 60 }, { ...axis, size: 52, values: (u, all) => all.map((one) => one.toLocaleString("en")) }],
      hooks: { setCursor: [(u) => {
        const at = u.cursor.idx, words = document.getElementById("pointed");
        if (!words) return;
        const minute = at == null ? "" : new Date(u.data[0][at] * 1e3).toISOString().slice(11, 16);
        words.textContent = at == null ? "" : ` · ${minute}: ${u.data[1][at] - u.data[2][at]} answered, ${u.data[2][at]} failed`;
      }] },
      series: [
        {},
        { label: "answered", paths: bars, fill: colour("--plot"), width: 0, points: { show: false } },
        { label: "failed", paths: bars, fill: colour("--bad"), width: 0, points: { show: false } },
      ],
    }, data, place);
    new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: 190 })).observe(place);
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
  document.addEventListener("htmx:after:swap", draw);
  draw();
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  if (document.body.dataset.events) open();
})();

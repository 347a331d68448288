<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'sha256-0MLk6L8hrWs1qVcGtJYr6TLIAaY5KlPvYJ6y7lSh8ug='; style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="referrer" content="no-referrer">
    <title>ABORTED: probe of 127.0.0.1:5000</title>
    <link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='3' fill='%230b5cad'/%3E%3Cpath d='M3 6h9l-3-3m4 7H4l3 3' fill='none' stroke='%23fff' stroke-width='1.6'/%3E%3C/svg%3E">
    <style>/* Style shared by all pages. */
:root {
  --page: #f3f5f7;
  --card: #ffffff;
  --edge: #c9d1d9;
  --text: #1b2026;
  --quiet: #535d68;
  --link: #0b5cad;
  --good: #17682f;
  --warn: #7a4a00;
  --bad: #a3171c;
  --warn-card: #fff6e0;
  --bad-card: #fdeeee;
  color-scheme: light dark;
}

@media (prefers-color-scheme: dark) {
  :root {
    --page: #121518;
    --card: #1b2026;
    --edge: #3d4650;
    --text: #e6eaee;
    --quiet: #a7b1bc;
    --link: #85bdf7;
    --good: #7ed79a;
    --warn: #f1c36d;
    --bad: #ff9d97;
    --warn-card: #2b2415;
    --bad-card: #311c1d;
  }
}

* {
  box-sizing: border-box;
}

[hidden] {
  display: none !important;
}

body {
  background: var(--page);
  color: var(--text);
  font: 0.9375rem/1.45 system-ui, sans-serif;
  margin: 0 auto;
}

h1,
h2,
h3,
p,
ul,
ol {
  margin: 0;
  padding: 0;
}

h1 {
  font-size: 1.25rem;
}

h2 {
  font-size: 1.0625rem;
}

ul,
ol {
  list-style: none;
}

a {
  color: var(--link);
}

label {
  align-items: baseline;
  display: inline-flex;
  gap: 0.4rem;
}

input,
select,
button {
  background: var(--card);
  border: 1px solid var(--quiet);
  border-radius: 0.25rem;
  color: inherit;
  font: inherit;
  padding: 0.2rem 0.5rem;
}

input::placeholder {
  color: var(--quiet);
  opacity: 1;
}

kbd {
  border: 1px solid var(--edge);
  border-radius: 0.2rem;
  font: 0.8em ui-monospace, monospace;
  padding: 0 0.3em;
}

:focus-visible {
  outline: 3px solid var(--link);
  outline-offset: 2px;
}

.skip {
  background: var(--card);
  left: 1rem;
  padding: 0.5rem;
  position: absolute;
  top: -5rem;
  z-index: 2;
}

.skip:focus {
  top: 0.5rem;
}

.unseen {
  clip-path: inset(50%);
  height: 1px;
  overflow: hidden;
  position: absolute;
  white-space: nowrap;
  width: 1px;
}

#link {
  font-weight: 600;
}

#link[data-state="live"] {
  color: var(--good);
}

#link[data-state="gone"] {
  color: var(--bad);
}

:root {
  --up: #9a4a00;
  --down: #6a3fa0;
  --soft: color-mix(in srgb, var(--link) 16%, transparent);
}

@media (prefers-color-scheme: dark) {
  :root {
    --up: #f2b06a;
    --down: #c9a6f5;
  }
}

body {
  max-width: 76rem;
  padding: 1.5rem 1rem;
}

h1 {
  font-size: 1.5rem;
  letter-spacing: -0.01em;
  line-height: 1.25;
  overflow-wrap: anywhere;
}

h2 {
  font-size: 1.125rem;
  margin-bottom: 0.5rem;
}

main {
  display: grid;
  gap: 1.75rem;
  grid-template-columns: minmax(0, 1fr);
  padding: 1.25rem 0;
}

section {
  min-width: 0;
}

p + figure,
figure + figure,
figure + div,
figure + p,
p + div,
p + ul,
.wide + .wide {
  margin-top: 0.8rem;
}

.quiet,
figcaption,
th,
dt {
  color: var(--quiet);
  font-size: 0.875rem;
}

.verdict {
  border: 1px solid;
  border-left-width: 0.35rem;
  border-radius: 0.4rem;
  margin: 0.8rem 0;
  overflow-wrap: anywhere;
  padding: 0.6rem 0.8rem;
}

.verdict strong {
  font-size: 1.0625rem;
}

.measured {
  background: var(--card);
  border-color: var(--quiet);
}

.passed {
  background: var(--card);
  color: var(--good);
}

.incomplete {
  background: var(--warn-card);
  color: var(--warn);
}

.failed {
  background: var(--bad-card);
  color: var(--bad);
}

.bad {
  color: var(--bad);
}

.meaning {
  font-size: 1.0625rem;
  max-width: 60rem;
}

.findings {
  list-style: disc;
  margin-top: 0.5rem;
  max-width: 60rem;
  padding-left: 1.2rem;
}

.tiles {
  display: grid;
  gap: 0.6rem;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr));
  margin: 0;
}

.tiles > div {
  background: var(--card);
  border: 1px solid var(--edge);
  border-radius: 0.4rem;
  padding: 0.5rem 0.7rem;
}

.tiles dd {
  font-size: 1.25rem;
  font-variant-numeric: tabular-nums;
  font-weight: 600;
  margin: 0;
  white-space: nowrap;
}

#readout {
  font-variant-numeric: tabular-nums;
  min-height: 4.35em;
}

.charts,
.pair,
#course {
  display: grid;
  gap: 1rem;
  grid-template-columns: minmax(0, 1fr);
}

.columns {
  align-items: start;
  display: grid;
  gap: 1rem;
  grid-template-columns: minmax(0, 1fr);
}

.columns .wide {
  margin: 0;
}

@media (min-width: 60rem) {
  .pair {
    grid-template-columns: repeat(2, minmax(0, 1fr));
  }

  .columns {
    grid-template-columns: auto minmax(0, 1fr);
  }

  #readout {
    min-height: 1.45em;
  }
}

figure,
.pair figure + figure,
#course figure + figure {
  margin: 0;
}

.chart {
  background: var(--card);
  border: 1px solid var(--edge);
  border-radius: 0.5rem;
  min-width: 0;
  padding: 0.8rem 1rem 0.9rem;
}

figcaption {
  margin-bottom: 0.4rem;
  max-width: 60rem;
}

figcaption strong {
  color: var(--text);
  font-size: 0.9375rem;
}

svg {
  background: var(--card);
  border: 1px solid var(--edge);
  border-radius: 0.3rem;
  display: block;
  height: 8rem;
  width: 100%;
}

.pair .chart {
  display: flex;
  flex-direction: column;
  justify-content: space-between;
}

.frame {
  display: grid;
  font-size: 0.75rem;
  font-variant-numeric: tabular-nums;
  gap: 0 0.5rem;
  grid-template-columns: 5.6rem minmax(0, 1fr);
}

.pair .frame {
  grid-template-columns: 3.4rem minmax(0, 1fr);
}

.frame svg,
.legend svg {
  border: 0;
  border-radius: 0;
}

.plot {
  position: relative;
}

.plot svg {
  height: 4.5rem;
  overflow: visible;
}

.plot.tall svg {
  height: 13rem;
}

.plot.lane svg {
  height: 1.4rem;
}

.left {
  color: var(--quiet);
  position: relative;
}

.left span {
  position: absolute;
  right: 0;
  transform: translateY(50%);
  white-space: nowrap;
}

.bottom {
  color: var(--quiet);
  height: 1.4rem;
  position: relative;
}

.bottom span {
  position: absolute;
  top: 0.3rem;
  transform: translateX(-50%);
  white-space: nowrap;
}

.bottom .last {
  transform: translateX(-75%);
}

.lane {
  align-self: end;
  margin-top: 0.5rem;
}

span.lane {
  color: var(--text);
  text-align: right;
  white-space: nowrap;
}

.plot.lane {
  border-bottom: 1px solid var(--edge);
}

.panel {
  color: var(--text);
  padding: 0.5rem 0 0.6rem;
}

.marks {
  margin-bottom: 0.2rem;
  position: relative;
}

span.mark {
  border-left: 1px solid var(--text);
  padding-left: 0.25rem;
  position: absolute;
  white-space: nowrap;
}

span.mark.last {
  border-left: 0;
  border-right: 1px solid var(--text);
  padding: 0 0.25rem 0 0;
  transform: translateX(-100%);
}

.legend {
  color: var(--quiet);
  display: flex;
  flex-wrap: wrap;
  font-size: 0.8125rem;
  gap: 0.1rem 1rem;
  margin-bottom: 0.7rem;
}

.legend li {
  align-items: center;
  display: inline-flex;
  gap: 0.4rem;
}

main .legend {
  list-style: none;
  padding: 0;
}

.legend svg {
  background: none;
  flex: none;
  height: 0.625rem;
  width: 1.25rem;
}

.grid,
.line,
.mark,
.dot,
.bar {
  vector-effect: non-scaling-stroke;
}

.grid {
  fill: none;
  stroke: var(--edge);
  stroke-opacity: 0.7;
}

.line {
  fill: none;
  stroke: var(--link);
  stroke-linejoin: round;
  stroke-width: 2;
}

.line.p99 {
  stroke-dasharray: 5 3;
  stroke-width: 1.5;
}

.band {
  fill: var(--soft);
}

.worst {
  fill: var(--warn);
  fill-opacity: 0.13;
}

.silent {
  fill: var(--bad);
  fill-opacity: 0.22;
}

path.mark {
  fill: none;
  stroke: var(--text);
}

.dot {
  fill: none;
  stroke: var(--link);
  stroke-linecap: round;
  stroke-width: 7;
}

.bar {
  fill: currentcolor;
  stroke: currentcolor;
  stroke-width: 1;
}

.bar.trips {
  fill: var(--soft);
  stroke: var(--link);
}

.bar.up {
  color: var(--up);
}

.bar.down {
  color: var(--down);
}

.bar.unknown,
.bar.lost {
  color: var(--bad);
}

.bar.burst {
  color: var(--warn);
}

.cursor {
  border-left: 1px solid var(--text);
  display: none;
  height: 100%;
  pointer-events: none;
  position: absolute;
  top: 0;
}

.selected .cursor {
  display: block;
}


#readout:empty {
  display: none;
}

.wave {
  fill: var(--link);
}

.returned .wave {
  fill: var(--good);
}

.middle {
  stroke: var(--edge);
  vector-effect: non-scaling-stroke;
}

.gap {
  fill: var(--bad);
  stroke: var(--bad);
  vector-effect: non-scaling-stroke;
}

/* Gap markers in the sent waveform are partly transparent, so that they do not hide the audio. */
.sent .gap {
  opacity: 0.4;
}

/* The edges stay opaque, because the marker of a short gap in long audio consists only of its edges. */
.few {
  fill-opacity: 0.2;
}

.some {
  fill-opacity: 0.45;
}

.most {
  fill-opacity: 0.7;
}

.axis {
  color: var(--quiet);
  display: flex;
  font-size: 0.8125rem;
  font-variant-numeric: tabular-nums;
  justify-content: space-between;
}

audio {
  display: block;
  margin-top: 0.3rem;
  width: 100%;
}

.wide {
  overflow: auto;
}

.long {
  margin-top: 0.5rem;
  max-height: 24rem;
}

table {
  background: var(--card);
  border: 1px solid var(--edge);
  border-collapse: collapse;
  font-variant-numeric: tabular-nums;
}

caption {
  padding-bottom: 0.25rem;
  text-align: left;
  white-space: nowrap;
}

th,
td {
  border-bottom: 1px solid var(--edge);
  padding: 0.25rem 0.7rem;
  text-align: right;
  white-space: nowrap;
}

th[scope="row"],
.words {
  text-align: left;
}

td.words {
  white-space: normal;
}

th {
  font-weight: 400;
}

main ul,
main ol {
  list-style: disc;
  padding-left: 1.2rem;
}

main ol {
  list-style: decimal;
}

li {
  overflow-wrap: anywhere;
}

.about {
  margin-bottom: 0.5rem;
}

.origin {
  margin: 0;
}

.origin > div {
  display: grid;
  gap: 0 0.8rem;
  grid-template-columns: 5.5rem minmax(0, 1fr);
  padding: 0.15rem 0;
}

.origin dd {
  margin: 0;
  overflow-wrap: anywhere;
}

code {
  font-family: ui-monospace, monospace;
  font-size: 0.9em;
}

summary {
  cursor: pointer;
}

pre {
  font: 0.8125rem/1.4 ui-monospace, monospace;
  margin: 0;
}

@media print {
  :root {
    --page: #ffffff;
    --card: #ffffff;
    --edge: #b5bcc4;
    --text: #000000;
    --quiet: #3c444c;
    --link: #0b5cad;
    --good: #17682f;
    --warn: #7a4a00;
    --bad: #a3171c;
    --warn-card: #ffffff;
    --bad-card: #ffffff;
    --up: #9a4a00;
    --down: #6a3fa0;
    color-scheme: light;
    print-color-adjust: exact;
  }

  body {
    font-size: 10pt;
    max-width: none;
    padding: 0;
  }

  /* Browsers do not divide grids between pages reliably. */
  main,
  .charts,
  .pair,
  .pair .chart,
  #course,
  .columns {
    display: block;
  }

  main > *,
  figure.chart,
  .pair figure.chart + figure.chart,
  #course figure.chart + figure.chart,
  .columns .wide + .wide {
    margin-top: 14pt;
  }

  .plot.tall svg {
    height: 10rem;
  }

  .wide {
    max-height: none;
    overflow: visible;
  }

  th,
  td {
    font-size: 8pt;
    padding: 0.15rem 0.4rem;
    white-space: normal;
  }

  pre {
    font-size: 7pt;
    white-space: pre-wrap;
  }

  audio,
  #readout,
  .cursor,
  details:not([open]) {
    display: none !important;
  }

  figure,
  .tiles,
  .verdict,
  tr,
  li {
    break-inside: avoid;
  }

  h2,
  figcaption,
  thead {
    break-after: avoid;
  }
}
</style>
  </head>
  <body>
    <header>
      <h1>probe of <bdi>127.0.0.1:5000</bdi></h1>
      <p class="quiet">Started 2026-11-26T11:17:53.513Z on <bdi>vm</bdi>, took 0.0 µs.</p>
      <p class="verdict incomplete"><strong>ABORTED</strong>: --html has no effect with --this-machine; it applies to the report of a run; results so far: nothing was sent.</p>
      
    </header>
    <main>
      
      <section aria-label="Charts" class="charts">
<div class="pair"></div></section>
      
      
      
      <section aria-labelledby="figures"><h2 id="figures">Statistics</h2>
<p>Nothing was counted.</p>
</section>

      
      <section aria-labelledby="origin"><h2 id="origin">About this run</h2>
<dl class="origin">
<div><dt>Command</dt><dd><code>jamjam-dev probe --this-machine --html y</code></dd></div>
<div><dt>Host</dt><dd><bdi>vm</bdi></dd></div>
<div><dt>Target</dt><dd><bdi>127.0.0.1:5000</bdi></dd></div>
<div><dt>Started</dt><dd><time>2026-11-26T11:17:53.513Z</time></dd></div>
<div><dt>Duration</dt><dd>0.0 µs</dd></div>
<div><dt>Program</dt><dd>jamjam-dev 0.1.0, commit 72f8ea494afb</dd></div>
</dl>
</section>

      <details>
        <summary>The whole report as text</summary>
        <div class="wide long" role="region" aria-label="The whole report" tabindex="0"><pre>probe of 127.0.0.1:5000, 0.0 µs

failed: nothing was sent
FAILED: 0 sent
</pre></div>
      </details>
    </main>
    <footer><p class="quiet">This file is self-contained and loads no other files.</p></footer>
    <script>
// Shows the values of the interval under the pointer, or of the interval that the arrow keys select. The page is complete without it.
"use strict";
const course = document.querySelector("#course");
const table = document.querySelector("#intervals");
if (course && table) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const readout = document.querySelector("#readout");
  const plots = [...course.querySelectorAll(".plot")];
  const cursors = plots.map((plot) => plot.appendChild(document.createElement("span")));
  for (const cursor of cursors) cursor.className = "cursor";
  let selected = -1;
  const select = (index) => {
    selected = Math.max(0, Math.min(rows.length - 1, index));
    for (const cursor of cursors) cursor.style.left = `${((selected + 0.5) / rows.length) * 100}%`;
    const cells = [...rows[selected].cells].map((cell) => cell.textContent);
    const values = cells.map((cell, column) => `${names[column]} ${cell}`);
    readout.textContent = values.filter((value, column) => cells[column] !== "-").join(" · ");
    course.classList.add("selected");
  };
  readout.textContent = "Point at a chart, or press the arrow keys in it, to read the values of an interval.";
  for (const plot of plots) {
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      select(Math.floor(((event.clientX - box.left) / box.width) * rows.length));
    });
  }
  const first = plots[0];
  first.tabIndex = 0;
  first.setAttribute("role", "group");
  first.setAttribute("aria-label", "Chart over time. The arrow keys select an interval.");
  first.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -rows.length, End: rows.length };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    select(selected + step);
  });
}
</script>
  </body>
</html>

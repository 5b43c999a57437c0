/**
 * The report as one HTML file that asks for nothing else: figures as text and tables, the activity as data, and the script
 * that draws it.
 */

import {
  formatBytes,
  formatCount,
  formatDifference,
  formatEnergy,
  formatScaled,
  formatSeconds,
  formatShare,
} from "../units.js";
import { UNITS } from "../bursts.js";
import { WAITS } from "../critical.js";
import type { PageData } from "./data.js";
import * as contents from "./contents.js";
import * as painter from "./painter.js";
import * as script from "./script.js";
import * as view from "./view.js";
import * as words from "./words.js";

/** What runs in the browser: all that these modules export, which therefore use nothing else of theirs. */
const MODULES: readonly Readonly<Record<string, unknown>>[] = [view, contents, words, painter, script];

/** Pieces of the file, in order. */
export function* htmlLines(data: PageData): Generator<string> {
  const { overview } = data;
  yield `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escaped(overview.name)}: schedule</title>
<style>${STYLE}</style>
<header>
<h1>${escaped(overview.name)}</h1>
${factsHtml(data)}
</header>
<main>
<section aria-label="schedule">
<div class="bar">
<label>Search a node <input id="search" type="search" placeholder="/ then Enter to zoom"></label> <span id="hits" role="status"></span>
<label>Colour by <select id="colours"><option value="layer">layer</option><option value="node">node</option><option value="kind">instruction</option></select></label>
<button id="all">All of it (0)</button> <button id="path" aria-pressed="false">Critical path (p)</button> <button id="theme">Light or dark</button>
<span id="cursors" role="status"></span>
</div>
<div><canvas id="time" tabindex="0" role="img" aria-label="Timeline of all queues, with power, streams and SRAM. Arrow keys move, plus and minus zoom, brackets step from burst to burst, c sets a cursor."></canvas></div>
<p class="faint">Wheel zooms, drag or shift and wheel moves, click selects, shift and click sets cursors A and B. Keys: arrows left and right move, up and down change the row, + - 0 zoom, [ ] step from burst to burst, c sets a cursor, p shows the critical path, Esc clears, / searches.</p>
</section>
<aside>
<div id="detail" aria-live="polite"></div>
<h2>Where the cycles go</h2>
${boundsHtml(data)}
<h2>Layers</h2>
${layersHtml(data)}
${comparisonHtml(data)}
${criticalHtml(data)}
${adviceHtml(data)}
<h2>What the figures mean</h2>
<p>A cycle belongs to the first bound that holds in it, and to the node of the burst that covers it first; shares sum to one. Energy and power are ${escaped(overview.energy.note)}. A pixel of the timeline shows the first burst in it.</p>
</aside>
</main>
<div id="tip" hidden></div>
<script type="application/json" id="data">`;
  yield JSON.stringify(data).replaceAll("<", "\\u003c");
  yield `</script>
<script>
"use strict";
${MODULES.flatMap((module) => Object.entries(module).map(sourceOf)).join("\n")}
${script.runPage.name}(JSON.parse(document.getElementById("data").textContent));
</script>
</html>`;
}

/** A function or a class as it is written, or a constant. */
const sourceOf = ([name, value]: readonly [string, unknown]): string =>
  typeof value === "function" ? String(value) : `const ${name} = ${JSON.stringify(value)};`;

function factsHtml({ overview }: PageData): string {
  const { cycles, microseconds, clockMHz, target, chips, energy, sram, bursts } = overview;
  const facts: readonly (readonly [string, string])[] = [
    ["cycles", `${formatCount(cycles)} (${formatSeconds(microseconds / 1e6)} at ${clockMHz} MHz)`],
    ["target", chips === 1 ? target : `${chips} chips of ${target}`],
    ["energy (model)", formatEnergy(energy.femtojoules)],
    [
      "power (model)",
      `${formatCount(energy.averageWatts)} W on average, ${formatCount(energy.peakWatts)} W at most over ${formatCount(energy.gridCycles)} cycles`,
    ],
    ["SRAM", `${formatBytes(sram.peak)} of ${formatBytes(sram.capacity)} at the fullest moment`],
    ["bursts", formatCount(bursts)],
  ];
  return `<dl>${facts.map(([name, text]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(text)}</dd></div>`).join("")}</dl>`;
}

const boundsHtml = ({ overview }: PageData): string =>
  `<table><tbody>${overview.bounds
    .map(
      ({ name, cycles, share, doc }, bound) =>
        `<tr><th scope="row"><span class="swatch" style="background:${view.boundColour(bound)}"></span>${name}</th><td>${formatCount(cycles)}</td><td>${formatShare(share)}</td><td class="text">${escaped(doc)}</td></tr>`,
    )
    .join("")}</tbody></table>`;

const LAYER_COLUMNS = ["layer", "cycles", "share", "both arrays", "MACs", "energy"] as const;

function layersHtml({ overview, layers }: PageData): string {
  const all = overview.cycles * overview.chips;
  const head = LAYER_COLUMNS.map((name) => `<th scope="col"><button>${name}</button></th>`).join("");
  const cell = (value: number, text: string): string => `<td data-value="${value}">${escaped(text)}</td>`;
  const rows = overview.layers.map(({ name, cycles, bounds, macs, energy }) => {
    const [share, both] = [all === 0 ? 0 : cycles / all, cycles === 0 ? 0 : bounds.arrays / cycles];
    const cells = [
      cell(cycles, formatCount(cycles)),
      cell(share, formatShare(share)),
      cell(both, formatShare(both)),
      cell(macs, formatScaled(macs).trimEnd()),
      cell(energy, formatEnergy(energy)),
    ];
    const first = `<th scope="row" data-value="${escaped(name)}"><button>${escaped(name)}</button></th>`;
    return `<tr data-layer="${layers.indexOf(name)}">${first}${cells.join("")}</tr>`;
  });
  return `<table id="layers"><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

function comparisonHtml({ comparison, overview }: PageData): string {
  if (comparison === null) return "";
  const { other, otherTarget, otherCycles, difference, bounds, units, layers } = comparison;
  const row = (name: string, values: readonly (number | string)[]): string =>
    `<tr><th scope="row">${escaped(name)}</th>${values
      .map((value) => `<td>${typeof value === "number" ? formatDifference(value) : escaped(value)}</td>`)
      .join("")}</tr>`;
  return `<h2>Compared with ${escaped(other)} on ${escaped(otherTarget)}</h2>
<p>${formatCount(overview.cycles)} cycles here, ${formatCount(otherCycles)} there: ${formatDifference(difference)}</p>
<table><tbody>${overview.bounds.map(({ name }) => row(name, [bounds[name]])).join("")}</tbody></table>
<table><thead><tr><th scope="col">unit</th><th scope="col">bursts</th><th scope="col">executions</th><th scope="col">byte vectors</th></tr></thead><tbody>${UNITS.map(
    (unit) => row(unit, [units[unit].bursts, units[unit].executions, units[unit].vectors]),
  ).join("")}</tbody></table>
<table><thead><tr><th scope="col">layer</th><th scope="col">here</th><th scope="col">there</th><th scope="col">difference</th></tr></thead><tbody>${layers
    .map((layer) => row(layer.name, [formatCount(layer.cycles), formatCount(layer.otherCycles), layer.difference]))
    .join("")}</tbody></table>`;
}

/** Rows of the critical path that are shown; all steps are in the CSV. */
const MOST = 10;

function criticalHtml({ overview }: PageData): string {
  const { steps, waits, slack, sums } = overview.critical;
  const shares = WAITS.filter((wait) => waits[wait] > 0).map(
    (wait) => `${formatShare(waits[wait] / overview.cycles)} ${wait}`,
  );
  const rows = sums
    .slice(0, MOST)
    .map(
      ({ wait, nodes, steps: own, cycles, slack: free }) =>
        `<tr><th scope="row">${wait}</th><td>${formatCount(cycles)}</td><td>${formatShare(cycles / overview.cycles)}</td><td>${formatCount(own)}</td><td>${formatCount(free)}</td><td class="text">${escaped(nodes)}</td></tr>`,
    );
  const head = ["waits for", "cycles", "share", "steps", "slack"].map((name) => `<th scope="col">${name}</th>`);
  return `<h2>Critical path</h2>
<p>${formatCount(steps)} steps, each of which waited for the one before: ${shares.join(", ")}. Nothing held them back for ${formatCount(slack)} cycles.</p>
<table><thead><tr>${head.join("")}<th scope="col" class="text">node</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

const adviceHtml = ({ overview }: PageData): string =>
  overview.advice.length === 0
    ? ""
    : `<h2>Where time could be won</h2><ol>${overview.advice.map(({ text }) => `<li>${escaped(text)}</li>`).join("")}</ol>`;

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};
const escaped = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);

const STYLE = `
:root { color-scheme: light; --back: #fff; --ink: #1b1f24; --faint: #6a737d; --line: #d0d7de; }
:root[data-theme="dark"] { color-scheme: dark; --back: #14181d; --ink: #e6e9ec; --faint: #8b949e; --line: #333b44; }
body { margin: 0; background: var(--back); color: var(--ink); font: 13px/1.4 system-ui, sans-serif; }
header { padding: 8px 14px; border-bottom: 1px solid var(--line); }
h1 { font-size: 17px; margin: 0 0 4px; } h2 { font-size: 14px; margin: 16px 0 4px; } h3 { font-size: 12px; margin: 8px 0 2px; }
dl { display: flex; flex-wrap: wrap; gap: 4px 24px; margin: 0; } dt { color: var(--faint); font-size: 11px; } dd { margin: 0; }
main { display: grid; grid-template-columns: minmax(0, 1fr) 500px; }
@media (max-width: 1100px) { main { grid-template-columns: minmax(0, 1fr); } }
section { padding: 8px; min-width: 0; } aside { padding: 8px 14px; border-left: 1px solid var(--line); min-width: 0; overflow-x: auto; }
.bar { display: flex; flex-wrap: wrap; gap: 6px 14px; align-items: center; margin-bottom: 6px; }
canvas { display: block; touch-action: none; cursor: crosshair; } canvas:focus-visible { outline: 2px solid #388bfd; }
.faint { color: var(--faint); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 1px 6px; border-bottom: 1px solid var(--line); font-weight: normal; white-space: nowrap; }
th:first-child, .text { text-align: left; } .text { white-space: normal; overflow-wrap: anywhere; color: var(--faint); }
th:first-child:has(> button) { white-space: normal; overflow-wrap: anywhere; } .swatch { display: inline-block; width: 10px; height: 10px; margin-right: 6px; }
th button, #detail button { background: none; border: 0; padding: 0; color: inherit; font: inherit; cursor: pointer; text-align: left; text-decoration: underline dotted; }
[aria-sort="ascending"]::after { content: " \\2191"; } [aria-sort="descending"]::after { content: " \\2193"; }
#detail p { margin: 0; overflow-wrap: anywhere; } #detail button { display: block; }
#tip { position: absolute; max-width: 360px; background: var(--back); color: var(--ink); border: 1px solid var(--faint); padding: 4px 8px; pointer-events: none; overflow-wrap: anywhere; }
tr[aria-selected="true"] { outline: 2px solid var(--faint); }
ol { padding-left: 20px; } li { overflow-wrap: anywhere; margin-bottom: 4px; }
`;

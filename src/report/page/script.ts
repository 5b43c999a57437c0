/**
 * The page itself, as it runs in a browser: one canvas, one table, and what a person does with them. It is handed over as text
 * together with the functions of view.ts that it names, and asks nothing of any network.
 */

/// <reference lib="dom" />

import type { ColumnName, PageData } from "./data.js";
import {
  axisStep,
  boundColour,
  burstAt,
  drawRow,
  fragmentOf,
  greatestByPixel,
  heldView,
  lowerBound,
  readColumn,
  readFragment,
  type Row,
  rowOf,
  type View,
  zoomedView,
} from "./view.js";

export function runPage(data: PageData): void {
  const { rows, nodes, layers, layerOfNode, ops, texts, bounds, powerRows, grid, cycles } = data;
  const read = (name: ColumnName): Int32Array => {
    const { type, base64 } = data.columns[name];
    return readColumn(type, base64) as Int32Array;
  };
  const [cycle, last, node, op] = [read("cycle"), read("last"), read("node"), read("op")] as const;
  const [text, address, energy] = [read("text"), read("address"), read("energy")] as const;
  const [flightFrom, flightTo] = [read("flightFrom"), read("flightTo")] as const;
  const [flightVectors, flightStreams] = [read("flightVectors"), read("flightStreams")] as const;
  const [stretchFrom, stretchBound, path] = [read("stretchFrom"), read("stretchBound"), read("path")] as const;
  const [sramCycle, sramRows, given, watts] = [
    read("sramCycle"),
    read("sramRows"),
    read("given"),
    read("watts"),
  ] as const;
  const [heldBin, heldNode, heldRows] = [read("heldBin"), read("heldNode"), read("heldRows")] as const;
  const lines: readonly Row[] = rows.map(({ first, end }) =>
    rowOf(cycle.subarray(first, end), last.subarray(first, end)),
  );

  // What plots show does not change: sums of power up to each row, and the greatest of each curve.
  const bins = given.length;
  const starts = Int32Array.from({ length: bins }, (_, bin) => bin * grid);
  const floor = new Float64Array(bins);
  const layersOfPower = powerRows.map((_, row) => {
    for (let bin = 0; bin < bins; bin++) floor[bin] = (floor[bin] as number) + (watts[row * bins + bin] as number);
    return floor.slice();
  });
  const greatest = (values: ArrayLike<number>): number => {
    let most = 0;
    for (let at = 0; at < values.length; at++) most = Math.max(most, values[at] as number);
    return most;
  };
  const mostWatts = greatest(floor);
  const mostGiven = greatest(given);
  const mostLive = greatest(sramRows);

  const get = <Type extends HTMLElement>(id: string): Type => document.getElementById(id) as Type;
  const canvas = get<HTMLCanvasElement>("time");
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  const [tip, detail, search, colours] = [
    get("tip"),
    get("detail"),
    get<HTMLInputElement>("search"),
    get<HTMLSelectElement>("colours"),
  ] as const;

  const LABEL = 116;
  const AXIS = 20;
  const STRIP = 16;
  const LINE = 10;
  const GAP = 6;
  const PLOT = 70;
  const strips = data.strips.map(({ name, first, end }) => ({
    name,
    from: stretchFrom.subarray(first, end),
    bound: stretchBound.subarray(first, end),
  }));
  const top = AXIS + strips.length * STRIP + GAP;
  const tops: number[] = [];
  let below = top;
  for (const [index, row] of rows.entries()) {
    if (index > 0 && rows[index - 1]?.unit !== row.unit) below += GAP;
    tops.push(below);
    below += LINE;
  }
  const plots = [
    { title: "power, W (model)", at: below + GAP },
    { title: "vectors given, a cycle", at: below + 2 * GAP + PLOT },
    { title: "live SRAM, beside constants", at: below + 3 * GAP + 2 * PLOT },
    { title: "links, vectors a cycle", at: below + 4 * GAP + 3 * PLOT },
  ] as const;
  const sent = read("sent");
  const mostSent = greatest(sent);
  const plotted = mostSent > 0 ? 4 : 3;
  const height = below + (plotted + 1) * GAP + plotted * PLOT;

  let width = 800;
  let view: View = { from: 0, perPixel: 1 };
  let selected = -1;
  let hovered = -1;
  let cursors: number[] = [];
  let query = "";
  let found: Uint8Array | undefined;
  let scheduled = false;
  let dark = false;
  let pathShown = false;

  const count = (value: number): string =>
    Math.round(value)
      .toString()
      .replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  const xOf = (at: number): number => LABEL + (at - view.from) / view.perPixel;
  const atOf = (x: number): number => view.from + (x - LABEL) * view.perPixel;
  const rowOfBurst = (burst: number): number => rows.findIndex(({ first, end }) => burst >= first && burst < end);
  const instruction = (burst: number): string =>
    (texts[text[burst] as number] ?? "").replace("@", String(address[burst]));
  const keyOf = (burst: number): number => {
    if (colours.value === "kind") return op[burst] as number;
    return colours.value === "node" ? (node[burst] as number) : (layerOfNode[node[burst] as number] as number);
  };
  const hues: string[] = [];
  const hue = (key: number): string => (hues[key] ??= `hsl(${(key * 137.5) % 360} 60% ${dark ? 58 : 45}%)`);
  const quiet = (): string => (dark ? "#333b44" : "#dde1e6");
  const ink = (): string => (dark ? "#e6e9ec" : "#1b1f24");
  const faint = (): string => (dark ? "#8b949e" : "#6a737d");
  const matches = (burst: number): boolean => found === undefined || found[node[burst] as number] === 1;

  function draw(): void {
    scheduled = false;
    const inner = width - LABEL;
    context.clearRect(0, 0, width, height);
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    drawAxis(inner);
    for (const [index, { from, bound }] of strips.entries()) drawStrip(from, bound, AXIS + index * STRIP);
    context.save();
    context.beginPath();
    context.rect(LABEL, 0, inner, height);
    context.clip();
    for (const [index, row] of rows.entries()) drawLine(index, row.first, inner);
    if (pathShown) drawPath();
    for (const burst of related()) outline(burst, faint(), 1);
    if (hovered >= 0) outline(hovered, ink(), 1);
    if (selected >= 0) outline(selected, ink(), 2);
    drawPlots(inner);
    drawCursors();
    context.restore();
    drawLabels();
  }
  const redraw = (): void => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(draw);
  };

  function drawAxis(inner: number): void {
    const step = axisStep(view.perPixel, 90);
    context.fillStyle = faint();
    for (let at = Math.ceil(view.from / step) * step; at <= view.from + inner * view.perPixel; at += step) {
      context.fillRect(xOf(at), AXIS - 5, 1, 5);
      context.fillText(count(at), xOf(at) + 3, AXIS / 2);
    }
  }

  function drawStrip(from: Int32Array, bound: Int32Array, y: number): void {
    let stretch = Math.max(0, lowerBound(from, Math.floor(view.from) + 1) - 1);
    for (let x = LABEL; stretch < from.length && x < width; ) {
      const end = Math.min(width, Math.ceil(xOf(from[stretch + 1] ?? cycles)));
      if (end > x) {
        context.fillStyle = boundColour(bound[stretch] as number);
        context.fillRect(x, y, end - x, STRIP - 1);
        const name = bounds[bound[stretch] as number] ?? "";
        if (end - x > 8 * name.length) {
          context.fillStyle = "#fff";
          context.fillText(name, x + 3, y + STRIP / 2);
        }
        x = end;
      }
      const next = lowerBound(from, Math.floor(atOf(x)) + 1) - 1;
      stretch = Math.max(stretch + 1, next);
    }
  }

  function drawLine(index: number, first: number, inner: number): void {
    const [row, y] = [lines[index], tops[index]];
    if (row === undefined || y === undefined) return;
    const colourOf = (own: number): number => (matches(first + own) ? keyOf(first + own) : -1);
    drawRow(row, view, inner, colourOf, (left, right, own) => {
      const key = colourOf(own);
      context.fillStyle = key < 0 ? quiet() : hue(key);
      context.fillRect(LABEL + left, y, right - left, LINE - 1);
      if (right - left < 60 || view.perPixel > 0.5) return;
      context.fillStyle = "#fff";
      context.fillText(ops[op[first + own] as number] ?? "", LABEL + left + 2, y + LINE / 2);
    });
  }

  function outline(burst: number, colour: string, weight: number): void {
    const y = tops[rowOfBurst(burst)];
    if (y === undefined) return;
    const [left, right] = [xOf(cycle[burst] as number), xOf((last[burst] as number) + 1)];
    context.strokeStyle = colour;
    context.lineWidth = weight;
    context.strokeRect(left - 0.5, y - 0.5, Math.max(2, right - left), LINE);
    if (selected < 0 || burst === selected || burst === hovered) return;
    const from = tops[rowOfBurst(selected)] ?? 0;
    context.beginPath();
    context.moveTo(xOf(cycle[selected] as number), from + LINE / 2);
    context.lineTo(left, y + LINE / 2);
    context.stroke();
  }

  /** The critical path as a line from burst to burst. */
  function drawPath(): void {
    context.strokeStyle = ink();
    context.lineWidth = 2;
    context.beginPath();
    for (const burst of path) {
      const y = (tops[rowOfBurst(burst)] ?? 0) + LINE / 2;
      context.lineTo(xOf(cycle[burst] as number), y);
      context.lineTo(xOf((last[burst] as number) + 1), y);
    }
    context.stroke();
  }

  function drawPlots(inner: number): void {
    for (let row = powerRows.length - 1; row >= 0; row--)
      plot(0, greatestByPixel(starts, layersOfPower[row] ?? [], view, inner), mostWatts, hue(row + 3));
    label(0, `at most ${count(mostWatts)} W`);
    for (const [row, name] of powerRows.entries()) {
      context.fillStyle = hue(row + 3);
      context.fillText(name, LABEL + 150 + 44 * row, plots[0].at + 6);
    }
    plot(1, greatestByPixel(starts, given, view, inner), mostGiven, hue(8));
    label(1, `at most ${mostGiven.toFixed(1)} byte vectors`);
    plot(2, greatestByPixel(sramCycle, sramRows, view, inner), mostLive, quiet());
    for (const { key, upTo } of held())
      plot(2, greatestByPixel(starts, upTo, view, inner), mostLive, key < 0 ? faint() : hue(key));
    if (plotted === 4) {
      plot(3, greatestByPixel(starts, sent, view, inner), mostSent, boundColour(bounds.indexOf("links")));
      label(3, `at most ${mostSent.toFixed(2)} vectors sent a cycle`);
    }
    label(2, `at most ${kibibytes(mostLive)}, constants ${kibibytes(data.constants)}`);
  }
  /** Live rows at the start of every bin by colour of the node that wrote them, each on top of those before: the highest first. */
  let heldBy = "";
  let layersOfHeld: { readonly key: number; readonly upTo: Float64Array }[] = [];
  function held(): readonly { readonly key: number; readonly upTo: Float64Array }[] {
    if (heldBy === colours.value) return layersOfHeld;
    heldBy = colours.value;
    const byKey = new Map<number, Float64Array>();
    for (let at = 0; at < heldBin.length; at++) {
      const own = heldNode[at] as number;
      const key = own < 0 ? -1 : colours.value === "node" ? own : (layerOfNode[own] as number);
      const values = byKey.get(key) ?? new Float64Array(bins);
      byKey.set(key, values);
      values[heldBin[at] as number] = (values[heldBin[at] as number] as number) + (heldRows[at] as number);
    }
    const sums = new Float64Array(bins);
    layersOfHeld = [...byKey]
      .sort(([a], [b]) => a - b)
      .map(([key, values]) => {
        for (let bin = 0; bin < bins; bin++) sums[bin] = (sums[bin] as number) + (values[bin] as number);
        return { key, upTo: sums.slice() };
      })
      .reverse();
    return layersOfHeld;
  }

  /** What lies in SRAM at the start of a bin, the most first. */
  function describeHeld(bin: number): readonly string[] {
    const here = Array.from(heldBin.keys()).filter((at) => heldBin[at] === bin);
    here.sort((a, b) => (heldRows[b] as number) - (heldRows[a] as number));
    return [
      `in SRAM at cycle ${count(bin * grid)}, beside constants:`,
      ...here
        .slice(0, 8)
        .map((at) => `${kibibytes(heldRows[at] as number)}  ${nodes[heldNode[at] as number] ?? "from the host"}`),
    ];
  }

  const kibibytes = (vectors: number): string => `${count((vectors * data.lanes) / 1024)} KiB`;

  function plot(which: 0 | 1 | 2 | 3, values: Float64Array, most: number, colour: string): void {
    const bottom = plots[which].at + PLOT;
    context.fillStyle = colour;
    for (let x = 0; x < values.length; ) {
      const tall = ((values[x] as number) / most) * (PLOT - 12);
      const left = x;
      for (x++; x < values.length && values[x] === values[left]; ) x++;
      if (tall > 0) context.fillRect(LABEL + left, bottom - tall, x - left, tall);
    }
  }

  function label(which: 0 | 1 | 2 | 3, words: string): void {
    context.fillStyle = ink();
    context.fillText(words, LABEL + 4, plots[which].at + 6);
  }

  function drawCursors(): void {
    context.fillStyle = ink();
    for (const [index, at] of cursors.entries()) {
      context.fillRect(Math.round(xOf(at)), 0, 1, height);
      context.fillText("AB"[index] ?? "", xOf(at) + 3, AXIS + STRIP + 3);
    }
  }

  function drawLabels(): void {
    context.fillStyle = faint();
    for (const [index, { name }] of strips.entries()) context.fillText(name, 4, AXIS + (index + 0.5) * STRIP);
    for (const [index, { name }] of rows.entries()) context.fillText(name, 4, (tops[index] ?? 0) + LINE / 2);
    for (const { title, at } of plots.slice(0, plotted)) {
      for (const [line, word] of title.split(", ").entries()) context.fillText(word, 4, at + 8 + 12 * line);
    }
  }

  /** Bursts that give to the selected one or take from it. */
  let relations: { readonly gives: readonly number[]; readonly takes: readonly number[] } = { gives: [], takes: [] };
  const related = (): readonly number[] => (selected < 0 ? [] : relations.gives.concat(relations.takes).slice(0, 400));

  function select(burst: number): void {
    selected = burst;
    const [gives, takes]: [number[], number[]] = [[], []];
    for (let flight = 0; burst >= 0 && flight < flightFrom.length; flight++) {
      if (flightTo[flight] === burst) gives.push(flightFrom[flight] as number);
      if (flightFrom[flight] === burst) takes.push(flightTo[flight] as number);
    }
    relations = { gives, takes };
    showDetail();
    showLayer();
    keep();
    redraw();
  }

  const element = (tag: string, content: string): HTMLElement => {
    const made = document.createElement(tag);
    made.textContent = content;
    return made;
  };

  function showDetail(): void {
    detail.replaceChildren();
    if (selected < 0) {
      detail.append(element("p", "Click a burst to see what it is, what gives to it and what takes from it."));
      return;
    }
    for (const line of describe(selected)) detail.append(element("p", line));
    const list = (title: string, bursts: readonly number[]): void => {
      detail.append(element("h3", `${title} (${bursts.length})`));
      for (const burst of bursts.slice(0, 40)) {
        const flight = flightFrom.findIndex(
          (from, at) => (from === burst && flightTo[at] === selected) || (from === selected && flightTo[at] === burst),
        );
        const streams = data.streams[flightStreams[flight] as number];
        const way = streams === "" ? "" : ` on ${streams}`;
        const button = element(
          "button",
          `${rows[rowOfBurst(burst)]?.name} at ${count(cycle[burst] as number)}: ${instruction(burst)} (${flightVectors[flight]} byte vectors${way})`,
        );
        button.addEventListener("click", () => {
          reveal(burst);
          select(burst);
        });
        detail.append(button);
      }
    };
    list("Takes from", relations.gives);
    list("Gives to", relations.takes);
  }

  const describe = (burst: number): readonly string[] => [
    `${rows[rowOfBurst(burst)]?.name}  ${instruction(burst)}`,
    `cycles ${count(cycle[burst] as number)} to ${count(last[burst] as number)}`,
    nodes[node[burst] as number] || "(no node)",
    `${count((energy[burst] as number) / 1e6)} nJ by the model`,
  ];

  function reveal(burst: number): void {
    const inner = width - LABEL;
    const start = cycle[burst] as number;
    if (xOf(start) < LABEL || xOf((last[burst] as number) + 1) > width)
      view = heldView({ from: start - (inner * view.perPixel) / 3, perPixel: view.perPixel }, cycles, inner);
  }

  function find(words: string): void {
    query = words;
    const wanted = words.trim().toLowerCase();
    found = wanted === "" ? undefined : Uint8Array.from(nodes, (name) => (name.toLowerCase().includes(wanted) ? 1 : 0));
    const hits = found === undefined ? 0 : nodes.filter((_, index) => found?.[index] === 1).length;
    get("hits").textContent = found === undefined ? "" : `${hits} nodes`;
    keep();
    redraw();
  }

  /** Shows from the first burst of what is searched to its last. */
  function showFound(): void {
    let [from, to] = [Number.POSITIVE_INFINITY, 0];
    for (let burst = 0; burst < cycle.length; burst++) {
      if (!matches(burst)) continue;
      from = Math.min(from, cycle[burst] as number);
      to = Math.max(to, last[burst] as number);
    }
    if (to <= 0) return;
    const inner = width - LABEL;
    view = heldView({ from: from - 5, perPixel: (to - from + 10) / inner }, cycles, inner);
    keep();
    redraw();
  }

  function setCursor(at: number): void {
    const whole = Math.round(Math.min(Math.max(at, 0), cycles));
    cursors = cursors.length === 1 ? [cursors[0] as number, whole] : [whole];
    showCursors();
    keep();
    redraw();
  }
  function showCursors(): void {
    const [a, b] = cursors;
    const between = a === undefined || b === undefined ? "" : `, ${count(Math.abs(b - a))} cycles between`;
    get("cursors").textContent = cursors.map((at, index) => `${"AB"[index]} ${count(at)}`).join(", ") + between;
  }

  let keeping: ReturnType<typeof setTimeout> | undefined;
  function keep(): void {
    if (keeping !== undefined) clearTimeout(keeping);
    keeping = setTimeout(() => {
      const inner = width - LABEL;
      const [a = -1, b = -1] = cursors;
      const state = { from: Math.round(view.from), to: Math.round(view.from + inner * view.perPixel), q: query };
      history.replaceState(
        null,
        "",
        `#${fragmentOf({ ...state, colour: colours.value, burst: selected, a, b, path: pathShown ? 1 : -1 })}`,
      );
    }, 200);
  }

  function resize(): void {
    const ratio = window.devicePixelRatio || 1;
    const before = width - LABEL;
    width = Math.max(320, Math.floor(canvas.parentElement?.clientWidth ?? 800));
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const inner = width - LABEL;
    view = heldView({ from: view.from, perPixel: (view.perPixel * before) / inner }, cycles, inner);
    redraw();
  }

  const place = (event: MouseEvent): { readonly x: number; readonly y: number } => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  function under(event: MouseEvent): number {
    const { x, y } = place(event);
    const index = tops.findIndex((at) => y >= at && y < at + LINE);
    const row = lines[index];
    if (row === undefined || x < LABEL) return -1;
    const own = burstAt(row, atOf(x), 2 * view.perPixel);
    return own < 0 ? -1 : (rows[index]?.first ?? 0) + own;
  }

  let drag: { readonly x: number; readonly from: number } | undefined;
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, from: view.from };
    moved = false;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag !== undefined) {
      if (Math.abs(event.clientX - drag.x) > 3) moved = true;
      const from = drag.from - (event.clientX - drag.x) * view.perPixel;
      view = heldView({ from, perPixel: view.perPixel }, cycles, width - LABEL);
      tip.hidden = true;
      redraw();
      return;
    }
    hovered = under(event);
    const { x, y } = place(event);
    const inSram = x >= LABEL && y >= plots[2].at && y < plots[2].at + PLOT;
    tip.hidden = hovered < 0 && !inSram;
    if (!tip.hidden) {
      const said = inSram ? describeHeld(Math.min(bins - 1, Math.floor(atOf(x) / grid))) : describe(hovered);
      tip.replaceChildren(...said.map((line) => element("div", line)));
      tip.style.left = `${Math.min(event.pageX + 14, window.innerWidth - 380)}px`;
      tip.style.top = `${inSram ? event.pageY - 16 - tip.offsetHeight : event.pageY + 16}px`;
    }
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    drag = undefined;
    if (moved) keep();
    else if (event.shiftKey) setCursor(atOf(place(event).x));
    else select(under(event));
  });
  canvas.addEventListener("pointerleave", () => {
    hovered = -1;
    tip.hidden = true;
    redraw();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const inner = width - LABEL;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
        pan((event.deltaX || event.deltaY) / inner);
      else view = zoomedView(view, place(event).x - LABEL, 1.0015 ** event.deltaY, cycles, inner);
      keep();
      redraw();
    },
    { passive: false },
  );
  function pan(share: number): void {
    const inner = width - LABEL;
    view = heldView({ from: view.from + share * inner * view.perPixel, perPixel: view.perPixel }, cycles, inner);
    keep();
    redraw();
  }
  function zoom(factor: number): void {
    const inner = width - LABEL;
    view = zoomedView(view, inner / 2, factor, cycles, inner);
    keep();
    redraw();
  }
  /** Selects the burst `by` places away in its row, or in another row the nearest in time. */
  function step(by: number, across: number): void {
    const at = selected < 0 ? view.from : (cycle[selected] as number);
    const index = Math.min(Math.max((selected < 0 ? 0 : rowOfBurst(selected)) + across, 0), rows.length - 1);
    const row = rows[index];
    const line = lines[index];
    if (row === undefined || line === undefined) return;
    const own = across === 0 && selected >= 0 ? selected - row.first + by : lowerBound(line.cycle, Math.floor(at));
    const burst = row.first + Math.min(Math.max(own, 0), row.end - row.first - 1);
    reveal(burst);
    select(burst);
  }
  const KEYS: Readonly<Record<string, () => void>> = {
    ArrowLeft: () => pan(-0.1),
    ArrowRight: () => pan(0.1),
    "+": () => zoom(0.7),
    "=": () => zoom(0.7),
    "-": () => zoom(1.4),
    "0": () => zoom(cycles),
    "[": () => step(-1, 0),
    "]": () => step(1, 0),
    ArrowUp: () => step(0, -1),
    ArrowDown: () => step(0, 1),
    c: () => setCursor(selected < 0 ? view.from + ((width - LABEL) * view.perPixel) / 2 : (cycle[selected] as number)),
    p: () => showPath(!pathShown),
    Escape: () => {
      cursors = [];
      showCursors();
      select(-1);
    },
  };
  canvas.addEventListener("keydown", (event) => {
    const action = KEYS[event.key];
    if (action === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === search) return;
    event.preventDefault();
    search.focus();
  });
  search.addEventListener("input", () => find(search.value));
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") showFound();
  });
  colours.addEventListener("change", () => {
    keep();
    redraw();
  });
  get("all").addEventListener("click", () => zoom(cycles));
  get("path").addEventListener("click", () => showPath(!pathShown));
  function showPath(wanted: boolean): void {
    pathShown = wanted;
    get("path").ariaPressed = String(wanted);
    keep();
    redraw();
  }
  get("theme").addEventListener("click", () => setTheme(!dark));
  function setTheme(wanted: boolean): void {
    dark = wanted;
    hues.length = 0;
    document.documentElement.dataset["theme"] = dark ? "dark" : "light";
    redraw();
  }

  /** Rows of the table by a column, those of numbers from the greatest; a second click turns them round. */
  const table = get<HTMLTableElement>("layers");
  const body = table.tBodies[0];
  const tableRows = Array.from(body?.rows ?? []);
  let sorted = { column: -1, down: true };
  for (const [column, head] of Array.from(table.tHead?.rows[0]?.cells ?? []).entries()) {
    head.querySelector("button")?.addEventListener("click", () => {
      sorted = { column, down: sorted.column === column ? !sorted.down : column > 0 };
      const sign = sorted.down ? -1 : 1;
      const value = (row: HTMLTableRowElement): string => row.cells[column]?.dataset["value"] ?? "";
      tableRows.sort((a, b) => {
        const order =
          column === 0 ? (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) : Number(value(a)) - Number(value(b));
        return sign * order;
      });
      body?.append(...tableRows);
      for (const cell of Array.from(table.tHead?.rows[0]?.cells ?? [])) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    });
  }
  /** Marks the layer of the selected burst. */
  function showLayer(): void {
    const layer = selected < 0 ? -1 : layerOfNode[node[selected] as number];
    for (const row of tableRows) row.ariaSelected = String(Number(row.dataset["layer"]) === layer);
  }
  for (const row of tableRows) {
    row.cells[0]?.querySelector("button")?.addEventListener("click", () => {
      const layer = layers[Number(row.dataset["layer"])] ?? "";
      search.value = layer.endsWith("/") ? layer : `${layer}/`;
      find(search.value);
      showFound();
    });
  }

  const state = readFragment(location.hash);
  if (state["colour"] !== undefined) colours.value = state["colour"];
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
  view = { from: 0, perPixel: cycles / (width - LABEL) };
  resize();
  const [from, to] = [Number(state["from"] ?? 0), Number(state["to"] ?? cycles)];
  if (to > from) view = heldView({ from, perPixel: (to - from) / (width - LABEL) }, cycles, width - LABEL);
  cursors = [state["a"], state["b"]].filter((at) => at !== undefined).map(Number);
  showCursors();
  pathShown = state["path"] === "1";
  get("path").ariaPressed = String(pathShown);
  search.value = state["q"] ?? "";
  find(search.value);
  const burst = Number(state["burst"] ?? -1);
  select(burst >= 0 && burst < cycle.length ? burst : -1);
  window.addEventListener("resize", resize);
  document.documentElement.dataset["ready"] = "yes";
}

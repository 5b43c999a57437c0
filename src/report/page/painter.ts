/** Draws the timeline of the page, and the plots below it, on one canvas. Runs in the browser. */

/// <reference lib="dom" />

import { type Contents, rowOfBurst, SIZES, SRAM_PLOT, topOfBurst } from "./contents.js";
import { axisStep, boundColour, drawRow, greatestByPixel, lowerBound, type View } from "./view.js";
import { countText, vectorsText } from "./words.js";

/** What a person has chosen to see. Bursts are -1 where there is none. */
export interface Looks {
  width: number;
  view: View;
  selected: number;
  hovered: number;
  /** Bursts that give to the selected one, and that take from it. */
  gives: readonly number[];
  takes: readonly number[];
  /** Cycles of A and B. */
  cursors: readonly number[];
  /** By node, whether it is one that was searched; undefined if nothing was. */
  found: Uint8Array | undefined;
  dark: boolean;
  pathShown: boolean;
  readonly colours: { readonly value: string };
}

/** A curve over bins, filled in one colour. */
export interface HeldCurve {
  readonly key: number;
  readonly upTo: Float64Array;
}

export class Painter {
  private readonly page: Contents;
  private readonly looks: Looks;
  private readonly context: CanvasRenderingContext2D;
  private readonly hues: string[] = [];
  private scheduled = false;
  private heldBy = "";
  private heldCurves: readonly HeldCurve[] = [];

  constructor(page: Contents, looks: Looks, context: CanvasRenderingContext2D) {
    this.page = page;
    this.looks = looks;
    this.context = context;
  }

  redraw(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => this.draw());
  }

  /** Hues are other ones in the light than in the dark. */
  forgetHues(): void {
    this.hues.length = 0;
  }

  xOf(cycle: number): number {
    const { view } = this.looks;
    return SIZES.label + (cycle - view.from) / view.perPixel;
  }

  cycleAt(x: number): number {
    const { view } = this.looks;
    return view.from + (x - SIZES.label) * view.perPixel;
  }

  isFound(burst: number): boolean {
    const { found } = this.looks;
    return found === undefined || found[this.page.columns.node[burst] as number] === 1;
  }

  private draw(): void {
    this.scheduled = false;
    const { context, page, looks } = this;
    const inner = looks.width - SIZES.label;
    context.clearRect(0, 0, looks.width, page.height);
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "middle";
    this.drawAxis(inner);
    for (const [index, { from, bound }] of page.strips.entries())
      this.drawStrip(from, bound, SIZES.axis + index * SIZES.strip);
    context.save();
    context.beginPath();
    context.rect(SIZES.label, 0, inner, page.height);
    context.clip();
    for (const [index, row] of page.data.rows.entries()) this.drawLine(index, row.first, inner);
    if (looks.pathShown) this.drawPath();
    for (const burst of this.related()) this.outline(burst, this.faint(), 1);
    if (looks.hovered >= 0) this.outline(looks.hovered, this.ink(), 1);
    if (looks.selected >= 0) this.outline(looks.selected, this.ink(), 2);
    this.drawPlots(inner);
    this.drawCursors();
    context.restore();
    this.drawLabels();
  }

  /* ---------- colours ---------- */

  private hue(key: number): string {
    this.hues[key] ??= `hsl(${(key * 137.5) % 360} 60% ${this.looks.dark ? 58 : 45}%)`;
    return this.hues[key];
  }

  private quiet(): string {
    return this.looks.dark ? "#333b44" : "#dde1e6";
  }

  private ink(): string {
    return this.looks.dark ? "#e6e9ec" : "#1b1f24";
  }

  private faint(): string {
    return this.looks.dark ? "#8b949e" : "#6a737d";
  }

  private keyOf(burst: number): number {
    const { op, node } = this.page.columns;
    const by = this.looks.colours.value;
    if (by === "kind") return op[burst] as number;
    return by === "node" ? (node[burst] as number) : (this.page.data.layerOfNode[node[burst] as number] as number);
  }

  /* ---------- the timeline ---------- */

  private drawAxis(inner: number): void {
    const { view } = this.looks;
    const step = axisStep(view.perPixel, 90);
    this.context.fillStyle = this.faint();
    for (let at = Math.ceil(view.from / step) * step; at <= view.from + inner * view.perPixel; at += step) {
      this.context.fillRect(this.xOf(at), SIZES.axis - 5, 1, 5);
      this.context.fillText(countText(at), this.xOf(at) + 3, SIZES.axis / 2);
    }
  }

  private drawStrip(from: Int32Array, bound: Int32Array, y: number): void {
    const { cycles, bounds } = this.page.data;
    const { width, view } = this.looks;
    let stretch = Math.max(0, lowerBound(from, Math.floor(view.from) + 1) - 1);
    for (let x: number = SIZES.label; stretch < from.length && x < width; ) {
      const end = Math.min(width, Math.ceil(this.xOf(from[stretch + 1] ?? cycles)));
      if (end > x) {
        this.context.fillStyle = boundColour(bound[stretch] as number);
        this.context.fillRect(x, y, end - x, SIZES.strip - 1);
        const name = bounds[bound[stretch] as number] ?? "";
        if (end - x > 8 * name.length) {
          this.context.fillStyle = "#fff";
          this.context.fillText(name, x + 3, y + SIZES.strip / 2);
        }
        x = end;
      }
      const next = lowerBound(from, Math.floor(this.cycleAt(x)) + 1) - 1;
      stretch = Math.max(stretch + 1, next);
    }
  }

  private drawLine(index: number, first: number, inner: number): void {
    const { lines, tops, data, columns } = this.page;
    const { view } = this.looks;
    const [row, y] = [lines[index], tops[index]];
    if (row === undefined || y === undefined) return;
    const colourOf = (own: number): number => (this.isFound(first + own) ? this.keyOf(first + own) : -1);
    drawRow(row, view, inner, colourOf, (left, right, own) => {
      const key = colourOf(own);
      this.context.fillStyle = key < 0 ? this.quiet() : this.hue(key);
      this.context.fillRect(SIZES.label + left, y, right - left, SIZES.line - 1);
      if (right - left < 60 || view.perPixel > 0.5) return;
      this.context.fillStyle = "#fff";
      const name = data.ops[columns.op[first + own] as number] ?? "";
      this.context.fillText(name, SIZES.label + left + 2, y + SIZES.line / 2);
    });
  }

  private related(): readonly number[] {
    const { selected, gives, takes } = this.looks;
    return selected < 0 ? [] : gives.concat(takes).slice(0, 400);
  }

  private outline(burst: number, colour: string, weight: number): void {
    const { page, context } = this;
    const { cycle, last } = page.columns;
    const { selected, hovered } = this.looks;
    const y = page.tops[rowOfBurst(page, burst)];
    if (y === undefined) return;
    const [left, right] = [this.xOf(cycle[burst] as number), this.xOf((last[burst] as number) + 1)];
    context.strokeStyle = colour;
    context.lineWidth = weight;
    context.strokeRect(left - 0.5, y - 0.5, Math.max(2, right - left), SIZES.line);
    if (selected < 0 || burst === selected || burst === hovered) return;
    const from = topOfBurst(page, selected);
    context.beginPath();
    context.moveTo(this.xOf(cycle[selected] as number), from + SIZES.line / 2);
    context.lineTo(left, y + SIZES.line / 2);
    context.stroke();
  }

  /** The critical path as a line from burst to burst. */
  private drawPath(): void {
    const { page, context } = this;
    const { cycle, last, path } = page.columns;
    context.strokeStyle = this.ink();
    context.lineWidth = 2;
    context.beginPath();
    for (const burst of path) {
      const y = topOfBurst(page, burst) + SIZES.line / 2;
      context.lineTo(this.xOf(cycle[burst] as number), y);
      context.lineTo(this.xOf((last[burst] as number) + 1), y);
    }
    context.stroke();
  }

  private drawCursors(): void {
    this.context.fillStyle = this.ink();
    for (const [index, at] of this.looks.cursors.entries()) {
      this.context.fillRect(Math.round(this.xOf(at)), 0, 1, this.page.height);
      this.context.fillText("AB"[index] ?? "", this.xOf(at) + 3, SIZES.axis + SIZES.strip + 3);
    }
  }

  private drawLabels(): void {
    const { context, page } = this;
    context.fillStyle = this.faint();
    for (const [index, { name }] of page.strips.entries())
      context.fillText(name, 4, SIZES.axis + (index + 0.5) * SIZES.strip);
    for (const [index, { name }] of page.data.rows.entries())
      context.fillText(name, 4, (page.tops[index] ?? 0) + SIZES.line / 2);
    for (const { title, top } of page.plots) {
      for (const [line, word] of title.split(", ").entries()) context.fillText(word, 4, top + 8 + 12 * line);
    }
  }

  /* ---------- plots ---------- */

  private drawPlots(inner: number): void {
    const { page, looks } = this;
    const { data, columns, starts, most } = page;
    const { view } = looks;
    for (let row = data.powerRows.length - 1; row >= 0; row--)
      this.plot(0, greatestByPixel(starts, page.power[row] ?? [], view, inner), most.watts, this.hue(row + 3));
    this.label(0, `at most ${countText(most.watts)} W`);
    for (const [row, name] of data.powerRows.entries()) {
      this.context.fillStyle = this.hue(row + 3);
      this.context.fillText(name, SIZES.label + 150 + 44 * row, this.topOf(0) + 6);
    }
    this.plot(1, greatestByPixel(starts, columns.given, view, inner), most.given, this.hue(8));
    this.label(1, `at most ${most.given.toFixed(1)} byte vectors`);
    const live = greatestByPixel(columns.sramCycle, columns.sramRows, view, inner);
    this.plot(SRAM_PLOT, live, most.live, this.quiet());
    for (const { key, upTo } of this.held())
      this.plot(
        SRAM_PLOT,
        greatestByPixel(starts, upTo, view, inner),
        most.live,
        key < 0 ? this.faint() : this.hue(key),
      );
    if (most.sent > 0) {
      const colour = boundColour(data.bounds.indexOf("links"));
      this.plot(3, greatestByPixel(starts, columns.sent, view, inner), most.sent, colour);
      this.label(3, `at most ${most.sent.toFixed(2)} vectors sent a cycle`);
    }
    this.label(SRAM_PLOT, `at most ${vectorsText(page, most.live)}, constants ${vectorsText(page, data.constants)}`);
  }

  /** Live rows at the start of every bin by colour of the node that wrote them, each on top of those before: the highest first. */
  private held(): readonly HeldCurve[] {
    const by = this.looks.colours.value;
    if (this.heldBy === by) return this.heldCurves;
    this.heldBy = by;
    const { columns, bins, data } = this.page;
    const { heldBin, heldNode, heldRows } = columns;
    const byKey = new Map<number, Float64Array>();
    for (let at = 0; at < heldBin.length; at++) {
      const own = heldNode[at] as number;
      const key = own < 0 ? -1 : by === "node" ? own : (data.layerOfNode[own] as number);
      const values = byKey.get(key) ?? new Float64Array(bins);
      byKey.set(key, values);
      values[heldBin[at] as number] = (values[heldBin[at] as number] as number) + (heldRows[at] as number);
    }
    const sums = new Float64Array(bins);
    this.heldCurves = [...byKey]
      .sort(([a], [b]) => a - b)
      .map(([key, values]) => {
        for (let bin = 0; bin < bins; bin++) sums[bin] = (sums[bin] as number) + (values[bin] as number);
        return { key, upTo: sums.slice() };
      })
      .reverse();
    return this.heldCurves;
  }

  private plot(which: number, values: Float64Array, most: number, colour: string): void {
    const bottom = this.topOf(which) + SIZES.plot;
    this.context.fillStyle = colour;
    for (let x = 0; x < values.length; ) {
      const tall = ((values[x] as number) / most) * (SIZES.plot - 12);
      const left = x;
      for (x++; x < values.length && values[x] === values[left]; ) x++;
      if (tall > 0) this.context.fillRect(SIZES.label + left, bottom - tall, x - left, tall);
    }
  }

  private label(which: number, words: string): void {
    this.context.fillStyle = this.ink();
    this.context.fillText(words, SIZES.label + 4, this.topOf(which) + 6);
  }

  private topOf(which: number): number {
    return this.page.plots[which]?.top ?? 0;
  }
}

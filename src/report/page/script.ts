/**
 * The page itself, as it runs in a browser: one canvas, one table, and what a person does with them. It is handed over as text
 * together with the modules of this folder that it names (html.ts), and asks nothing of any network.
 */

/// <reference lib="dom" />

import { type Contents, contentsOf, rowOfBurst, SIZES, SRAM_PLOT } from "./contents.js";
import type { PageData } from "./data.js";
import { type Looks, Painter } from "./painter.js";
import { burstAt, fragmentOf, heldView, lowerBound, readFragment, zoomedView } from "./view.js";
import { burstLines, countText, heldLines, partnerText } from "./words.js";

export function runPage(data: PageData): void {
  new Controls(contentsOf(data)).start();
}

export function byId<Type extends HTMLElement>(id: string): Type {
  return document.getElementById(id) as Type;
}

export function elementOf(tag: string, content: string): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = content;
  return made;
}

export class Controls {
  private readonly page: Contents;
  private readonly looks: Looks;
  private readonly painter: Painter;
  private readonly canvas = byId<HTMLCanvasElement>("time");
  private readonly context = this.canvas.getContext("2d") as CanvasRenderingContext2D;
  private readonly tip = byId("tip");
  private readonly detail = byId("detail");
  private readonly search = byId<HTMLInputElement>("search");
  private readonly colours = byId<HTMLSelectElement>("colours");
  private readonly table = byId<HTMLTableElement>("layers");
  private readonly tableRows = Array.from(this.table.tBodies[0]?.rows ?? []);
  private query = "";
  private keeping: ReturnType<typeof setTimeout> | undefined;

  constructor(page: Contents) {
    this.page = page;
    this.looks = {
      width: 800,
      view: { from: 0, perPixel: 1 },
      selected: -1,
      hovered: -1,
      gives: [],
      takes: [],
      cursors: [],
      found: undefined,
      dark: false,
      pathShown: false,
      colours: this.colours,
    };
    this.painter = new Painter(page, this.looks, this.context);
  }

  /** Listens, and shows what the link says, or all. */
  start(): void {
    this.listenToPointer();
    this.listenToKeys();
    this.listenToBar();
    this.listenToTable();
    const { looks, page } = this;
    const { cycles } = page.data;
    const state = readFragment(location.hash);
    if (state["colour"] !== undefined) this.colours.value = state["colour"];
    this.setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
    looks.view = { from: 0, perPixel: cycles / this.inner() };
    this.resize();
    const [from, to] = [Number(state["from"] ?? 0), Number(state["to"] ?? cycles)];
    if (to > from) looks.view = heldView({ from, perPixel: (to - from) / this.inner() }, cycles, this.inner());
    looks.cursors = [state["a"], state["b"]].filter((at) => at !== undefined).map(Number);
    this.showCursors();
    looks.pathShown = state["path"] === "1";
    byId("path").ariaPressed = String(looks.pathShown);
    this.search.value = state["q"] ?? "";
    this.find(this.search.value);
    const burst = Number(state["burst"] ?? -1);
    this.select(burst >= 0 && burst < page.columns.cycle.length ? burst : -1);
    window.addEventListener("resize", () => this.resize());
    document.documentElement.dataset["ready"] = "yes";
  }

  /** Pixels of the timeline beside the names. */
  private inner(): number {
    return this.looks.width - SIZES.label;
  }

  private redraw(): void {
    this.painter.redraw();
  }

  private keepAndRedraw(): void {
    this.keep();
    this.redraw();
  }

  /** Writes what is seen into the link, once nothing has changed for a while. */
  private keep(): void {
    if (this.keeping !== undefined) clearTimeout(this.keeping);
    this.keeping = setTimeout(() => {
      const { view, cursors, selected, pathShown } = this.looks;
      const [a = -1, b = -1] = cursors;
      const to = Math.round(view.from + this.inner() * view.perPixel);
      const state = { from: Math.round(view.from), to, q: this.query };
      history.replaceState(
        null,
        "",
        `#${fragmentOf({ ...state, colour: this.colours.value, burst: selected, a, b, path: pathShown ? 1 : -1 })}`,
      );
    }, 200);
  }

  /* ---------- bursts ---------- */

  private select(burst: number): void {
    const { flightFrom, flightTo } = this.page.columns;
    const [gives, takes]: [number[], number[]] = [[], []];
    for (let flight = 0; burst >= 0 && flight < flightFrom.length; flight++) {
      if (flightTo[flight] === burst) gives.push(flightFrom[flight] as number);
      if (flightFrom[flight] === burst) takes.push(flightTo[flight] as number);
    }
    Object.assign(this.looks, { selected: burst, gives, takes });
    this.showDetail();
    this.showLayer();
    this.keepAndRedraw();
  }

  private showDetail(): void {
    const { detail, page } = this;
    const { selected, gives, takes } = this.looks;
    detail.replaceChildren();
    if (selected < 0) {
      detail.append(elementOf("p", "Click a burst to see what it is, what gives to it and what takes from it."));
      return;
    }
    for (const line of burstLines(page, selected)) detail.append(elementOf("p", line));
    const list = (title: string, bursts: readonly number[]): void => {
      detail.append(elementOf("h3", `${title} (${bursts.length})`));
      for (const burst of bursts.slice(0, 40)) {
        const button = elementOf("button", partnerText(page, burst, selected));
        button.addEventListener("click", () => {
          this.reveal(burst);
          this.select(burst);
        });
        detail.append(button);
      }
    };
    list("Takes from", gives);
    list("Gives to", takes);
  }

  private reveal(burst: number): void {
    const { looks, painter } = this;
    const { cycle, last } = this.page.columns;
    const start = cycle[burst] as number;
    if (painter.xOf(start) < SIZES.label || painter.xOf((last[burst] as number) + 1) > looks.width)
      this.show(start - (this.inner() * looks.view.perPixel) / 3, looks.view.perPixel);
  }

  /** Selects the burst `by` places away in its row, or in another row the nearest in time. */
  private step(by: number, across: number): void {
    const { lines, columns, data } = this.page;
    const { selected, view } = this.looks;
    const at = selected < 0 ? view.from : (columns.cycle[selected] as number);
    const place = (selected < 0 ? 0 : rowOfBurst(this.page, selected)) + across;
    const index = Math.min(Math.max(place, 0), data.rows.length - 1);
    const row = data.rows[index];
    const line = lines[index];
    if (row === undefined || line === undefined) return;
    const own = across === 0 && selected >= 0 ? selected - row.first + by : lowerBound(line.cycle, Math.floor(at));
    const burst = row.first + Math.min(Math.max(own, 0), row.end - row.first - 1);
    this.reveal(burst);
    this.select(burst);
  }

  /* ---------- what is searched ---------- */

  private find(words: string): void {
    const { nodes } = this.page.data;
    this.query = words;
    const wanted = words.trim().toLowerCase();
    const found =
      wanted === "" ? undefined : Uint8Array.from(nodes, (name) => (name.toLowerCase().includes(wanted) ? 1 : 0));
    this.looks.found = found;
    const hits = found === undefined ? 0 : nodes.filter((_, index) => found[index] === 1).length;
    byId("hits").textContent = found === undefined ? "" : `${hits} nodes`;
    this.keepAndRedraw();
  }

  /** Shows from the first burst of what is searched to its last. */
  private showFound(): void {
    const { cycle, last } = this.page.columns;
    let [from, to] = [Number.POSITIVE_INFINITY, 0];
    for (let burst = 0; burst < cycle.length; burst++) {
      if (!this.painter.isFound(burst)) continue;
      from = Math.min(from, cycle[burst] as number);
      to = Math.max(to, last[burst] as number);
    }
    if (to <= 0) return;
    this.show(from - 5, (to - from + 10) / this.inner());
    this.keepAndRedraw();
  }

  /* ---------- time ---------- */

  private show(from: number, perPixel: number): void {
    this.looks.view = heldView({ from, perPixel }, this.page.data.cycles, this.inner());
  }

  private pan(share: number): void {
    const { view } = this.looks;
    this.show(view.from + share * this.inner() * view.perPixel, view.perPixel);
    this.keepAndRedraw();
  }

  private zoom(factor: number, pixel: number = this.inner() / 2): void {
    this.looks.view = zoomedView(this.looks.view, pixel, factor, this.page.data.cycles, this.inner());
    this.keepAndRedraw();
  }

  private setCursor(at: number): void {
    const { looks } = this;
    const whole = Math.round(Math.min(Math.max(at, 0), this.page.data.cycles));
    looks.cursors = looks.cursors.length === 1 ? [looks.cursors[0] as number, whole] : [whole];
    this.showCursors();
    this.keepAndRedraw();
  }

  private showCursors(): void {
    const { cursors } = this.looks;
    const [a, b] = cursors;
    const between = a === undefined || b === undefined ? "" : `, ${countText(Math.abs(b - a))} cycles between`;
    byId("cursors").textContent = cursors.map((at, index) => `${"AB"[index]} ${countText(at)}`).join(", ") + between;
  }

  private resize(): void {
    const { looks, canvas, context, page } = this;
    const ratio = window.devicePixelRatio || 1;
    const before = this.inner();
    looks.width = Math.max(320, Math.floor(canvas.parentElement?.clientWidth ?? 800));
    canvas.width = looks.width * ratio;
    canvas.height = page.height * ratio;
    canvas.style.width = `${looks.width}px`;
    canvas.style.height = `${page.height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.show(looks.view.from, (looks.view.perPixel * before) / this.inner());
    this.redraw();
  }

  /* ---------- pointer and keys ---------- */

  private place(event: MouseEvent): { readonly x: number; readonly y: number } {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  /** The burst under the pointer. */
  private under(event: MouseEvent): number {
    const { tops, lines, data } = this.page;
    const { x, y } = this.place(event);
    const index = tops.findIndex((at) => y >= at && y < at + SIZES.line);
    const row = lines[index];
    if (row === undefined || x < SIZES.label) return -1;
    const own = burstAt(row, this.painter.cycleAt(x), 2 * this.looks.view.perPixel);
    return own < 0 ? -1 : (data.rows[index]?.first ?? 0) + own;
  }

  /** Says beside the pointer what is under it: a burst, or in the plot of SRAM what lies there. */
  private hover(event: MouseEvent): void {
    const { looks, page, tip } = this;
    looks.hovered = this.under(event);
    const { x, y } = this.place(event);
    const top = page.plots[SRAM_PLOT]?.top ?? 0;
    const inSram = x >= SIZES.label && y >= top && y < top + SIZES.plot;
    tip.hidden = looks.hovered < 0 && !inSram;
    if (!tip.hidden) {
      const bin = Math.min(page.bins - 1, Math.floor(this.painter.cycleAt(x) / page.data.grid));
      const said = inSram ? heldLines(page, bin) : burstLines(page, looks.hovered);
      tip.replaceChildren(...said.map((line) => elementOf("div", line)));
      tip.style.left = `${Math.min(event.pageX + 14, window.innerWidth - 380)}px`;
      tip.style.top = `${inSram ? event.pageY - 16 - tip.offsetHeight : event.pageY + 16}px`;
    }
    this.redraw();
  }

  private listenToPointer(): void {
    const { canvas, looks, tip } = this;
    let drag: { readonly x: number; readonly from: number } | undefined;
    let moved = false;
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, from: looks.view.from };
      moved = false;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag === undefined) {
        this.hover(event);
        return;
      }
      if (Math.abs(event.clientX - drag.x) > 3) moved = true;
      this.show(drag.from - (event.clientX - drag.x) * looks.view.perPixel, looks.view.perPixel);
      tip.hidden = true;
      this.redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      drag = undefined;
      if (moved) this.keep();
      else if (event.shiftKey) this.setCursor(this.painter.cycleAt(this.place(event).x));
      else this.select(this.under(event));
    });
    canvas.addEventListener("pointerleave", () => {
      looks.hovered = -1;
      tip.hidden = true;
      this.redraw();
    });
    const wheel = (event: WheelEvent): void => {
      event.preventDefault();
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
        this.pan((event.deltaX || event.deltaY) / this.inner());
      else this.zoom(1.0015 ** event.deltaY, this.place(event).x - SIZES.label);
    };
    canvas.addEventListener("wheel", wheel, { passive: false });
  }

  private listenToKeys(): void {
    const { looks, page, canvas, search } = this;
    const middle = (): number => looks.view.from + (this.inner() * looks.view.perPixel) / 2;
    const keys: Readonly<Record<string, () => void>> = {
      ArrowLeft: () => this.pan(-0.1),
      ArrowRight: () => this.pan(0.1),
      "+": () => this.zoom(0.7),
      "=": () => this.zoom(0.7),
      "-": () => this.zoom(1.4),
      "0": () => this.zoom(page.data.cycles),
      "[": () => this.step(-1, 0),
      "]": () => this.step(1, 0),
      ArrowUp: () => this.step(0, -1),
      ArrowDown: () => this.step(0, 1),
      c: () => this.setCursor(looks.selected < 0 ? middle() : (page.columns.cycle[looks.selected] as number)),
      p: () => this.showPath(!looks.pathShown),
      Escape: () => {
        looks.cursors = [];
        this.showCursors();
        this.select(-1);
      },
    };
    canvas.addEventListener("keydown", (event) => {
      const action = keys[event.key];
      if (action === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target === search) return;
      event.preventDefault();
      search.focus();
    });
  }

  /* ---------- the bar and the table ---------- */

  private listenToBar(): void {
    const { search, colours, looks } = this;
    search.addEventListener("input", () => this.find(search.value));
    search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.showFound();
    });
    colours.addEventListener("change", () => this.keepAndRedraw());
    byId("all").addEventListener("click", () => this.zoom(this.page.data.cycles));
    byId("path").addEventListener("click", () => this.showPath(!looks.pathShown));
    byId("theme").addEventListener("click", () => this.setTheme(!looks.dark));
  }

  private showPath(wanted: boolean): void {
    this.looks.pathShown = wanted;
    byId("path").ariaPressed = String(wanted);
    this.keepAndRedraw();
  }

  private setTheme(wanted: boolean): void {
    this.looks.dark = wanted;
    this.painter.forgetHues();
    document.documentElement.dataset["theme"] = wanted ? "dark" : "light";
    this.redraw();
  }

  private listenToTable(): void {
    const { table, tableRows, search } = this;
    const heads = Array.from(table.tHead?.rows[0]?.cells ?? []);
    let sorted = { column: -1, down: true };
    for (const [column, head] of heads.entries()) {
      head.querySelector("button")?.addEventListener("click", () => {
        sorted = { column, down: sorted.column === column ? !sorted.down : column > 0 };
        this.sortTable(column, sorted.down);
        for (const cell of heads) cell.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      });
    }
    for (const row of tableRows) {
      row.cells[0]?.querySelector("button")?.addEventListener("click", () => {
        const layer = this.page.data.layers[Number(row.dataset["layer"])] ?? "";
        search.value = layer.endsWith("/") ? layer : `${layer}/`;
        this.find(search.value);
        this.showFound();
      });
    }
  }

  /** Rows of the table by a column, those of numbers from the greatest; a second click turns them round. */
  private sortTable(column: number, down: boolean): void {
    const value = (row: HTMLTableRowElement): string => row.cells[column]?.dataset["value"] ?? "";
    this.tableRows.sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      const order = column === 0 ? (one < other ? -1 : one > other ? 1 : 0) : Number(one) - Number(other);
      return (down ? -1 : 1) * order;
    });
    this.table.tBodies[0]?.append(...this.tableRows);
  }

  /** Marks the layer of the selected burst. */
  private showLayer(): void {
    const { selected } = this.looks;
    const { data, columns } = this.page;
    const layer = selected < 0 ? -1 : data.layerOfNode[columns.node[selected] as number];
    for (const row of this.tableRows) row.ariaSelected = String(Number(row.dataset["layer"]) === layer);
  }
}

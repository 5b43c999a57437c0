/**
 * The page of a report: its pure parts against plain definitions, and the whole of it in a room with nothing but the parts of
 * a browser that it needs. There is no browser here, so that how it looks is not tested.
 */

import vm from "node:vm";
import { beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { queueName, chosenEntry } from "../src/ir/program.js";
import type { Activity } from "../src/report/activity.js";
import { type Analysis, analysisOf } from "../src/report/analysis.js";
import type { Overview } from "../src/report/overview.js";
import { pageData } from "../src/report/page/data.js";
import { htmlLines } from "../src/report/page/html.js";
import {
  axisStep,
  burstAt,
  drawRow,
  fragmentOf,
  greatestByPixel,
  heldView,
  readColumn,
  readFragment,
  type Row,
  rowOf,
  zoomedView,
} from "../src/report/page/view.js";
import { formatCount, formatEnergy } from "../src/report/units.js";
import { compileSmall } from "./compiled.js";

const WIDTH = 40;
const rows = fc
  .array(fc.tuple(fc.nat(300), fc.nat(40)), { maxLength: 60 })
  .map((bursts) => bursts.sort(([a], [b]) => a - b))
  .map((bursts): Row => {
    const cycle = Int32Array.from(bursts, ([start]) => start);
    return rowOf(
      cycle,
      Int32Array.from(bursts, ([start, more]) => start + more),
    );
  });
const views = fc.record({
  from: fc.double({ min: 0, max: 300, noNaN: true }),
  perPixel: fc.double({ min: 0.05, max: 20, noNaN: true }),
});

describe("levels of detail", () => {
  test("a row covers the pixels in which a burst executes and no others, with a colour that is there, once each", () => {
    fc.assert(
      fc.property(rows, views, (row, view) => {
        const shown = new Int32Array(WIDTH).fill(-1);
        const colour = (burst: number): number => burst % 3;
        let before = 0;
        let calls = 0;
        drawRow(row, view, WIDTH, colour, (left, right, burst) => {
          expect(left).toBeGreaterThanOrEqual(before);
          expect(right).toBeGreaterThan(left);
          shown.fill(colour(burst), left, right);
          before = right;
          calls++;
        });
        expect(calls).toBeLessThanOrEqual(WIDTH);
        for (let pixel = 0; pixel < WIDTH; pixel++) {
          const there = Array.from(row.cycle.keys()).filter(
            (burst) =>
              Math.floor(((row.cycle[burst] as number) - view.from) / view.perPixel) <= pixel &&
              Math.ceil(((row.last[burst] as number) + 1 - view.from) / view.perPixel) > pixel,
          );
          if (there.length === 0) expect(shown[pixel]).toBe(-1);
          else expect(there.map(colour)).toContain(shown[pixel]);
        }
      }),
    );
  });

  test("a million bursts cost no more than a few for each pixel", () => {
    const cycle = Int32Array.from({ length: 1e6 }, (_, burst) => 3 * burst);
    const row = rowOf(
      cycle,
      cycle.map((start) => start + 1),
    );
    let looked = 0;
    const colour = (burst: number): number => {
      looked++;
      return burst;
    };
    drawRow(row, { from: 0, perPixel: 3e6 / 1000 }, 1000, colour, () => {});
    expect(looked).toBeLessThanOrEqual(1001);
  });

  test("under the pointer is the nearest burst within reach, the last begun of those that are there", () => {
    fc.assert(
      fc.property(rows, fc.double({ min: 0, max: 350, noNaN: true }), fc.nat(10), (row, at, slack) => {
        const distances = Array.from(row.cycle, (start, burst) =>
          at < start ? start - at : Math.max(0, at - (row.last[burst] as number) - 1),
        );
        const least = Math.min(...distances);
        expect(burstAt(row, at, slack)).toBe(least <= slack ? distances.lastIndexOf(least) : -1);
      }),
    );
  });

  test("a curve shows the greatest value of every pixel", () => {
    const curve = fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.nat(100)), { minLength: 1, maxLength: 80 });
    fc.assert(
      fc.property(curve, views, (steps, view) => {
        let at = 0;
        const cycle = Int32Array.from(steps, ([gap], index) => (at += index === 0 ? 0 : gap));
        const value = steps.map(([, now]) => now);
        const shown = greatestByPixel(cycle, value, view, WIDTH);
        for (let pixel = 0; pixel < WIDTH; pixel++) {
          const [from, to] = [view.from + pixel * view.perPixel, view.from + (pixel + 1) * view.perPixel];
          const there = value.filter(
            (_, step) => (cycle[step] as number) < to && (cycle[step + 1] ?? Number.POSITIVE_INFINITY) > from,
          );
          // What holds up to the very start of a pixel may be seen in it: edges of pixels are not whole cycles.
          const held = value.filter(
            (_, step) =>
              (cycle[step] as number) < to && (cycle[step + 1] ?? Number.POSITIVE_INFINITY) >= Math.floor(from),
          );
          expect(shown[pixel]).toBeGreaterThanOrEqual(Math.max(...there));
          expect(held).toContain(shown[pixel]);
        }
      }),
    );
  });
});

describe("ways through time", () => {
  test("a zoom keeps the cycle under the pointer where the ends allow, and no view leaves the program", () => {
    fc.assert(
      fc.property(views, fc.nat(WIDTH), fc.double({ min: 0.1, max: 10, noNaN: true }), (wanted, pixel, factor) => {
        const cycles = 700;
        const view = heldView(wanted, cycles, WIDTH);
        const next = zoomedView(view, pixel, factor, cycles, WIDTH);
        expect(next.from).toBeGreaterThanOrEqual(0);
        expect(next.from + WIDTH * next.perPixel).toBeLessThanOrEqual(cycles + 1e-6);
        const inside = next.from > 0 && next.from + WIDTH * next.perPixel < cycles - 1e-6;
        if (inside) expect(next.from + pixel * next.perPixel).toBeCloseTo(view.from + pixel * view.perPixel, 6);
      }),
    );
  });

  test("marks of the axis are round and far enough apart", () => {
    expect([0.05, 1, 3, 180.7].map((perPixel) => axisStep(perPixel, 90))).toEqual([5, 100, 500, 20000]);
  });

  test("a link keeps any text, and one that is cut short still opens", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), fc.nat(), (q, burst) => {
        expect(readFragment(`#${fragmentOf({ q, burst, a: -1, none: "" })}`)).toEqual({ q, burst: String(burst) });
      }),
    );
    expect(readFragment("#from=1&q=%E")).toEqual({ from: "1" });
  });

  test("columns are read back as they were written", () => {
    const column = (values: Int32Array | Uint16Array | Float64Array) =>
      readColumn(values.constructor.name, Buffer.from(values.buffer).toString("base64"));
    for (const values of [Int32Array.of(1, -(2 ** 31)), Uint16Array.of(7, 65535), Float64Array.of(0.1, 1e300)])
      expect(Array.from(column(values))).toEqual(Array.from(values));
  });
});

/** An element that remembers what it is given, with as much of the rest as the page needs. */
class FakeElement {
  textContent = "";
  value = "";
  hidden = false;
  width = 0;
  height = 0;
  clientWidth = 1000;
  readonly style: Record<string, string> = {};
  readonly dataset: Record<string, string> = {};
  readonly tBodies: FakeElement[] = [];
  readonly parentElement: { clientWidth: number } = { clientWidth: 1000 };
  children: FakeElement[] = [];
  readonly listeners = new Map<string, (event: object) => void>();
  readonly drawn: string[] = [];

  addEventListener(name: string, listener: (event: object) => void): void {
    this.listeners.set(name, listener);
  }
  fire(name: string, event: object = {}): void {
    this.listeners.get(name)?.({ preventDefault: () => {}, pointerId: 1, pageX: 0, pageY: 0, ...event });
  }
  append(...children: FakeElement[]): void {
    this.children.push(...children);
  }
  replaceChildren(...children: FakeElement[]): void {
    this.children = children;
  }
  getContext(): object {
    return new Proxy({} as Record<string | symbol, unknown>, {
      get: (_, name) =>
        name === "fillText" ? (text: string) => this.drawn.push(text) : () => this.drawn.push(String(name)),
      set: () => true,
    });
  }
  getBoundingClientRect = (): object => ({ left: 0, top: 0 });
  setPointerCapture(): void {}
  focus(): void {}
  text = (): string => [this.textContent, ...this.children.map((child) => child.text())].join("\n");
}

describe("the page of bert", () => {
  let analysis: Analysis;
  let activity: Activity;
  let overview: Overview;
  let html = "";
  const elements = new Map<string, FakeElement>();
  const get = (id: string): FakeElement => {
    const element = elements.get(id) ?? new FakeElement();
    elements.set(id, element);
    return element;
  };
  const frames: (() => void)[] = [];
  const flush = (): void => {
    for (const frame of frames.splice(0)) frame();
  };
  let link = "";

  beforeAll(() => {
    analysis = analysisOf(chosenEntry(compileSmall("bert", "lpu-v1").program));
    ({ activity, overview } = analysis);
    const data = pageData(analysis, undefined, (_, { op, fields }) =>
      "address" in fields ? `${op} address=${fields["address"]}` : op,
    );
    html = [...htmlLines(data)].join("\n");
    const script = /<script>\n("use strict";[\s\S]*)<\/script>\n<\/html>/.exec(html)?.[1] ?? "";
    get("data").textContent = /id="data">\n?([\s\S]*?)<\/script>/.exec(html)?.[1] ?? "";
    get("colours").value = "layer";
    const root = new FakeElement();
    elements.set("root", root);
    const page = {
      document: {
        getElementById: get,
        createElement: () => new FakeElement(),
        documentElement: root,
        addEventListener: () => {},
      },
      window: { devicePixelRatio: 2, innerWidth: 1400, addEventListener: () => {} },
      location: { hash: "" },
      history: { replaceState: (_: unknown, __: unknown, to: string) => (link = to) },
      matchMedia: () => ({ matches: true }),
      requestAnimationFrame: (frame: () => void) => frames.push(frame),
      setTimeout: (work: () => void) => work(),
      clearTimeout: () => {},
      atob,
    };
    vm.runInNewContext(script, page);
    flush();
  });

  test("is one file that asks for nothing, with the figures of the overview", () => {
    const outside = html.replace(/<script type="application\/json"[\s\S]*?<\/script>/, "");
    expect(outside).not.toMatch(/https?:|\bsrc=|\bhref=|url\(|@import|fetch\(|XMLHttpRequest|import\(/);
    for (const { name, cycles } of overview.layers)
      expect(outside).toContain(`<button>${name}</button></th><td data-value="${cycles}">${formatCount(cycles)}</td>`);
    for (const { name, cycles } of overview.bounds)
      expect(outside).toContain(`</span>${name}</th><td>${formatCount(cycles)}</td>`);
    expect(outside).toContain(formatEnergy(overview.energy.femtojoules));
    expect(outside).toContain(overview.energy.note);
  });

  test("draws every queue that works, and the plots", () => {
    const { drawn } = get("time");
    const { bursts, program } = activity;
    for (const queue of new Set(bursts.queue)) expect(drawn).toContain(queueName(program.target, queue));
    expect(drawn.filter((what) => what === "fillRect").length).toBeGreaterThan(1000);
    expect(drawn).toContain("live SRAM");
    expect(get("root").dataset["theme"]).toBe("dark");
  });

  test("a burst under the pointer says what it is, and a click what it takes and gives", () => {
    const { bursts, flights, program } = activity;
    const canvas = get("time");
    const burst = bursts.instructions.findIndex(({ op }) => op === "acc");
    const middle = ((bursts.cycle[burst] as number) + (bursts.last[burst] as number)) / 2;
    canvas.fire("keydown", { key: "0" });
    const x = 116 + (middle / activity.cycles) * (1000 - 116);
    let clicked = false;
    for (let y = 0; y < 2000 && !clicked; y += 3) {
      canvas.fire("pointermove", { clientX: x, clientY: y });
      if (
        get("tip").hidden ||
        !get("tip")
          .text()
          .includes(`cycles ${formatCount(bursts.cycle[burst] as number)} to`)
      )
        continue;
      if (
        !get("tip")
          .text()
          .includes(queueName(program.target, bursts.queue[burst] as number))
      )
        continue;
      canvas.fire("pointerdown", { clientX: x, clientY: y });
      canvas.fire("pointerup", { clientX: x, clientY: y });
      clicked = true;
    }
    expect(clicked).toBe(true);
    flush();
    const detail = get("detail").text();
    expect(detail).toContain(program.origins[bursts.origin[burst] as number]);
    const partners = (mine: Int32Array, theirs: Int32Array): number => {
      const all = Array.from(mine.keys()).filter((flight) => mine[flight] === burst && (theirs[flight] as number) >= 0);
      return new Set(all.map((flight) => theirs[flight])).size;
    };
    expect(detail).toContain(`Takes from (${partners(flights.to, flights.from)})`);
    expect(detail).toContain(`Gives to (${partners(flights.from, flights.to)})`);
    expect(readFragment(link)["burst"]).toBe(String(burst));
  });

  test("search finds nodes by name and Enter shows them; keys, wheel and drag move within the program", () => {
    const { program, bursts } = activity;
    const search = get("search");
    search.value = "LAYER.1/";
    search.fire("input");
    const wanted = program.origins.flatMap((name, origin) => (name.toLowerCase().includes("layer.1/") ? [origin] : []));
    expect(get("hits").textContent).toBe(`${wanted.length} nodes`);
    search.fire("keydown", { key: "Enter" });
    const own = Array.from(bursts.cycle.keys()).filter((burst) => wanted.includes(bursts.origin[burst] as number));
    const shown = readFragment(link);
    const [first, last] = [
      Math.min(...own.map((burst) => bursts.cycle[burst] as number)),
      Math.max(...own.map((burst) => bursts.last[burst] as number)),
    ];
    expect(Number(shown["from"])).toBeLessThan(first);
    expect(Number(shown["to"])).toBeGreaterThan(last);
    expect(Number(shown["to"]) - Number(shown["from"])).toBeLessThanOrEqual(last - first + 11);
    const canvas = get("time");
    const span = (): number => Number(readFragment(link)["to"]) - Number(readFragment(link)["from"]);
    const before = span();
    canvas.fire("wheel", { deltaY: -200, deltaX: 0, clientX: 500, clientY: 100 });
    expect(span()).toBeLessThan(before);
    const from = Number(readFragment(link)["from"]);
    canvas.fire("keydown", { key: "ArrowRight" });
    expect(Number(readFragment(link)["from"])).toBeGreaterThan(from);
    canvas.fire("keydown", { key: "0" });
    expect(span()).toBe(activity.cycles);
    canvas.fire("pointerup", { shiftKey: true, clientX: 116, clientY: 0 });
    canvas.fire("pointerup", { shiftKey: true, clientX: 1000, clientY: 0 });
    expect(get("cursors").textContent).toContain(`${formatCount(activity.cycles)} cycles between`);
    flush();
  });

  test("names cannot leave their place", () => {
    const name = "</script><img src=x onerror=alert(1)>";
    const { program } = activity;
    const renamed = analysisOf({ ...program, name, origins: program.origins.map(() => `/${name}/y`) });
    const page = [...htmlLines(pageData(renamed, undefined, () => name))].join("\n");
    expect(page).not.toContain("<img");
    expect(page.match(/<\/script>/g)).toHaveLength(2);
  });
});

/**
 * What the page of a report computes while someone looks at it: which bursts become which rectangles at a level of detail,
 * what lies under the pointer, and where a zoom leads. Pure functions that also run in the browser: each stands alone or calls
 * others of this file, and none reads anything else.
 */

/** Bursts of one row in order of start: `cycle` and `last` of each, and `reach`, the latest `last` so far. */
export interface Row {
  readonly cycle: Int32Array;
  readonly last: Int32Array;
  readonly reach: Int32Array;
}

/** A part of time on the screen: the cycle at the left edge and cycles for each pixel. */
export interface View {
  readonly from: number;
  readonly perPixel: number;
}

/** First index of rising values with a value of at least `least`. */
export function lowerBound(values: Int32Array, least: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function rowOf(cycle: Int32Array, last: Int32Array): Row {
  const reach = new Int32Array(last.length);
  let latest = -1;
  for (let burst = 0; burst < last.length; burst++) {
    latest = Math.max(latest, last[burst] as number);
    reach[burst] = latest;
  }
  return { cycle, last, reach };
}

/**
 * Calls `draw` with rectangles that show a row: pixels `left` to `right` (not included) and the burst whose colour they have.
 * Every pixel in which any burst executes is covered, and no other; where several begin in a pixel, the first is seen.
 * Neighbours of one colour are one rectangle. Looks at one burst a pixel at most, however many there are.
 */
export function drawRow(
  row: Row,
  view: View,
  width: number,
  colourOf: (burst: number) => number,
  draw: (left: number, right: number, burst: number) => void,
): void {
  const { cycle, last, reach } = row;
  const { from, perPixel } = view;
  let [left, right, shown, colour] = [0, 0, -1, -1];
  const limit = from + width * perPixel;
  let painted = 0;
  for (let burst = lowerBound(reach, Math.floor(from)); burst < cycle.length; ) {
    const start = cycle[burst] as number;
    if (start >= limit) break;
    const begin = Math.max(painted, Math.floor((start - from) / perPixel));
    const end = Math.min(width, Math.ceil(((last[burst] as number) + 1 - from) / perPixel));
    if (end > begin) {
      const own = colourOf(burst);
      if (shown >= 0 && own === colour && begin === right) right = end;
      else {
        if (shown >= 0) draw(left, right, shown);
        [left, right, shown, colour] = [begin, end, burst, own];
      }
      painted = end;
    }
    // The next that is seen is the first that ends in a pixel which is not painted yet.
    burst = Math.max(burst + 1, lowerBound(reach, Math.floor(from + painted * perPixel)));
  }
  if (shown >= 0) draw(left, right, shown);
}

/** The burst of a row at a cycle, or else the nearest within `slack` cycles; -1 if there is none. The last begun wins. */
export function burstAt(row: Row, at: number, slack: number): number {
  const { cycle, last, reach } = row;
  let found = -1;
  let best = Number.POSITIVE_INFINITY;
  for (let burst = lowerBound(reach, Math.floor(at - slack)); burst < cycle.length; burst++) {
    const start = cycle[burst] as number;
    if (start > at + slack) break;
    const distance = at < start ? start - at : Math.max(0, at - (last[burst] as number) - 1);
    if (distance <= slack && distance <= best) [found, best] = [burst, distance];
  }
  return found;
}

/** Holds a view within a program: never closer than twenty pixels a cycle, never wider than all of it. */
export function heldView({ from, perPixel }: View, cycles: number, width: number): View {
  const closest = Math.min(0.05, cycles / width);
  const scale = Math.min(Math.max(perPixel, closest), cycles / width);
  return { from: Math.min(Math.max(from, 0), Math.max(0, cycles - width * scale)), perPixel: scale };
}

/** Zooms by a factor around a pixel, which keeps its cycle as long as the program's ends allow. */
export function zoomedView(view: View, pixel: number, factor: number, cycles: number, width: number): View {
  const perPixel = heldView({ from: 0, perPixel: view.perPixel * factor }, cycles, width).perPixel;
  return heldView({ from: view.from + pixel * (view.perPixel - perPixel), perPixel }, cycles, width);
}

/** The greatest of 1, 2, 5 times a power of ten that leaves at least `pixels` between marks of the axis. */
export function axisStep(perPixel: number, pixels: number): number {
  const least = Math.max(1, perPixel * pixels);
  const power = 10 ** Math.floor(Math.log10(least));
  for (const times of [1, 2, 5]) if (times * power >= least) return times * power;
  return 10 * power;
}

/**
 * The greatest of a value that changes in steps in every pixel; `NaN` before the first step.
 * `cycle` rises, `value[i]` holds from `cycle[i]` on.
 */
export function greatestByPixel(
  cycle: Int32Array,
  value: ArrayLike<number>,
  { from, perPixel }: View,
  width: number,
): Float64Array {
  const greatest = new Float64Array(width);
  let step = lowerBound(cycle, Math.floor(from) + 1) - 1;
  for (let pixel = 0; pixel < width; pixel++) {
    let most = step < 0 ? Number.NaN : (value[step] as number);
    const end = from + (pixel + 1) * perPixel;
    while (step + 1 < cycle.length && (cycle[step + 1] as number) < end) {
      step++;
      const now = value[step] as number;
      if (!(most >= now)) most = now;
    }
    greatest[pixel] = most;
  }
  return greatest;
}

/** The state of a page that a link keeps, as the text after `#`: `from=10&to=90&q=layer.3`. */
export function fragmentOf(state: Readonly<Record<string, string | number>>): string {
  return Object.entries(state)
    .filter(([, value]) => value !== "" && value !== -1)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join("&");
}

/** Reads what `fragmentOf` wrote; what is not to be read is left out. */
export function readFragment(text: string): Record<string, string> {
  const state: Record<string, string> = {};
  for (const part of text.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at <= 0) continue;
    try {
      state[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1));
    } catch {
      // A link that someone has cut short still opens.
    }
  }
  return state;
}

/** A column of the page's data: `type` is the name of its typed array. */
export function readColumn(type: string, base64: string): Int32Array | Uint16Array | Float64Array {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  if (type === "Float64Array") return new Float64Array(bytes.buffer);
  return type === "Uint16Array" ? new Uint16Array(bytes.buffer) : new Int32Array(bytes.buffer);
}

/** The colour of a bound in the strip above the timeline and in the table beside it, by its number. */
export function boundColour(bound: number): string {
  const rising = [
    "145 55% 30%",
    "150 40% 48%",
    "210 60% 45%",
    "320 55% 42%",
    "270 45% 45%",
    "28 75% 42%",
    "52 60% 38%",
  ];
  return `hsl(${[...rising, "0 55% 45%", "210 8% 55%", "210 10% 75%"][bound]})`;
}

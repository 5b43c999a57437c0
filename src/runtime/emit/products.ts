/**
 * Kernel calls of the MXM: weights into the panels of a version, activations times panels into accumulator rows.
 *
 * Only the part of a version that is loaded is stored, cleared and multiplied; where that leaves zero weights out, a last
 * call mends the rows whose activations are not finite. Loads of whole panels with one window of lanes take the fast kernel,
 * all others go column by column. Weights that few rows meet are multiplied as they lie: no panels are made of them.
 */

import { at, sure } from "../../diagnostics.js";
import { ARRAYS, type ArrayKind, MXM_MODES, type MxmMode, mxmModeOf, type WeightType } from "../../ir/isa.js";
import { halfLanes } from "../../ir/target.js";
import type { Tables } from "../link/tables.js";
import { DIRECT_STEP, DIRECT_VECTORS } from "../kernels/direct.js";
import { PANEL } from "../kernels/matrix.js";
import type { BufferLayout, Place } from "./layout.js";
import type { ProductPiece } from "../link/mxm.js";
import { mask, number, plane, takes, wordOf } from "./operands.js";
import { loadedColumns, type Version } from "../link/weights.js";

/** An instruction at some of its executions. */
interface Stretch {
  readonly burst: number;
  readonly first: number;
  readonly count: number;
}

/** Some executions of an accumulation: where its activations come from, and its sums go. */
interface Products {
  readonly version: Version;
  /** Of the weights. */
  readonly address: number;
  /** Instruction that sends the activations, the first execution of it, and how many lie between two that are multiplied. */
  readonly abc: number;
  readonly from: number;
  readonly step: number;
  /** First row of sums. */
  readonly to: number;
  readonly count: number;
  /** 1 to add to the sums that are there, else 0. */
  readonly add: number;
}

/** What the kernels do for one kind of array. Addresses are of a version's weights. */
interface ArrayCalls {
  /** Bytes of a version's weights. */
  readonly bytes: (layout: BufferLayout) => number;
  /** Zeroes what loads will not fill; copies the array that this one started from. */
  readonly prepare: (layout: BufferLayout, version: Version, address: number) => void;
  readonly load: (layout: BufferLayout, version: Version, address: number, loads: Stretch) => void;
  readonly multiply: (layout: BufferLayout, products: Products) => void;
  /** Sums as they leave on streams. */
  readonly give: (layout: BufferLayout, given: Place, sums: number, count: number) => void;
}

const ARRAY_CALLS: Readonly<Record<ArrayKind, ArrayCalls>> = {
  f16: {
    bytes: (layout) => (layout.lanes / PANEL) * panelBytes(layout),
    prepare: prepareHalves,
    load: loadHalves,
    multiply: multiplyHalves,
    give: (layout, { address }, sums, count) => layout.call("storeFloat", address, sums, count * layout.lanes),
  },
  i8: {
    bytes: ({ lanes }) => lanes * lanes * 2,
    prepare: prepareBytes,
    load: loadBytes,
    multiply: multiplyBytes,
    give: (layout, { address, stride }, sums, count) =>
      layout.call("copyRows", address, stride, sums, layout.lanes * 4, count, layout.lanes * 4),
  },
};

/** Weights that are multiplied as they lie. */
const DIRECT_CALLS: ArrayCalls = { ...ARRAY_CALLS.f16, bytes: () => 0, prepare: () => {}, load: () => {} };
/** Rows up to which that takes less time than to make panels. */
const DIRECT_ROWS = 2;
/** Kernels that do so, by the mode of the loads, and the byte planes of what they take. */
const DIRECT_KERNELS = new Map<MxmMode, { readonly kernel: string; readonly planes: number }>([
  [MXM_MODES.packed, { kernel: "multiplyF16", planes: 2 }],
  [MXM_MODES.packedE4M3, { kernel: "multiplyE4m3", planes: 1 }],
]);

const callsOf = (layout: BufferLayout, version: Version): ArrayCalls =>
  isDirect(layout, version) ? DIRECT_CALLS : ARRAY_CALLS[version.kind];

const direct = new WeakMap<Version, boolean>();

function isDirect(layout: BufferLayout, version: Version): boolean {
  const known = direct.get(version);
  if (known !== undefined) return known;
  const found = version.kind === "f16" && version.rows <= DIRECT_ROWS && !version.copied && fitsDirect(layout, version);
  direct.set(version, found);
  return found;
}

/** Whether loads fill one rectangle, each column once, in steps of the kernel. */
function fitsDirect(layout: BufferLayout, version: Version): boolean {
  const { tables } = layout.findings;
  const half = halfLanes(tables.target);
  const { fromK, toK, fromPanel, toPanel, complete } = extentOf(layout, version);
  let columns = 0;
  for (const burst of version.loads) {
    const { first, lanes } = windowOf(layout, burst, half);
    const { together } = directSteps(layout, burst);
    const steps = tables.count.at(burst) / together;
    if (!DIRECT_KERNELS.has(modeAt(tables, burst)) || first !== fromK || first + lanes !== toK) return false;
    if (!Number.isInteger(together) || !Number.isInteger(steps)) return false;
    columns += tables.count.at(burst) * loadedColumns(tables, burst);
  }
  return complete && (toK - fromK) % DIRECT_STEP === 0 && columns === (toPanel - fromPanel) * PANEL;
}

/** Executions that the kernel takes together, and how often it is called for them. */
function directSteps(layout: BufferLayout, burst: number): { readonly together: number; readonly calls: number } {
  const ways = number(layout, burst, "ways");
  return ways % DIRECT_VECTORS === 0
    ? { together: 1, calls: ways / DIRECT_VECTORS }
    : { together: DIRECT_VECTORS / ways, calls: 1 };
}

/** The part of a version's array that holds weights: k and panels, and whether loads fill all of it. */
interface Extent {
  readonly fromK: number;
  readonly toK: number;
  readonly fromPanel: number;
  readonly toPanel: number;
  readonly complete: boolean;
}

const extents = new WeakMap<Version, Extent>();

function extentOf(layout: BufferLayout, version: Version): Extent {
  const known = extents.get(version);
  if (known !== undefined) return known;
  const { tables } = layout.findings;
  const half = halfLanes(tables.target);
  const loaded = new Uint8Array(layout.lanes);
  let [fromK, toK, low, high] = version.base >= 0 ? [0, half, 0, layout.lanes] : [half, 0, layout.lanes, 0];
  for (const burst of version.loads) {
    const { first, lanes } = windowOf(layout, burst, half);
    const column = number(layout, burst, "column");
    const columns = tables.count.at(burst) * loadedColumns(tables, burst);
    loaded.fill(1, column, column + columns);
    fromK = Math.min(fromK, first);
    toK = Math.max(toK, first + lanes);
    low = Math.min(low, column);
    high = Math.max(high, column + columns);
  }
  const [fromPanel, toPanel] = [Math.floor(low / PANEL), Math.ceil(high / PANEL)];
  const complete = version.base < 0 && loaded.subarray(fromPanel * PANEL, toPanel * PANEL).every((one) => one === 1);
  const extent: Extent = { fromK: Math.min(fromK, toK), toK, fromPanel, toPanel, complete };
  extents.set(version, extent);
  return extent;
}

/** Lanes that a load keeps, within so many. */
function windowOf(
  layout: BufferLayout,
  burst: number,
  depth: number,
): { readonly first: number; readonly lanes: number } {
  const first = Math.min(number(layout, burst, "first"), depth);
  return { first, lanes: Math.max(Math.min(number(layout, burst, "lanes"), depth - first), 0) };
}

const panelBytes = (layout: BufferLayout): number => halfLanes(layout.findings.tables.target) * PANEL * 8;

function versionAddress(layout: BufferLayout, index: number): number {
  const version = at(layout.findings.mxm.versions, index, "version");
  return layout.versionAddress(index, callsOf(layout, version).bytes(layout));
}

/** Weights of a version before its loads. */
export function prepare(layout: BufferLayout, index: number): void {
  const version = at(layout.findings.mxm.versions, index, "version");
  callsOf(layout, version).prepare(layout, version, versionAddress(layout, index));
}

function prepareBytes(layout: BufferLayout, { base }: Version, address: number): void {
  const bytes = ARRAY_CALLS.i8.bytes(layout);
  if (base < 0) layout.call("fillRows", address, 0, 1, bytes);
  else layout.call("copyRows", address, 0, versionAddress(layout, base), 0, 1, bytes);
}

function prepareHalves(layout: BufferLayout, version: Version, address: number): void {
  const { complete, fromPanel, toPanel } = extentOf(layout, version);
  if (complete) return;
  const panel = panelBytes(layout);
  layout.call("fillRows", address + fromPanel * panel, 0, 1, (toPanel - fromPanel) * panel);
  const base = layout.findings.mxm.versions[version.base];
  if (base === undefined) return;
  const from = extentOf(layout, base);
  const offset = from.fromPanel * panel + from.fromK * PANEL * 8;
  layout.call(
    "copyRows",
    address + offset,
    panel,
    versionAddress(layout, version.base) + offset,
    panel,
    from.toPanel - from.fromPanel,
    (from.toK - from.fromK) * PANEL * 8,
  );
}

/** Where one weight column of an execution comes from. */
interface Column {
  readonly low: Place;
  readonly high: Place;
  readonly offset: number;
}

export function load(layout: BufferLayout, burst: number, first: number, count: number): void {
  const { mxm } = layout.findings;
  const index = mxm.versionOf.get(burst) ?? -1;
  const version = mxm.versions[index];
  // What a later load has cleared is in no array.
  if (version === undefined) return;
  callsOf(layout, version).load(layout, version, versionAddress(layout, index), { burst, first, count });
}

/** Column into which the first execution loads. */
const columnOf = (layout: BufferLayout, { burst, first }: Stretch): number =>
  number(layout, burst, "column") + first * loadedColumns(layout.findings.tables, burst);

function loadBytes(layout: BufferLayout, _: Version, address: number, loads: Stretch): void {
  const { lanes } = layout;
  const { burst, first, count } = loads;
  const [entry, ways, column] = [takes(layout, burst, 0), number(layout, burst, "ways"), columnOf(layout, loads)];
  const window = windowOf(layout, burst, lanes);
  for (let way = 0; way < ways; way++) {
    const from = plane(layout, entry + way, first, count);
    const to = [address, column + way, ways, count] as const;
    layout.call("loadBytes", ...to, from.address, from.stride, window.first, window.lanes, lanes);
  }
}

function loadHalves(layout: BufferLayout, version: Version, address: number, loads: Stretch): void {
  const { tables } = layout.findings;
  const { burst, first, count } = loads;
  const [entry, ways, column] = [takes(layout, burst, 0), number(layout, burst, "ways"), columnOf(layout, loads)];
  const half = halfLanes(tables.target);
  const mode = modeAt(tables, burst);
  const columns: Column[] = [];
  for (let way = 0; way < ways; way++) {
    const { low, high } = halfPlanes(layout, mode.type, entry, way, first, count);
    for (const part of mode.parts) columns.push({ low, high, offset: part === 1 ? half : 0 });
  }
  const extent = extentOf(layout, version);
  const window = windowOf(layout, burst, half);
  // Executions that fill one panel of four columns, or panels that one execution fills.
  const together = Math.max(PANEL / columns.length, 1);
  const rounded = Math.ceil(window.lanes / 8) * 8;
  const fits = column % PANEL === 0 && Number.isInteger(together) && window.first + rounded <= half;
  const steps = fits ? Math.floor(count / together) : 0;
  if (steps > 0)
    loadPanels(
      layout,
      columns,
      together,
      steps,
      address + (column / PANEL) * panelBytes(layout),
      window,
      rounded,
      extent,
    );
  const done = steps * together;
  if (done === count) return;
  columns.forEach(({ low, high, offset }, way) => {
    layout.call(
      "loadColumns",
      address,
      panelBytes(layout),
      column + done * columns.length + way,
      columns.length,
      count - done,
      low.address + done * low.stride + offset,
      low.stride,
      high.address + done * high.stride + offset,
      high.stride,
      window.first,
      window.lanes,
      extent.fromK,
      extent.toK,
    );
  });
}

const modeAt = (tables: Tables, burst: number): MxmMode => {
  const instruction = tables.instructions[burst];
  return (instruction && mxmModeOf(instruction)) ?? MXM_MODES.packed;
};

/** The two byte planes of the fp16 values of one way: as they come, or widened from FP8. */
function halfPlanes(
  layout: BufferLayout,
  type: WeightType,
  entry: number,
  way: number,
  first: number,
  count: number,
): Omit<Column, "offset"> {
  const byte = (index: number): Place => plane(layout, entry + index, first, count);
  if (type === "f16") return { low: byte(2 * way), high: byte(2 * way + 1) };
  const bits = byte(way);
  // E5M2 is the upper byte of an fp16 value.
  if (type === "f8e5m2") return { low: zeroRow(layout), high: bits };
  const { lanes } = layout;
  const [low, high] = [layout.scratch(count * lanes), layout.scratch(count * lanes)];
  layout.call("widenE4m3", low, high, bits.address, bits.stride, count, lanes);
  return {
    low: { address: low, stride: lanes, laneStride: 1 },
    high: { address: high, stride: lanes, laneStride: 1 },
  };
}

const zeroRow = (layout: BufferLayout): Place => ({
  address: layout.fixed("zeros", () => new Uint8Array(layout.lanes)),
  stride: 0,
  laneStride: 1,
});

function loadPanels(
  layout: BufferLayout,
  columns: readonly Column[],
  together: number,
  steps: number,
  address: number,
  window: { first: number; lanes: number },
  rounded: number,
  extent: Extent,
): void {
  const panel = panelBytes(layout);
  const perStep = Math.max(columns.length / PANEL, 1);
  const panels = steps * perStep;
  if (rounded > 0) {
    for (let group = 0; group < perStep; group++) {
      const four = Array.from({ length: PANEL }, (_, at) => {
        const inStep = group * PANEL + at;
        const { low, high, offset } = columns[inStep % columns.length] as Column;
        const execution = Math.floor(inStep / columns.length);
        const lane = offset + window.first;
        return {
          lo: low.address + execution * low.stride + lane,
          hi: high.address + execution * high.stride + lane,
          loStride: low.stride * together,
          hiStride: high.stride * together,
        };
      });
      layout.call(
        "loadPanels",
        address + group * panel + window.first * PANEL * 8,
        perStep * panel,
        steps,
        rounded,
        ...four.map(({ lo }) => lo),
        ...four.map(({ loStride }) => loStride),
        ...four.map(({ hi }) => hi),
        ...four.map(({ hiStride }) => hiStride),
      );
    }
  }
  const clear = (from: number, to: number): void => {
    if (to > from) layout.call("fillRows", address + from * PANEL * 8, panel, panels, (to - from) * PANEL * 8);
  };
  clear(extent.fromK, window.first);
  clear(window.first + window.lanes, extent.toK);
}

/** Products of a piece into its accumulator rows, and on streams. */
export function multiply(layout: BufferLayout, piece: ProductPiece, first: number, count: number): void {
  const { tables, mxm } = layout.findings;
  const version = mxm.versions[piece.version];
  // Products by weights that are not installed are a fault.
  if (version === undefined) return;
  const { target } = tables;
  const { lanes } = layout;
  const { acc, abc, abcStep: step } = piece;
  const chip = tables.chip.at(acc);
  const plane0 = Math.floor((tables.queue.at(acc) - 2 * target.slices - target.alus) / 3);
  const hemisphere = Math.floor(plane0 / target.planes);
  const sums = layout.fixed(
    `accumulators ${chip} ${hemisphere}`,
    () => new Uint8Array(target.planes * target.accumulatorRows * lanes * 4),
  );
  const index = piece.first + first;
  // Planes that work together have the accumulators of the first.
  const ownRows = ARRAYS[version.kind].joined ? 0 : (plane0 % target.planes) * target.accumulatorRows;
  const to = sums + (ownRows + number(layout, acc, "row") + index) * lanes * 4;
  const add = wordOf(tables, acc) === "add" ? 1 : 0;
  const from = piece.abcFirst + first * step;
  const calls = callsOf(layout, version);
  const address = versionAddress(layout, piece.version);
  calls.multiply(layout, { version, address, abc, from, step, to, count, add });
  if (!layout.givesStreams(acc)) return;
  const given = layout.givePlace(acc, index);
  calls.give(layout, given, to, count);
  mask(layout, acc, given, count);
}

/** The activations of one byte plane, one row for each product. */
function activations(layout: BufferLayout, { abc, from, step, count }: Products, byte: number): Place {
  const place = plane(layout, takes(layout, abc, 0) + byte, from, (count - 1) * step + 1);
  return { ...place, stride: place.stride * step };
}

function multiplyBytes(layout: BufferLayout, products: Products): void {
  const { lanes } = layout;
  const { address, to, count, add } = products;
  const bytes = activations(layout, products, 0);
  layout.call("multiplyBytes", bytes.address, bytes.stride, address, to, count, lanes, lanes, lanes * 4, add);
}

function multiplyHalves(layout: BufferLayout, products: Products): void {
  const { version, address: weights, abc, to, count, add } = products;
  const [low, high] = [activations(layout, products, 0), activations(layout, products, 1)];
  const { lanes } = layout;
  const half = halfLanes(layout.findings.tables.target);
  const { fromK, toK, fromPanel, toPanel } = extentOf(layout, version);
  const rows = layout.scratch(count * half * 8);
  const flags = layout.scratch(count + 8) + 8;
  const offset = wordOf(layout.findings.tables, abc) === "high" ? half : 0;
  layout.call("widenRows", rows, low.address + offset, low.stride, high.address + offset, high.stride, count, flags);
  const panel = panelBytes(layout);
  const [fromColumn, toColumn] = [fromPanel * PANEL, toPanel * PANEL];
  const whole = fromK === 0 && toK === half && fromColumn === 0 && toColumn === lanes;
  if (isDirect(layout, version)) multiplyDirect(layout, products, rows);
  else if (toK > fromK) {
    layout.call(
      "multiply",
      rows + fromK * 8,
      weights + fromPanel * panel + fromK * PANEL * 8,
      to + fromColumn * 4,
      count,
      toPanel - fromPanel,
      toK - fromK,
      panel,
      lanes * 4,
      add,
    );
  } else if (add === 0) layout.call("fillRows", to + fromColumn * 4, lanes * 4, count, (toColumn - fromColumn) * 4);
  if (whole) return;
  if (add === 0 && fromColumn > 0) layout.call("fillRows", to, lanes * 4, count, fromColumn * 4);
  if (add === 0 && toColumn < lanes)
    layout.call("fillRows", to + toColumn * 4, lanes * 4, count, (lanes - toColumn) * 4);
  layout.call("spreadNonFinite", flags, rows, count, to, lanes * 4, lanes, fromK, toK, fromColumn, toColumn);
}

/** Rows of activations, widened, times weights as they lie. */
function multiplyDirect(layout: BufferLayout, { version, to, count, add }: Products, rows: number): void {
  const { tables } = layout.findings;
  const half = halfLanes(tables.target);
  const { fromK, toK } = extentOf(layout, version);
  const scaled = layout.scratch(half * 8);
  for (const burst of version.loads) {
    const { kernel, planes } = sure(DIRECT_KERNELS.get(modeAt(tables, burst)), "kernel");
    const [entry, ways, executions] = [takes(layout, burst, 0), number(layout, burst, "ways"), tables.count.at(burst)];
    const column = number(layout, burst, "column");
    const { together, calls } = directSteps(layout, burst);
    const streams = Array.from({ length: ways * planes }, (_, stream) => plane(layout, entry + stream, 0, executions));
    for (let call = 0; call < calls; call++) {
      const vectors = Array.from({ length: DIRECT_VECTORS * planes }, (_, index) => {
        const vector = call * DIRECT_VECTORS + Math.floor(index / planes);
        const { address, stride } = at(streams, (vector % ways) * planes + (index % planes), "stream");
        return { src: address + Math.floor(vector / ways) * stride + fromK, stride: stride * together };
      });
      for (let row = 0; row < count; row++) {
        layout.call(
          kernel,
          rows + (row * half + fromK) * 8,
          scaled,
          to + (row * layout.lanes + column + call * 2 * DIRECT_VECTORS) * 4,
          ways * together * 2 * 4,
          toK - fromK,
          executions / together,
          add,
          ...vectors.map(({ src }) => src),
          ...vectors.map(({ stride }) => stride),
        );
      }
    }
  }
}

/**
 * Last step of linking: the kernel calls of each block operation, by unit.
 *
 * One emitter for each instruction that does something, in a total table: executions `first` .. `first + count` of a burst become
 * calls on the places that the layout gives. Operands come as byte planes (from SRAM) or whole elements (from ALUs,
 * accumulators and the SXM), and are brought into the form that the kernel wants; results are left whole.
 */

import {
  ALU_FUNCTIONS,
  ISA,
  type InstructionRow,
  isAluFunction,
  MNEMONICS,
  type Mnemonic,
  STREAM_TYPES,
  type StreamType,
} from "../ir/isa.js";
import { halfLanes } from "../ir/target.js";
import { aluKernelName } from "./kernels-alu.js";
import { floatToInt } from "./lanes.js";
import { PANEL } from "./kernels-matrix.js";
import { TYPE_NUMBERS } from "./kernels-stream.js";
import type { Layout, Place } from "./link-layout.js";
import { columnsOf, type Piece, type Version } from "./link-mxm.js";
import { NODE_KINDS } from "./link-nodes.js";
import { isWhole } from "./link-order.js";
import { SEGMENT, SEGMENT_SIZE } from "./link-streams.js";
import { elementType, ENTRY, ENTRY_SIZE, NO_STREAM, type Tables } from "./link-tables.js";
import { modeWord } from "./state.js";

type Emit = (layout: Layout, burst: number, first: number, count: number) => void;

const nothing: Emit = () => undefined;

const EMITTERS: { readonly [M in Mnemonic]: Emit } = {
  nop: nothing,
  ifetch: nothing,
  sync: nothing,
  notify: nothing,
  config: nothing,
  repeat: nothing,
  countdown: nothing,
  step: nothing,
  iterations: nothing,
  read: (layout, burst, first, count) => {
    if (!layout.isCopied(burst)) return;
    const to = layout.givePlace(burst, first);
    copyPlane(layout, to, layout.rowPlace(burst, first), count);
    mask(layout, burst, to, count);
  },
  write: (layout, burst, first, count) => {
    const to = layout.rowPlace(burst, first);
    copyPlane(layout, to, layout.takePlace(takes(layout, burst, 0), first), count);
    markWritten(layout, burst, to, count);
  },
  gather: (layout, burst, first, count) => {
    const to = layout.givePlace(burst, first);
    const [low, high] = mapPlanes(layout, burst, 0, first, count);
    const { tables } = layout.links;
    layout.call(
      "gatherRows",
      to.address,
      layout.sliceAddress(burst),
      low.address,
      low.stride,
      high.address,
      high.stride,
      count,
      layout.lanes,
      tables.target.superlane,
      layout.rows,
      flagsOf(layout, burst),
      layout.dataStart,
      burst,
      first,
    );
    layout.checkFaults();
    mask(layout, burst, to, count);
  },
  scatter: (layout, burst, first, count) => {
    const source = plane(layout, takes(layout, burst, 0), first, count);
    const [low, high] = mapPlanes(layout, burst, 1, first, count);
    layout.call(
      "scatterRows",
      layout.sliceAddress(burst),
      source.address,
      source.stride,
      low.address,
      low.stride,
      high.address,
      high.stride,
      count,
      layout.lanes,
      layout.links.tables.target.superlane,
      layout.rows,
      layout.dataStart,
      burst,
      first,
    );
    layout.checkFaults();
  },
  unary: (layout, burst, first, count) => compute(layout, burst, first, count, ["type"]),
  binary: (layout, burst, first, count) => compute(layout, burst, first, count, ["typeA", "typeB"]),
  ternary: (layout, burst, first, count) => compute(layout, burst, first, count, ["typeA", "typeB", "typeC"]),
  lw: load,
  iw: nothing,
  iwStream: load,
  abc: nothing,
  acc: nothing,
  shift: (layout, burst, first, count) => {
    const { lanes } = layout;
    const by = number(layout, burst, "lanes");
    moveLanes(layout, burst, first, count, [
      { to: Math.max(by, 0), from: Math.max(-by, 0), length: lanes - Math.abs(by) },
    ]);
  },
  rotate: (layout, burst, first, count) => {
    const { lanes } = layout;
    const by = ((number(layout, burst, "lanes") % lanes) + lanes) % lanes;
    moveLanes(layout, burst, first, count, [
      { to: by, from: 0, length: lanes - by },
      { to: 0, from: lanes - by, length: by },
    ]);
  },
  permute: (layout, burst, first, count) =>
    rearrange(layout, burst, first, count, "permute", (map, lane) => map[lane] ?? -1),
  distribute: (layout, burst, first, count) => {
    const { superlane } = layout.links.tables.target;
    rearrange(layout, burst, first, count, "distribute", (map, lane) => {
      const source = map[lane % superlane] ?? -1;
      return source < 0 ? -1 : lane - (lane % superlane) + source;
    });
  },
  select: (layout, burst, first, count) => {
    const width = widthOf(layout, burst);
    const [a, b] = [
      wholeOperand(layout, burst, 0, width, first, count),
      wholeOperand(layout, burst, 1, width, first, count),
    ];
    const to = layout.givePlace(burst, first);
    layout.call(
      "choose",
      to.address,
      a.address,
      a.stride,
      b.address,
      b.stride,
      count,
      layout.lanes,
      width,
      laneMap(layout, burst, "select", (map, lane) => map[lane] ?? 0),
    );
    mask(layout, burst, to, count);
  },
  transpose: (layout, burst, first, count) => {
    const { superlane } = layout.links.tables.target;
    const bytes = superlane * layout.lanes;
    const source = layout.scratch(count * bytes);
    for (let stream = 0; stream < superlane; stream++) {
      copyPlane(
        layout,
        { address: source + stream * layout.lanes, stride: bytes, laneStride: 1 },
        layout.takePlace(takes(layout, burst, 0) + stream, first),
        count,
      );
    }
    const to = layout.givePlace(burst, first);
    layout.call("transpose", to.address, source, count, layout.lanes, superlane);
    mask(layout, burst, to, count);
  },
  deskew: nothing,
  send: (layout, burst, first, count) => {
    copyPlane(layout, wirePlace(layout, burst, first), layout.takePlace(takes(layout, burst, 0), first), count);
  },
  receive: (layout, burst, first, count) => {
    const to = layout.givePlace(burst, first);
    for (const segment of layout.links.wires.get(burst) ?? []) {
      const from = Math.max(first, segment.first);
      const until = Math.min(first + count, segment.first + segment.count);
      if (from >= until) continue;
      copyPlane(
        layout,
        layout.givePlace(burst, from),
        wirePlace(layout, segment.send, segment.vector + from - segment.first),
        until - from,
      );
    }
    mask(layout, burst, to, count);
  },
};

/** Calls of one item: executions `first` .. `first + count` of a node. */
export function emitItem(layout: Layout, node: number, first: number, count: number): void {
  const { nodes, tables, mxm } = layout.links;
  const kind = nodes.kind.at(node);
  const burst = nodes.burst.at(node);
  const detail = nodes.detail.at(node);
  if (kind === NODE_KINDS.burst) {
    EMITTERS[MNEMONICS[tables.op.at(burst)] ?? "nop"](layout, burst, nodes.first.at(node) + first, count);
  } else if (kind === NODE_KINDS.product) {
    const piece = mxm.pieces[detail];
    if (piece !== undefined) multiply(layout, piece, first, count);
  } else if (kind === NODE_KINDS.prepare) {
    prepare(layout, detail);
  } else {
    const entry = entryOf(layout, burst, detail);
    const to = layout.takePlace(entry, nodes.first.at(node) + first);
    const from = layout.segmentPlace(detail, first);
    if (tables.takes.at(entry * ENTRY_SIZE + ENTRY.stream) === NO_STREAM)
      convertRows(layout, to.address, from, count, isInt(tables, producerOf(layout, detail)), isInt(tables, burst));
    else copyPlane(layout, to, from, count);
  }
}

const fieldsOf = (layout: Layout, burst: number): Readonly<Record<string, unknown>> =>
  layout.links.tables.instructions[burst]?.fields ?? {};
const number = (layout: Layout, burst: number, field: string): number => Number(fieldsOf(layout, burst)[field]);
const widthOf = (layout: Layout, burst: number): number => STREAM_TYPES[typeOf(layout.links.tables, burst, "type")];

function typeOf(tables: Tables, burst: number, field: string): StreamType {
  const instruction = tables.instructions[burst];
  return instruction === undefined ? "u8" : elementType(instruction, field);
}

function wordOf(tables: Tables, burst: number): string {
  const instruction = tables.instructions[burst];
  return instruction === undefined ? "" : modeWord(instruction);
}

/** First TAKE entry of an operand slot; -1 if the operand takes nothing. */
function takes(layout: Layout, burst: number, slot: number): number {
  const { takes, takeFirst } = layout.links.tables;
  for (let entry = takeFirst.at(burst); entry < takeFirst.at(burst + 1); entry++) {
    if (takes.at(entry * ENTRY_SIZE + ENTRY.slot) === slot) return entry;
  }
  return -1;
}

/** TAKE entry that a segment belongs to. */
function entryOf(layout: Layout, burst: number, segment: number): number {
  const { tables, matches } = layout.links;
  let entry = tables.takeFirst.at(burst);
  while (
    segment < (matches.first[entry] as number) ||
    segment >= (matches.first[entry] as number) + (matches.count[entry] as number)
  )
    entry++;
  return entry;
}

function producerOf(layout: Layout, segment: number): number {
  const { tables, matches } = layout.links;
  return tables.gives.at(matches.segments.at(segment * SEGMENT_SIZE + SEGMENT.give) * ENTRY_SIZE);
}

function copyPlane(layout: Layout, to: Place, from: Place, count: number): void {
  if (from.laneStride === 1)
    layout.call("copyRows", to.address, to.stride, from.address, from.stride, count, layout.lanes);
  else
    layout.call("extractPlane", to.address, to.stride, from.address, from.stride, from.laneStride, count, layout.lanes);
}

/** One stream of an operand with lanes side by side. */
function plane(layout: Layout, entry: number, first: number, count: number): Place {
  const place = layout.takePlace(entry, first);
  if (place.laneStride === 1) return place;
  const own: Place = { address: layout.scratch(count * layout.lanes), stride: layout.lanes, laneStride: 1 };
  copyPlane(layout, own, place, count);
  return own;
}

function mapPlanes(layout: Layout, burst: number, slot: number, first: number, count: number): readonly [Place, Place] {
  const entry = takes(layout, burst, slot);
  return [plane(layout, entry, first, count), plane(layout, entry + 1, first, count)];
}

/** Lanes at and beyond the vector length of the queue are given as zero. */
function mask(layout: Layout, burst: number, to: Place, count: number): void {
  const length = layout.links.tables.length.at(burst);
  const rest = layout.lanes - length;
  if (rest <= 0) return;
  if (to.laneStride === 0)
    layout.call("fillRows", to.address + length, layout.lanes, (count * to.stride) / layout.lanes, rest);
  else layout.call("fillRows", to.address + length * to.laneStride, to.stride, count, rest * to.laneStride);
}

/** Flags of the rows of a slice with a Gather. */
function flagsOf(layout: Layout, burst: number): number {
  const slice = layout.sliceNumber(burst);
  return layout.fixed(
    `flags ${slice}`,
    () => layout.links.initial.slice(slice * layout.rows, (slice + 1) * layout.rows),
    true,
  );
}

function markWritten(layout: Layout, burst: number, to: Place, count: number): void {
  if (!layout.links.memory.tracked.has(layout.sliceNumber(burst))) return;
  const row = (to.address - layout.sliceAddress(burst)) / layout.lanes;
  layout.call("markRows", flagsOf(layout, burst) + row, to.stride / layout.lanes, count);
}

/** What a Send burst has sent, kept for the Receive. */
function wirePlace(layout: Layout, send: number, index: number): Place {
  const stride = layout.lanes;
  const address = layout.fixed(`wire ${send}`, () => new Uint8Array(layout.links.tables.count.at(send) * stride));
  return { address: address + index * stride, stride, laneStride: 1 };
}

/** An operand as whole elements of `width` bytes with lanes side by side. */
function wholeOperand(layout: Layout, burst: number, slot: number, width: number, first: number, count: number): Place {
  const entry = takes(layout, burst, slot);
  const streams = Array.from({ length: width }, (_, byte) => layout.takePlace(entry + byte, first));
  const [low] = streams;
  if (low !== undefined && areElements(streams, width)) return low;
  const planes = streams.map((place, byte) =>
    place.laneStride === 1 ? place : plane(layout, entry + byte, first, count),
  );
  const own: Place = {
    address: layout.scratch(count * layout.lanes * width),
    stride: layout.lanes * width,
    laneStride: width,
  };
  const arguments_ = planes.flatMap(({ address, stride }) => [address, stride]);
  layout.call(width === 2 ? "joinPairs" : "loadWordPlanes", own.address, ...arguments_, count, layout.lanes);
  return own;
}

function areElements(streams: readonly Place[], width: number): boolean {
  const [low] = streams;
  return (
    low !== undefined &&
    streams.every(
      ({ address, stride, laneStride }, byte) =>
        laneStride === width && address === low.address + byte && stride === low.stride,
    )
  );
}

function isInt(tables: Tables, burst: number): boolean {
  const name = String(tables.instructions[burst]?.fields["function"]);
  return isAluFunction(name) && ALU_FUNCTIONS[name].int;
}

/** Rows of 32-bit numbers of one kind as rows of the other, one after another at `to`. */
function convertRows(layout: Layout, to: number, from: Place, count: number, fromInt: boolean, toInt: boolean): void {
  if (fromInt === toInt)
    layout.call("copyRows", to, layout.lanes * 4, from.address, from.stride, count, layout.lanes * 4);
  else layout.call(toInt ? "floatToInt" : "intToFloat", to, from.address, from.stride, count, layout.lanes);
}

const rowBytes = (layout: Layout): number => layout.lanes * 4;

/** An ALU operand as rows of fp32 or int32. */
function aluOperand(
  layout: Layout,
  burst: number,
  slot: number,
  field: string,
  typeField: string,
  int: boolean,
  first: number,
  count: number,
): Place {
  const { tables } = layout.links;
  const value = fieldsOf(layout, burst)[field];
  if (typeof value === "object" && value !== null && "constant" in value)
    return constantRow(layout, Number(value.constant), int);
  const entry = takes(layout, burst, slot);
  if (tables.takes.at(entry * ENTRY_SIZE + ENTRY.stream) === NO_STREAM) {
    const place = layout.takePlace(entry, first);
    const { matches } = layout.links;
    // Operands put together from several bursts were converted on the way.
    const producerInt = isWhole(tables, matches, entry)
      ? isInt(tables, producerOf(layout, matches.first[entry] as number))
      : int;
    return producerInt === int ? place : converted(layout, place, count, producerInt, int);
  }
  const type = typeOf(tables, burst, typeField);
  const width = STREAM_TYPES[type];
  const typeIsInt = type !== "f16" && type !== "f32";
  const streams = Array.from({ length: width }, (_, byte) => layout.takePlace(entry + byte, first));
  const [low] = streams;
  let words: Place;
  if (low !== undefined && width === 4 && areElements(streams, 4)) words = low;
  else {
    words = { address: layout.scratch(count * rowBytes(layout)), stride: rowBytes(layout), laneStride: 4 };
    if (low !== undefined && type === "f16" && areElements(streams, 2))
      layout.call("loadHalf", words.address, low.address, low.stride, count, layout.lanes);
    else {
      const planes = Array.from({ length: width }, (_, byte) => plane(layout, entry + byte, first, count));
      const places = planes.flatMap(({ address, stride }) => [address, stride]);
      if (type === "f16") layout.call("loadHalfPlanes", words.address, ...places, count, layout.lanes);
      else if (width === 4) layout.call("loadWordPlanes", words.address, ...places, count, layout.lanes);
      else {
        while (places.length < 8) places.push(0);
        layout.call("loadAny", words.address, TYPE_NUMBERS[type], count, layout.lanes, 1, ...places);
      }
    }
  }
  return typeIsInt === int ? words : converted(layout, words, count, typeIsInt, int);
}

function converted(layout: Layout, from: Place, count: number, fromInt: boolean, toInt: boolean): Place {
  const address = layout.scratch(count * rowBytes(layout));
  convertRows(layout, address, from, count, fromInt, toInt);
  return { address, stride: rowBytes(layout), laneStride: 4 };
}

function constantRow(layout: Layout, value: number, int: boolean): Place {
  const words = int ? Int32Array.of(floatToInt(value)) : new Int32Array(Float32Array.of(value).buffer);
  const [bits = 0] = words;
  return {
    address: layout.fixedWords(`constant ${bits}`, () => new Int32Array(layout.lanes).fill(bits)),
    stride: 0,
    laneStride: 4,
  };
}

function compute(layout: Layout, burst: number, first: number, count: number, types: readonly string[]): void {
  const { tables } = layout.links;
  const name = String(fieldsOf(layout, burst)["function"]);
  if (!isAluFunction(name)) return;
  const { int } = ALU_FUNCTIONS[name];
  const operands = types.map((type, slot) =>
    aluOperand(layout, burst, slot, "abc"[slot] ?? "a", type, int, first, count),
  );
  const result = layout.rawPlace(burst, first);
  layout.call(
    aluKernelName(name),
    result.address,
    ...operands.flatMap(({ address, stride }) => [address, stride]),
    count,
    layout.lanes,
  );
  if (!layout.givesStreams(burst)) return;
  const to = layout.givePlace(burst, first);
  store(layout, to.address, result.address, typeOf(tables, burst, "as"), int, count);
  mask(layout, burst, to, count);
}

/** Results as elements of a stream type. */
function store(layout: Layout, to: number, from: number, type: StreamType, int: boolean, count: number): void {
  const lanes = count * layout.lanes;
  const float = type === "f16" || type === "f32";
  if (int && float) {
    const numbers = type === "f32" ? to : layout.scratch(lanes * 4);
    layout.call("intToFloat", numbers, from, rowBytes(layout), count, layout.lanes);
    if (type === "f16") layout.call("storeHalf", to, numbers, lanes);
  } else if (float) layout.call(type === "f16" ? "storeHalf" : "storeFloat", to, from, lanes);
  else layout.call("storeAny", to, from, lanes, TYPE_NUMBERS[type], int ? 1 : 0);
}

/** SXM: runs of lanes move together; lanes to which none moves become zero. */
function moveLanes(
  layout: Layout,
  burst: number,
  first: number,
  count: number,
  runs: readonly { readonly to: number; readonly from: number; readonly length: number }[],
): void {
  const width = widthOf(layout, burst);
  const source = wholeOperand(layout, burst, 0, width, first, count);
  const place = layout.givePlace(burst, first);
  const moved = runs.reduce((sum, { length }) => sum + Math.max(length, 0), 0);
  if (moved < layout.lanes) layout.call("fillRows", place.address, place.stride, count, place.stride);
  for (const { to, from, length } of runs) {
    if (length > 0)
      layout.call(
        "copyRows",
        place.address + to * width,
        place.stride,
        source.address + from * width,
        source.stride,
        count,
        length * width,
      );
  }
  mask(layout, burst, place, count);
}

function laneMap(layout: Layout, burst: number, op: string, lane: (map: Int16Array, lane: number) => number): number {
  const { tables } = layout.links;
  const chip = tables.chip.at(burst);
  const index = number(layout, burst, "map");
  return layout.fixedWords(`map ${chip} ${op} ${index}`, () => {
    const map = tables.program.chips[chip]?.maps[index] ?? new Int16Array(0);
    return Int32Array.from({ length: layout.lanes }, (_, at) => lane(map, at));
  });
}

function rearrange(
  layout: Layout,
  burst: number,
  first: number,
  count: number,
  op: string,
  lane: (map: Int16Array, lane: number) => number,
): void {
  const width = widthOf(layout, burst);
  const source = wholeOperand(layout, burst, 0, width, first, count);
  const to = layout.givePlace(burst, first);
  layout.call(
    "rearrange",
    to.address,
    source.address,
    source.stride,
    count,
    layout.lanes,
    width,
    laneMap(layout, burst, op, lane),
  );
  mask(layout, burst, to, count);
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

function extentOf(layout: Layout, version: Version): Extent {
  const known = extents.get(version);
  if (known !== undefined) return known;
  const { tables } = layout.links;
  const half = halfLanes(tables.target);
  const loaded = new Uint8Array(layout.lanes);
  let [fromK, toK, low, high] = version.base >= 0 ? [0, half, 0, layout.lanes] : [half, 0, layout.lanes, 0];
  for (const burst of version.loads) {
    const { first, lanes } = windowOf(layout, burst, half);
    const column = number(layout, burst, "column");
    const columns = tables.count.at(burst) * columnsOf(tables, burst);
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
function windowOf(layout: Layout, burst: number, depth: number): { readonly first: number; readonly lanes: number } {
  const first = Math.min(number(layout, burst, "first"), depth);
  return { first, lanes: Math.max(Math.min(number(layout, burst, "lanes"), depth - first), 0) };
}

const panelBytes = (layout: Layout): number => halfLanes(layout.links.tables.target) * PANEL * 8;

function versionAddress(layout: Layout, index: number): number {
  const version = layout.links.mxm.versions[index];
  const { lanes } = layout;
  return layout.versionAddress(
    index,
    version?.kind === "i8" ? lanes * lanes * 2 : (lanes / PANEL) * panelBytes(layout),
  );
}

/** Zeroes what loads will not fill; copies the array that this one started from. */
function prepare(layout: Layout, index: number): void {
  const version = layout.links.mxm.versions[index];
  if (version === undefined) return;
  const address = versionAddress(layout, index);
  const { lanes } = layout;
  if (version.kind === "i8") {
    if (version.base < 0) layout.call("fillRows", address, 0, 1, lanes * lanes * 2);
    else layout.call("copyRows", address, 0, versionAddress(layout, version.base), 0, 1, lanes * lanes * 2);
    return;
  }
  const { complete, fromPanel, toPanel } = extentOf(layout, version);
  if (complete) return;
  const panel = panelBytes(layout);
  layout.call("fillRows", address + fromPanel * panel, 0, 1, (toPanel - fromPanel) * panel);
  const base = layout.links.mxm.versions[version.base];
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

function load(layout: Layout, burst: number, first: number, count: number): void {
  const { tables, mxm } = layout.links;
  const index = mxm.versionOf.get(burst) ?? -1;
  const version = mxm.versions[index];
  if (version === undefined) return;
  const ways = number(layout, burst, "ways");
  const entry = takes(layout, burst, 0);
  const column = number(layout, burst, "column") + first * columnsOf(tables, burst);
  if (version.kind === "i8") {
    const { lanes } = layout;
    const window = windowOf(layout, burst, lanes);
    for (let way = 0; way < ways; way++) {
      const { address, stride } = plane(layout, entry + way, first, count);
      layout.call(
        "loadBytes",
        versionAddress(layout, index),
        column + way,
        ways,
        count,
        address,
        stride,
        window.first,
        window.lanes,
        lanes,
      );
    }
    return;
  }
  const half = halfLanes(tables.target);
  const mode = wordOf(tables, burst);
  const offsets = mode === "packed" ? [0, half] : [mode === "high" ? half : 0];
  const columns: Column[] = [];
  for (let way = 0; way < ways; way++) {
    const low = plane(layout, entry + 2 * way, first, count);
    const high = plane(layout, entry + 2 * way + 1, first, count);
    for (const offset of offsets) columns.push({ low, high, offset });
  }
  const address = versionAddress(layout, index);
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

function loadPanels(
  layout: Layout,
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
function multiply(layout: Layout, piece: Piece, first: number, count: number): void {
  const { tables, mxm } = layout.links;
  const version = mxm.versions[piece.version];
  if (version === undefined) return;
  const { target } = tables;
  const { lanes } = layout;
  const { acc, abc } = piece;
  const chip = tables.chip.at(acc);
  const plane0 = Math.floor((tables.queue.at(acc) - 2 * target.slices - target.alus) / 3);
  const hemisphere = Math.floor(plane0 / target.planes);
  const sums = layout.fixed(
    `accumulators ${chip} ${hemisphere}`,
    () => new Uint8Array(target.planes * target.accumulatorRows * lanes * 4),
  );
  const index = piece.first + first;
  const ownRow = number(layout, acc, "row") + index;
  const row = version.kind === "i8" ? (plane0 % target.planes) * target.accumulatorRows + ownRow : ownRow;
  const to = sums + row * lanes * 4;
  const add = wordOf(tables, acc) === "add" ? 1 : 0;
  const from = piece.abcFirst + first * piece.abcStep;
  const vectors = (count - 1) * piece.abcStep + 1;
  const entry = takes(layout, abc, 0);
  const weights = versionAddress(layout, piece.version);
  const low = plane(layout, entry, from, vectors);
  if (version.kind === "i8") {
    layout.call(
      "multiplyBytes",
      low.address,
      low.stride * piece.abcStep,
      weights,
      to,
      count,
      lanes,
      lanes,
      lanes * 4,
      add,
    );
  } else {
    const high = plane(layout, entry + 1, from, vectors);
    multiplyHalves(
      layout,
      version,
      { ...low, stride: low.stride * piece.abcStep },
      { ...high, stride: high.stride * piece.abcStep },
      wordOf(tables, abc),
      weights,
      to,
      count,
      add,
    );
  }
  if (!layout.givesStreams(acc)) return;
  const given = layout.givePlace(acc, index);
  if (version.kind === "i8") layout.call("copyRows", given.address, given.stride, to, lanes * 4, count, lanes * 4);
  else layout.call("storeFloat", given.address, to, count * lanes);
  mask(layout, acc, given, count);
}

function multiplyHalves(
  layout: Layout,
  version: Version,
  low: Place,
  high: Place,
  mode: string,
  weights: number,
  to: number,
  count: number,
  add: number,
): void {
  const { lanes } = layout;
  const half = halfLanes(layout.links.tables.target);
  const { fromK, toK, fromPanel, toPanel } = extentOf(layout, version);
  const rows = layout.scratch(count * half * 8);
  const flags = layout.scratch(count + 8) + 8;
  const offset = mode === "high" ? half : 0;
  layout.call("widenRows", rows, low.address + offset, low.stride, high.address + offset, high.stride, count, flags);
  const panel = panelBytes(layout);
  const [fromColumn, toColumn] = [fromPanel * PANEL, toPanel * PANEL];
  const whole = fromK === 0 && toK === half && fromColumn === 0 && toColumn === lanes;
  if (toK > fromK) {
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

/** Lane maps must have a source for every lane; what the literal machine finds at dispatch. */
export function checkMaps(tables: Tables): void {
  const { target, program } = tables;
  for (let burst = 0; burst < tables.instructions.length; burst++) {
    const instruction = tables.instructions[burst];
    const op = MNEMONICS[tables.op.at(burst)];
    if (instruction === undefined || (op !== "permute" && op !== "distribute" && op !== "select")) continue;
    const row: InstructionRow = ISA[op];
    const lanes = op === "distribute" ? target.superlane : target.lanes;
    const index = Number(instruction.fields[row.fields["map"] === undefined ? "" : "map"]);
    const map = program.chips[tables.chip.at(burst)]?.maps[index];
    const cycle = tables.cycle.at(burst);
    if (map === undefined || map.length < lanes)
      tables.faults.report("LPU4008", burst, cycle, `lane map ${index} does not have ${lanes} lanes`);
    else if (op !== "select" && map.subarray(0, lanes).some((source) => source < -1 || source >= lanes)) {
      tables.faults.report(
        "LPU4008",
        burst,
        cycle,
        `lane map ${index} has a source lane outside of -1 to ${lanes - 1}`,
      );
    }
  }
}

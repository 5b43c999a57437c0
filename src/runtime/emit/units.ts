/**
 * Last step of linking: the kernel calls of each block operation, by unit.
 *
 * One emitter for each instruction that does something, in a total table: executions `first` .. `first + count` of a burst become
 * calls on the places that the layout gives. Operands come as byte planes (from SRAM) or whole elements (from ALUs,
 * accumulators and the SXM), and are brought into the form that the kernel wants; results are left whole.
 */

import { at } from "../../diagnostics.js";
import { ISA, type InstructionRow, MNEMONICS, type Mnemonic } from "../../ir/isa.js";
import type { BufferLayout, Place } from "./layout.js";
import { NODE_KINDS } from "../link/nodes.js";
import {
  copyPlane,
  mapPlanes,
  mask,
  number,
  plane,
  producerOf,
  takes,
  wholeOperand,
  elementBytes,
} from "./operands.js";
import { load, multiply, prepare } from "./products.js";
import { ENTRY, ENTRY_SIZE, NO_STREAM, type Tables } from "../link/tables.js";
import { compute, convertRows, isInt } from "./vxm.js";

type Emit = (layout: BufferLayout, burst: number, first: number, count: number) => void;

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
    const { tables } = layout.findings;
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
      layout.faultAddress(),
      burst,
      first,
    );
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
      layout.findings.tables.target.superlane,
      layout.rows,
      layout.faultAddress(),
      burst,
      first,
    );
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
    rearrange(layout, burst, first, count, "permute", (map, lane) => at(map, lane, "lane")),
  distribute: (layout, burst, first, count) => {
    const { superlane } = layout.findings.tables.target;
    rearrange(layout, burst, first, count, "distribute", (map, lane) => {
      const source = at(map, lane % superlane, "lane");
      return source < 0 ? -1 : lane - (lane % superlane) + source;
    });
  },
  select: (layout, burst, first, count) => {
    const width = elementBytes(layout, burst);
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
      laneMap(layout, burst, "select", (map, lane) => at(map, lane, "lane")),
    );
    mask(layout, burst, to, count);
  },
  transpose: (layout, burst, first, count) => {
    const { superlane } = layout.findings.tables.target;
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
    const wire = wirePlace(layout, burst, first);
    copyPlane(layout, wire, layout.takePlace(takes(layout, burst, 0), first), count);
    disturb(layout, burst, first, count, wire);
    layout.noteSent(burst, first + count);
  },
  receive: (layout, burst, first, count) => {
    const to = layout.givePlace(burst, first);
    for (const segment of layout.findings.wires.get(burst) ?? []) {
      const from = Math.max(first, segment.first);
      const until = Math.min(first + count, segment.first + segment.count);
      if (from >= until) continue;
      const vector = segment.vector + from - segment.first;
      if (segment.send >= 0) layout.noteCrossing(segment.send, vector + until - from);
      const wire = wirePlace(layout, segment.send, vector);
      copyPlane(layout, layout.givePlace(burst, from), wire, until - from);
      if (segment.send < 0 || layout.findings.tables.program.disturbed?.flip === undefined) continue;
      const checks = checksAddress(layout, segment.send) + vector * 4;
      layout.call("checkRows", wire.address, until - from, layout.lanes, checks, layout.faultAddress(), burst, from);
    }
    mask(layout, burst, to, count);
  },
};

/** Calls of one item: executions `first` .. `first + count` of a node. */
export function emitItem(layout: BufferLayout, node: number, first: number, count: number): void {
  const { nodes, tables, mxm } = layout.findings;
  const kind = nodes.kind.at(node);
  const burst = nodes.burst.at(node);
  const detail = nodes.detail.at(node);
  if (kind === NODE_KINDS.burst) {
    EMITTERS[at(MNEMONICS, tables.op.at(burst), "mnemonic")](layout, burst, nodes.first.at(node) + first, count);
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

/** TAKE entry that a segment belongs to. */
function entryOf(layout: BufferLayout, burst: number, segment: number): number {
  const { tables, matches } = layout.findings;
  let entry = tables.takeFirst.at(burst);
  while (
    segment < (matches.first[entry] as number) ||
    segment >= (matches.first[entry] as number) + (matches.count[entry] as number)
  )
    entry++;
  return entry;
}

/** Flags of the rows of a slice with a Gather. */
function flagsOf(layout: BufferLayout, burst: number): number {
  const slice = layout.sliceNumber(burst);
  return layout.fixed(
    `flags ${slice}`,
    () => layout.findings.initial.slice(slice * layout.rows, (slice + 1) * layout.rows),
    true,
  );
}

function markWritten(layout: BufferLayout, burst: number, to: Place, count: number): void {
  if (!layout.findings.memory.tracked.has(layout.sliceNumber(burst))) return;
  const row = (to.address - layout.sliceAddress(burst)) / layout.lanes;
  layout.call("markRows", flagsOf(layout, burst) + row, to.stride / layout.lanes, count);
}

/** What a Send burst has sent, kept for the Receive, or for the host, which gives what has come in on an outer wire. */
export function wirePlace(layout: BufferLayout, send: number, index: number): Place {
  const stride = layout.lanes;
  const { tables } = layout.findings;
  const vectors = (): number =>
    send < 0 ? at(tables.program.outer ?? [], -1 - send, "wire").vectors.length : tables.count.at(send);
  const address = layout.fixed(`wire ${send}`, () => new Uint8Array(vectors() * stride));
  return { address: address + index * stride, stride, laneStride: 1 };
}

/** Checks of what a Send burst has sent, a word each. */
const checksAddress = (layout: BufferLayout, send: number): number =>
  layout.fixed(`checks ${send}`, () => new Uint8Array(layout.findings.tables.count.at(send) * 4));

/** Where a bit is to flip on some wire: checks of what is sent, and the flip if it is here. */
function disturb(layout: BufferLayout, send: number, first: number, count: number, wire: Place): void {
  const { tables, flipped } = layout.findings;
  const { flip } = tables.program.disturbed ?? {};
  if (flip === undefined) return;
  layout.call("sealRows", wire.address, count, layout.lanes, checksAddress(layout, send) + first * 4);
  if (flipped?.chip !== tables.chip.at(send) || flipped.queue !== tables.queue.at(send)) return;
  const index = (flipped.cycle - tables.cycle.at(send)) / tables.interval.at(send) - first;
  if (!Number.isInteger(index) || index < 0 || index >= count) return;
  const armed = layout.fixedWords("flip", () => Int32Array.of(1));
  layout.call("flipBit", wire.address + index * wire.stride, layout.lanes, flip.bit, armed);
}

interface LaneRun {
  readonly to: number;
  readonly from: number;
  readonly length: number;
}

/** SXM: runs of lanes move together; lanes to which none moves become zero. */
function moveLanes(layout: BufferLayout, burst: number, first: number, count: number, runs: readonly LaneRun[]): void {
  const width = elementBytes(layout, burst);
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

type LaneRule = (map: Int16Array, lane: number) => number;

/** What `lane` makes of the instruction's lane map, for every lane. */
function laneSources(layout: BufferLayout, burst: number, lane: LaneRule): Int32Array {
  const { tables } = layout.findings;
  const map = tables.program.chips[tables.chip.at(burst)]?.maps[number(layout, burst, "map")] ?? new Int16Array(0);
  return Int32Array.from({ length: layout.lanes }, (_, at) => lane(map, at));
}

function laneMap(layout: BufferLayout, burst: number, op: string, lane: LaneRule): number {
  const name = `map ${layout.findings.tables.chip.at(burst)} ${op} ${number(layout, burst, "map")}`;
  return layout.fixedWords(name, () => laneSources(layout, burst, lane));
}

/** Above this many runs of neighbouring lanes a map is followed lane by lane. */
const MOST_RUNS = 12;

function rearrange(
  layout: BufferLayout,
  burst: number,
  first: number,
  count: number,
  op: string,
  lane: LaneRule,
): void {
  const runs = laneRuns(laneSources(layout, burst, lane));
  if (runs.length <= MOST_RUNS) {
    moveLanes(layout, burst, first, count, runs);
    return;
  }
  const width = elementBytes(layout, burst);
  const source = wholeOperand(layout, burst, 0, width, first, count);
  const to = layout.givePlace(burst, first);
  const map = laneMap(layout, burst, op, lane);
  layout.call("rearrange", to.address, source.address, source.stride, count, layout.lanes, width, map);
  mask(layout, burst, to, count);
}

/** Lanes that move together, without those that become zero. */
function laneRuns(sources: Int32Array): LaneRun[] {
  const runs: { to: number; from: number; length: number }[] = [];
  sources.forEach((from, to) => {
    const last = runs.at(-1);
    if (from < 0) return;
    if (last !== undefined && last.to + last.length === to && last.from + last.length === from) last.length++;
    else runs.push({ to, from, length: 1 });
  });
  return runs;
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

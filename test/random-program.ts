/**
 * Random machine programs, seeded: legal ones, and small changes that usually break them.
 *
 * A program is made of figures (reads into a unit, the unit's work, writes of the result) that are tried at random times. An
 * occupancy model of its own decides: every stream register that a value passes is a cell, and so are queue cycles, ports
 * and banks; a figure is kept if all its cells are free. It shares no code with the machines but the tables, so a program
 * that it calls legal and a machine refuses is a finding. Constants fill rows 0..31 of both banks of every slice.
 */

import { DTYPES } from "../src/ir/dtype.js";
import {
  ALU_FUNCTIONS,
  type AluFunction,
  ARRAYS,
  ISA,
  type InstructionRow,
  isAluFunction,
  isMxmMode,
  type Mnemonic,
  MXM_MODES,
  STREAM_TYPES,
  type StreamType,
} from "../src/ir/isa.js";
import {
  chipCycles,
  mxmQueue,
  type Program,
  queueCount,
  queuePlace,
  sxmQueue,
  type TimedInstruction,
  vxmQueue,
} from "../src/ir/program.js";
import {
  halfLanes,
  type Hemisphere,
  linkDelay,
  mxmPosition,
  slicePosition,
  sxmPosition,
  TARGETS,
  type Target,
} from "../src/ir/target.js";
import { wholeProgram } from "./machine-text.js";
import { streamGroup } from "../src/runtime/program.js";

export interface RandomOptions {
  readonly target?: Target;
  /** Figures to try to place. */
  readonly figures?: number;
  /** Figures start within so many cycles. */
  readonly horizon?: number;
}

export type Random = (below: number) => number;

/** mulberry32: whole numbers from 0 up to `below`. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

export interface Draft {
  readonly queue: number;
  readonly instruction: TimedInstruction;
}

/** Rows that a figure has written: readable from a cycle on. */
interface Written {
  readonly queue: number;
  readonly row: number;
  readonly count: number;
  readonly from: number;
}

/** What must be kept in order in one hemisphere's MXM. */
interface MxmState {
  lastInstall: number;
  lastAbc: number;
}

interface Builder {
  readonly target: Target;
  readonly random: Random;
  readonly taken: Set<string>;
  readonly drafts: Draft[];
  readonly written: Written[];
  readonly freshRows: Map<number, number>;
  readonly mxm: Readonly<Record<Hemisphere, MxmState>>;
  readonly link: { sent: number; received: number };
  readonly maps: readonly Int16Array[];
}

interface Burst {
  readonly count: number;
  readonly interval: number;
}

const CONSTANT_ROWS = 32;
/** Of the constant rows of every slice: data, then low bytes of row addresses, then high bytes that mean bank 0 and bank 1. */
const DATA_ROWS = 16;
const LOW_ROW = 20;
const HIGH_ROW = 24;

export function randomProgram(
  seed: number,
  { target = TARGETS.tiny, figures = 24, horizon = 240 }: RandomOptions = {},
): Program {
  const builder = createBuilder(seed, target);
  const { random } = builder;
  const start = target.timing.barrier + 60;
  for (let n = 0; n < figures; n++) {
    const make = pick(random, FIGURES);
    make(builder, start + random(horizon));
  }
  return assembled(seed, target, builder.drafts);
}

/** The instructions of one figure by itself, from about a cycle on. */
export function randomFigure(seed: number, target: Target, time: number): readonly Draft[] {
  const builder = createBuilder(seed, target);
  const make = pick(builder.random, FIGURES);
  while (builder.drafts.length === 0) make(builder, time);
  return builder.drafts;
}

function createBuilder(seed: number, target: Target): Builder {
  const random = seeded(seed);
  const never = (): MxmState => ({ lastInstall: -1000, lastAbc: -1000 });
  return {
    target,
    random,
    taken: new Set(),
    drafts: [],
    written: [],
    freshRows: new Map(),
    mxm: { W: never(), E: never() },
    link: { sent: -1000, received: -1000 },
    maps: laneMaps(target, seeded(seed)),
  };
}

/** A program of instructions, with the constants and lane maps of a seed. */
export function assembled(seed: number, target: Target, drafts: readonly Draft[]): Program {
  const queues = Array.from({ length: queueCount(target) }, (_, queue) =>
    drafts
      .filter((draft) => draft.queue === queue)
      .map(({ instruction }) => instruction)
      .sort((a, b) => a.cycle - b.cycle),
  );
  return wholeProgram(
    {
      target,
      chips: [{ queues, constants: constants(target, seed), maps: laneMaps(target, seeded(seed)) }],
      links: [{ fromChip: 0, fromLink: 0, toChip: 0, toLink: 1 }],
      origins: ["random"],
    },
    `random-${seed}`,
  );
}

/** One small change somewhere; most changes break a rule, some only change results. */
export function mutate(program: Program, seed: number): Program {
  const random = seeded(seed);
  const [entry] = program.entries;
  const all = entry?.queues[0];
  if (entry === undefined || all === undefined) return program;
  const used = all.map((queue, index) => ({ queue, index })).filter(({ queue }) => queue.length > 0);
  const { queue, index } = pick(random, used);
  const victim = random(queue.length);
  const changed = queue.flatMap((instruction, at) =>
    at === victim ? changes(program.target, instruction, random) : [instruction],
  );
  const queues = all.map((other, at) => (at === index ? changed : other));
  return { ...program, entries: [{ ...entry, queues: [queues], cycles: [chipCycles(program.target, queues)] }] };
}

function changes(target: Target, instruction: TimedInstruction, random: Random): TimedInstruction[] {
  const { cycle, count, fields } = instruction;
  switch (random(6)) {
    case 0:
      return [{ ...instruction, cycle: cycle + 1 }];
    case 1:
      return [{ ...instruction, cycle: cycle - 1 }];
    case 2:
      return [];
    case 3:
      return [{ ...instruction, count: count + 1 }];
    case 4:
      return "address" in fields
        ? [{ ...instruction, fields: { ...fields, address: random(2 * target.rowsPerBank) } }]
        : [{ ...instruction, tap: instruction.tap ^ 1 }];
    default:
      return "stream" in fields
        ? [{ ...instruction, fields: { ...fields, stream: random(2 * target.streams) } }]
        : [{ ...instruction, cycle: cycle + 2 }];
  }
}

const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)] as T;

type Figure = (builder: Builder, time: number) => void;
const FIGURES: readonly Figure[] = [
  copyRows,
  gatherRows,
  scatterRows,
  vectorChain,
  vectorChain,
  vectorChain,
  switchOnce,
  switchOnce,
  matrixPass,
  matrixPass,
  matrixPass,
  sendReceive,
  configure,
  waitForEpoch,
];

function constants(target: Target, seed: number): Program["chips"][number]["constants"] {
  const random = seeded(seed ^ 0x5bd1e995);
  const hemispheres: readonly Hemisphere[] = ["W", "E"];
  return hemispheres.flatMap((hemisphere) =>
    Array.from({ length: target.slices }, (_, slice) => slice).flatMap((slice) =>
      [0, target.rowsPerBank].map((row) => {
        const bytes = Uint8Array.from({ length: CONSTANT_ROWS * target.lanes }, (_, at) => {
          const line = Math.floor(at / target.lanes);
          if (line >= HIGH_ROW) return line % 2 === 0 ? 0 : target.rowsPerBank >> 8;
          return line >= LOW_ROW ? random(DATA_ROWS) : random(256);
        });
        return { hemisphere, slice, row, rows: CONSTANT_ROWS, bytes: () => bytes };
      }),
    ),
  );
}

/** Map 0 and 1 rearrange all lanes, 2 and 3 the lanes of a superlane, 4 chooses. */
function laneMaps(target: Target, random: Random): Int16Array[] {
  const map = (length: number, least: number, below: number): Int16Array =>
    Int16Array.from({ length }, () => least + random(below - least));
  const { lanes, superlane } = target;
  return [
    map(lanes, -1, lanes),
    map(lanes, -1, lanes),
    map(superlane, -1, superlane),
    map(superlane, -1, superlane),
    map(lanes, 0, 3),
  ];
}

function draft(
  queue: number,
  cycle: number,
  op: Mnemonic,
  fields: TimedInstruction["fields"],
  burst: Burst = ONCE,
  more: { readonly step?: number; readonly tap?: number } = {},
): Draft {
  const { count } = burst;
  const interval = count === 1 ? 1 : burst.interval;
  return {
    queue,
    instruction: {
      cycle,
      op,
      fields,
      count,
      interval,
      step: count === 1 ? 0 : (more.step ?? 0),
      tap: more.tap ?? 0,
      origin: 0,
    },
  };
}

const ONCE: Burst = { count: 1, interval: 1 };
const side = (hemisphere: Hemisphere): number => (hemisphere === "W" ? -1 : 1);
const direction = ({ streams }: Target, stream: number): number => (stream < streams ? 1 : -1);

function positionOf(target: Target, queue: number): number {
  const { unit, hemisphere = "W", index } = queuePlace(target, queue);
  if (unit === "vxm") return 0;
  if (unit === "mem") return slicePosition(target, hemisphere, index);
  return unit === "sxm" ? sxmPosition(target, hemisphere) : mxmPosition(target, hemisphere);
}

/** A random group of streams of one direction (1 east, -1 west). */
function streams(builder: Builder, width: number, towards: number): number {
  const { target, random } = builder;
  return (towards > 0 ? 0 : target.streams) + width * random(Math.floor(target.streams / width));
}

/** MEM queues whose values on this stream pass (or, with `sign` -1, see values from) a position. */
function slicesTowards(builder: Builder, stream: number, position: number, sign: 1 | -1): number[] {
  const { target } = builder;
  const all = Array.from({ length: 2 * target.slices }, (_, queue) => queue);
  return all.filter((queue) => sign * direction(target, stream) * (position - positionOf(target, queue)) >= 0);
}

interface RowChoice {
  readonly queue: number;
  readonly row: number;
  readonly step: number;
}

function readableRows({ target, random, written }: Builder, queue: number, cycle: number, { count }: Burst): RowChoice {
  const own = written.filter((rows) => rows.queue === queue && rows.from <= cycle && rows.count >= count);
  if (own.length > 0 && random(2) === 0) return { queue, row: pick(random, own).row, step: 1 };
  const step = count <= DATA_ROWS ? random(2) : 0;
  return { queue, row: random(2) * target.rowsPerBank + random(DATA_ROWS - step * (count - 1)), step };
}

/** Reads that put `width` streams of data at a position at a cycle, from random slices up the stream. */
function bring(
  builder: Builder,
  stream: number,
  width: number,
  position: number,
  cycle: number,
  burst: Burst,
): Draft[] {
  const { target, random } = builder;
  const sources = slicesTowards(builder, stream, position, 1);
  return Array.from({ length: width }, (_, byte) => {
    const queue = pick(random, sources);
    const at = cycle - target.timing.memRead - Math.abs(position - positionOf(target, queue));
    const { row, step } = readableRows(builder, queue, at, burst);
    return draft(queue, at, "read", { address: row, stream: stream + byte }, burst, { step });
  });
}

/** Writes of `width` streams that are given at a position at a cycle, into rows never used before. */
function store(
  builder: Builder,
  stream: number,
  width: number,
  position: number,
  cycle: number,
  burst: Burst,
): Draft[] {
  const { target, random, freshRows } = builder;
  const sinks = slicesTowards(builder, stream, position, -1);
  if (sinks.length === 0) return [];
  return Array.from({ length: width }, (_, byte) => {
    const queue = pick(random, sinks);
    const fresh = freshRows.get(queue) ?? CONSTANT_ROWS;
    freshRows.set(queue, fresh + burst.count);
    const address = fresh + random(2) * target.rowsPerBank;
    return draft(
      queue,
      cycle + Math.abs(position - positionOf(target, queue)),
      "write",
      { address, stream: stream + byte },
      burst,
      { step: 1 },
    );
  });
}

const randomBurst = ({ random }: Builder): Burst =>
  pick(random, [ONCE, { count: 2 + random(4), interval: 1 }, { count: 2 + random(3), interval: 2 + random(3) }]);

/** Keeps the drafts if everything that they need is free. */
function place(builder: Builder, drafts: readonly Draft[]): boolean {
  const needs = new Set<string>();
  for (const one of drafts) {
    for (const need of unitNeeds(builder, one)) {
      if (needs.has(need)) return false;
      needs.add(need);
    }
  }
  if (!streamNeeds(builder, drafts, needs) || !memoryOrder(builder, drafts)) return false;
  for (const need of needs) if (builder.taken.has(need)) return false;
  for (const need of needs) builder.taken.add(need);
  builder.drafts.push(...drafts);
  for (const { queue, instruction } of drafts) {
    const { op, cycle, fields, count, interval } = instruction;
    if (op !== "write") continue;
    const from = cycle + (count - 1) * interval + builder.target.timing.memWrite;
    builder.written.push({ queue, row: Number(fields["address"]), count, from });
  }
  return true;
}

/** Queue cycles, ports, address generators and banks. */
function unitNeeds({ target }: Builder, { queue, instruction }: Draft): string[] {
  const { op, cycle, count, interval, fields, step } = instruction;
  const last = cycle + (count - 1) * interval;
  const needs: string[] = [];
  const generator = op === "read" || op === "write" || op === "gather" || op === "scatter";
  const busyUntil = op === "deskew" ? (Math.floor(cycle / 256) + 1) * 256 - 1 : generator ? cycle : last;
  for (let t = cycle; t <= busyUntil; t++) needs.push(`queue ${queue} ${t}`);
  if (!generator) return needs;
  const kind = op === "read" || op === "gather" ? "read" : "write";
  for (let t = cycle; t <= last && count > 1; t++) needs.push(`generator ${kind} ${queue} ${t}`);
  for (let i = 0; i < count; i++) {
    const t = cycle + i * interval;
    needs.push(`port ${kind} ${queue} ${t}`);
    const bank = Math.floor((Number(fields["address"]) + i * step) / target.rowsPerBank);
    for (const one of "address" in fields ? [bank] : [0, 1]) needs.push(`bank ${one} ${queue} ${t}`);
  }
  return needs;
}

/** No read may come within `memWrite` of a scatter, no gather within `memWrite` of a write. */
function memoryOrder(builder: Builder, drafts: readonly Draft[]): boolean {
  const all = [...builder.drafts, ...drafts];
  const cycles = ({ instruction: { cycle, count, interval } }: Draft): number[] =>
    Array.from({ length: count }, (_, i) => cycle + i * interval);
  const of = (ops: readonly Mnemonic[]): Draft[] => all.filter(({ instruction }) => ops.includes(instruction.op));
  const meet = (early: readonly Mnemonic[], late: readonly Mnemonic[]): boolean =>
    of(early).some((first) =>
      of(late).some(
        (second) =>
          first.queue === second.queue &&
          cycles(first).some((t) => cycles(second).some((u) => u >= t && u < t + builder.target.timing.memWrite)),
      ),
    );
  return !meet(["scatter"], ["read", "gather"]) && !meet(["write"], ["gather"]);
}

interface Point {
  readonly stream: number;
  readonly cycle: number;
  readonly position: number;
}

const cell = ({ stream, cycle, position }: Point): string => `stream ${stream} ${cycle} ${position}`;

/** Follows every value from where it is given to where it is taken for good, or off the chip. */
function streamNeeds({ target }: Builder, drafts: readonly Draft[], needs: Set<string>): boolean {
  const takes = new Map<string, boolean>();
  const gives: Point[] = [];
  for (const { queue, instruction } of drafts) {
    const position = positionOf(target, queue);
    const row: InstructionRow = ISA[instruction.op];
    for (let i = 0; i < instruction.count; i++) {
      const dispatch = instruction.cycle + i * instruction.interval;
      Object.entries(row.takes).forEach(([field, { skew, sign = 1 }], bit) => {
        const cycle = dispatch + sign * (skew === 0 ? 0 : target.timing[skew]);
        const value = instruction.fields[field];
        const tap = typeof value === "object" ? "tap" in value && value.tap : ((instruction.tap >> bit) & 1) === 1;
        for (const stream of streamsOf(target, instruction, field)) {
          const key = cell({ stream, cycle, position });
          takes.set(key, (takes.get(key) ?? true) && tap);
        }
      });
      for (const [field, latency] of Object.entries(row.gives)) {
        for (const stream of streamsOf(target, instruction, field))
          gives.push({ stream, cycle: dispatch + target.timing[latency], position });
      }
    }
  }
  let met = 0;
  for (const { stream, cycle, position } of gives) {
    const towards = direction(target, stream);
    for (let hop = 0; Math.abs(position + towards * hop) <= target.mxm; hop++) {
      const key = cell({ stream, cycle: cycle + hop, position: position + towards * hop });
      if (needs.has(key)) return false;
      needs.add(key);
      const tap = takes.get(key);
      if (tap !== undefined) met++;
      if (tap === false) break;
    }
  }
  return met === takes.size;
}

function streamsOf(target: Target, instruction: TimedInstruction, field: string): number[] {
  const value = instruction.fields[field];
  const base = typeof value === "object" ? ("stream" in value ? value.stream : -1) : Number(value);
  if (base < 0 || Number.isNaN(base)) return [];
  const { unit, groups } = streamGroup(target, instruction, field);
  return Array.from({ length: unit * groups }, (_, i) => base + i);
}

function copyRows(builder: Builder, time: number): void {
  const { random } = builder;
  const stream = streams(builder, 1, random(2) * 2 - 1);
  const burst = randomBurst(builder);
  const reads = bring(builder, stream, 1, 0, time, burst);
  const tapped = store(builder, stream, 1, 0, time, burst).map((one) => ({
    ...one,
    instruction: { ...one.instruction, tap: 1 },
  }));
  place(builder, [...reads, ...(random(2) === 0 ? tapped : []), ...store(builder, stream, 1, 0, time, burst)]);
}

/** Row addresses at a position: a low byte in the data rows and a high byte that names the bank. */
function bringAddresses(builder: Builder, map: number, position: number, time: number, burst: Burst): Draft[] {
  const bank = builder.random(2);
  return bring(builder, map, 2, position, time, burst).map((one, byte) => {
    const address = byte === 0 ? LOW_ROW + builder.random(HIGH_ROW - LOW_ROW) : HIGH_ROW + bank;
    return { ...one, instruction: { ...one.instruction, step: 0, fields: { ...one.instruction.fields, address } } };
  });
}

function gatherRows(builder: Builder, time: number): void {
  const { target, random } = builder;
  const queue = random(2 * target.slices);
  const position = positionOf(target, queue);
  const burst = randomBurst(builder);
  const map = streams(builder, 2, -Math.sign(position));
  const stream = streams(builder, 1, -Math.sign(position));
  const given = time + target.timing.memGather;
  place(builder, [
    ...bringAddresses(builder, map, position, time, burst),
    draft(queue, time, "gather", { stream, map }, burst),
    ...store(builder, stream, 1, position, given, burst),
  ]);
}

function scatterRows(builder: Builder, time: number): void {
  const { target, random } = builder;
  const queue = random(2 * target.slices);
  const position = positionOf(target, queue);
  const burst = randomBurst(builder);
  const towards = Math.sign(position);
  const map = streams(builder, 2, towards);
  const stream = streams(builder, 1, towards);
  place(builder, [
    ...bringAddresses(builder, map, position, time, burst),
    ...bring(builder, stream, 1, position, time, burst),
    draft(queue, time, "scatter", { stream, map }, burst),
  ]);
}

const TYPES = Object.keys(STREAM_TYPES) as StreamType[];
const FUNCTIONS = Object.keys(ALU_FUNCTIONS).filter(isAluFunction);

/** One to four ALUs, each fed by streams, constants and earlier results. */
function vectorChain(builder: Builder, time: number): void {
  const { target, random } = builder;
  const burst = randomBurst(builder);
  const { vxmEntry, vxmAlu } = target.timing;
  const drafts: Draft[] = [];
  const results: { readonly alu: number; readonly cycle: number }[] = [];
  let cycle = time;
  const alus = 1 + random(4);
  for (let n = 0; n < alus; n++) {
    let numbers = 0;
    const operand = (): { readonly source: TimedInstruction["fields"][string]; readonly type: StreamType } => {
      const type = pick(random, TYPES);
      const chained = results.length > 0 ? pick(random, results) : undefined;
      if (chained !== undefined && random(2) === 0)
        return { source: { alu: chained.alu, age: cycle - vxmAlu - chained.cycle }, type };
      // Three constants do not fit in one dispatch.
      if (random(4) === 0 && ++numbers <= 2)
        return { source: { constant: Math.fround((random(2000) - 1000) / 64) }, type };
      const width = STREAM_TYPES[type].bytes;
      const stream = streams(builder, width, random(2) * 2 - 1);
      drafts.push(...bring(builder, stream, width, 0, cycle - vxmEntry, burst));
      return { source: { stream, tap: random(4) === 0 }, type };
    };
    const name: AluFunction = random(8) === 0 ? "select" : pick(random, FUNCTIONS);
    const { operands } = ALU_FUNCTIONS[name];
    const as = pick(random, TYPES);
    const width = STREAM_TYPES[as].bytes;
    const gives = n === alus - 1 || random(4) === 0;
    const give = gives ? streams(builder, width, 1) : -1;
    const give2 = gives && random(2) === 0 ? streams(builder, width, -1) : -1;
    for (const stream of [give, give2])
      if (stream >= 0) drafts.push(...store(builder, stream, width, 0, cycle + vxmAlu, burst));
    const a = operand();
    const alu = random(target.alus);
    const common = { function: name, a: a.source, give, give2, as };
    if (operands === 1) drafts.push(draft(vxmQueue(target, alu), cycle, "unary", { ...common, type: a.type }, burst));
    else {
      const b = operand();
      const both = { ...common, typeA: a.type, b: b.source, typeB: b.type };
      if (operands === 2) drafts.push(draft(vxmQueue(target, alu), cycle, "binary", both, burst));
      else {
        const c = operand();
        drafts.push(draft(vxmQueue(target, alu), cycle, "ternary", { ...both, c: c.source, typeC: c.type }, burst));
      }
    }
    results.push({ alu, cycle });
    cycle += vxmAlu + random(3);
  }
  // An ALU that is used twice would give the later result to an early reader.
  if (new Set(results.map(({ alu }) => alu)).size === results.length) place(builder, drafts);
}

function switchOnce(builder: Builder, time: number): void {
  const { target, random } = builder;
  const hemisphere: Hemisphere = random(2) === 0 ? "W" : "E";
  const queue = sxmQueue(target, hemisphere, random(target.sxmQueues));
  const position = sxmPosition(target, hemisphere);
  const burst = randomBurst(builder);
  const op = pick(random, ["shift", "rotate", "permute", "distribute", "select", "transpose"] as const);
  const type = pick(random, TYPES);
  const width = op === "transpose" ? target.superlane : STREAM_TYPES[type].bytes;
  const source = streams(builder, width, side(hemisphere));
  const second = streams(builder, width, side(hemisphere));
  const give = streams(builder, width, -side(hemisphere));
  const fields = {
    shift: { source, lanes: random(2 * target.lanes) - target.lanes, type, give },
    rotate: { source, lanes: random(2 * target.lanes) - target.lanes, type, give },
    permute: { source, map: random(2), type, give },
    distribute: { source, map: 2 + random(2), type, give },
    select: { a: source, b: second, map: 4, type, give },
    transpose: { source, give },
  }[op];
  const latency = ISA[op].gives.give;
  place(builder, [
    ...bring(builder, source, width, position, time, burst),
    ...(op === "select" ? bring(builder, second, width, position, time, burst) : []),
    draft(queue, time, op, fields, burst),
    ...store(builder, give, width, position, time + target.timing[latency], burst),
  ]);
}

/** Weights through the buffer or past it, then one or two bursts of activations whose sums are given. */
function matrixPass(builder: Builder, time: number): void {
  const { target, random, mxm } = builder;
  const { mxmWeightSkew, mxmActivationSkew, mxmLoad, mxmInstall, mxmMultiply, mxmAccumulate } = target.timing;
  const hemisphere: Hemisphere = random(2) === 0 ? "W" : "E";
  const state = mxm[hemisphere];
  const position = mxmPosition(target, hemisphere);
  const outward = side(hemisphere);
  const int8 = random(3) === 0;
  const plane = int8 ? random(target.planes) : 0;
  const width = int8 ? 1 : 2;
  const words = Object.keys(MXM_MODES).filter(isMxmMode);
  const word = pick(
    random,
    words.filter((name) => ARRAYS[MXM_MODES[name].array].joined !== int8),
  );
  const loaded = DTYPES[MXM_MODES[word].type].bytes;
  const ways = 1 << random(3);
  const columns = ways * MXM_MODES[word].parts.length;
  const loads: Burst = { count: 1 + random(Math.min(Math.floor(target.lanes / columns), 8)), interval: 1 + random(2) };
  const column = random(target.lanes - loads.count * columns + 1);
  const depth = int8 ? target.lanes : halfLanes(target);
  const first = random(depth);
  const stream = streams(builder, loaded * ways, outward);
  const past = random(3) === 0;
  const weights = mxmQueue(target, hemisphere, plane, 0);
  const fields = {
    stream,
    mode: words.indexOf(word),
    ways,
    column,
    first,
    lanes: 1 + random(depth - first),
    clear: random(2),
  };
  const drafts = [
    ...bring(builder, stream, loaded * ways, position, time + mxmWeightSkew, loads),
    draft(weights, time, past ? "iwStream" : "lw", fields, loads),
  ];
  const last = time + (loads.count - 1) * (loads.count === 1 ? 1 : loads.interval);
  const install = past ? last + mxmWeightSkew : last + mxmLoad + random(4);
  if (!past) drafts.push(draft(weights, install, "iw", {}));
  const changes = past ? time + mxmWeightSkew : install + mxmInstall;
  if (time <= state.lastInstall || state.lastAbc >= changes) return;
  const activations: Burst = { count: 1 + random(4), interval: 1 + random(3) };
  const row = random(target.accumulatorRows - activations.count);
  let abc = Math.max(install + mxmInstall + random(4), state.lastAbc + 1);
  const passes = 1 + random(2);
  for (let pass = 0; pass < passes; pass++) {
    const incoming = streams(builder, width, outward);
    const give = random(4) === 0 ? -1 : streams(builder, 4, -outward);
    drafts.push(
      ...bring(builder, incoming, width, position, abc + mxmActivationSkew, activations),
      draft(
        mxmQueue(target, hemisphere, plane, 1),
        abc,
        "abc",
        { stream: incoming, mode: int8 ? 2 : random(2) },
        activations,
      ),
      draft(mxmQueue(target, hemisphere, plane, 2), abc + mxmMultiply, "acc", { row, mode: pass, give }, activations),
      ...(give < 0 ? [] : store(builder, give, 4, position, abc + mxmMultiply + mxmAccumulate, activations)),
    );
    abc += activations.count * activations.interval;
  }
  if (!place(builder, drafts)) return;
  state.lastInstall = install;
  state.lastAbc = abc;
}

function sendReceive(builder: Builder, time: number): void {
  const { target, random, link } = builder;
  const hemisphere: Hemisphere = random(2) === 0 ? "W" : "E";
  const position = sxmPosition(target, hemisphere);
  const { linkInterval } = target.timing;
  const burst = { ...randomBurst(builder), interval: linkInterval + random(3) };
  const last = (burst.count - 1) * burst.interval;
  const stream = streams(builder, 1, side(hemisphere));
  const give = streams(builder, 1, -side(hemisphere));
  const received = time + linkDelay(target) + random(8);
  if (time < link.sent + linkInterval || received <= link.received) return;
  const drafts = [
    ...bring(builder, stream, 1, position, time, burst),
    draft(sxmQueue(target, hemisphere, random(target.sxmQueues)), time, "send", { stream, link: 0 }, burst),
    draft(
      sxmQueue(target, hemisphere, random(target.sxmQueues)),
      received,
      "receive",
      { link: 1, stream: give },
      burst,
    ),
    ...store(builder, give, 1, position, received + target.timing.c2cReceive, burst),
  ];
  if (!place(builder, drafts)) return;
  link.sent = time + last;
  link.received = received + last;
}

function configure(builder: Builder, time: number): void {
  const { target, random } = builder;
  const length = target.superlane * (1 + random(target.lanes / target.superlane));
  place(builder, [draft(random(queueCount(target)), time, "config", { length, power: random(2) })]);
}

function waitForEpoch(builder: Builder, time: number): void {
  const { target, random } = builder;
  if (random(4) === 0)
    place(builder, [
      draft(sxmQueue(target, random(2) === 0 ? "W" : "E", random(target.sxmQueues)), time, "deskew", {}),
    ]);
}

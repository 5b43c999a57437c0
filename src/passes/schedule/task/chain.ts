/**
 * Chains: gives each operation of a task's chain an ALU, brings its operands onto streams and its results into SRAM.
 *
 * An operand that is rearranged over the lanes turns at the SXM: it flies out, is permuted or distributed, and flies back in.
 */

import { at, invariant, sure } from "../../../diagnostics.js";
import { ALU_FUNCTIONS, type Source, type StreamType } from "../../../ir/isa.js";
import type { Argument, Leaf, Storage, Task, Turn } from "../../../ir/plan.js";
import { sxmQueue, vxmQueue } from "../../../ir/program.js";
import { NEVER, type Timeline } from "../chip/resources.js";
import { type TimedChain, timeChain } from "./chain-timing.js";
import { type Half, lineAt, type Side } from "../chip/machine.js";
import type { Flight, ReadPiece } from "../chip/ports.js";
import { widthOf } from "../figures.js";
import { piecesOf, tryRead } from "./read.js";
import { type Scheduler, storageOf } from "../state.js";
import { emit, markOf, pickStreams, rollback } from "./trial.js";
import { tryWrite } from "./write.js";

/** The sums of a task's passes on their way to the VXM. */
export interface FlyingSums {
  readonly half: Half;
  /** First stream. */
  readonly stream: number;
}

/** Tries a chain whose time zero is `start`, and its reads and writes. */
export const tryChain = (s: Scheduler, task: Task, start: number, sums: FlyingSums | undefined): number => {
  const chain = timedChain(s, task);
  const alus: number[] = [];
  const delay = tryAlus(s, chain, task, start, alus);
  if (delay !== 0) return delay;
  const turned = new Map<number, number>();
  for (const map of chain.maps) {
    const { turn } = chain;
    const stream = sums === undefined || turn === undefined ? -NEVER : trySumsTurn(s, task, start, { sums, map, turn });
    if (stream < 0) return -stream;
    turned.set(map, stream);
  }
  const taken = chain.takes.map(() => -1);
  const outbound: Outbound[] = [];
  // Rows that lie in one place go first: others, which may have copies, do without the ports that those need.
  for (const inOne of [true, false])
    for (const [index, take] of chain.takes.entries()) {
      const leaf = at(task.leaves, take.leaf, "leaf");
      if (liesInOne(s, leaf) !== inOne) continue;
      const reader: Reader = { rows: task.rows, origin: chain.ops[take.op]?.origin ?? task.origin };
      const stream = tryLeaf(s, reader, leaf, start + offsetOf(chain, take.op) - s.target.timing.vxmEntry, outbound);
      if (stream < 0) return -stream;
      taken[index] = stream;
    }
  const given = new Map<number, Given>();
  for (const output of task.outputs) {
    const op = at(chain.index, output.op, "operation");
    const streams = tryWrite(s, task, output, start + offsetOf(chain, op) + s.target.timing.vxmAlu);
    if (typeof streams === "number") return streams;
    invariant(!given.has(op), "one operation feeds one output");
    given.set(op, { streams, type: output.as ?? storageOf(s, output.storage).dtype });
  }
  emitChain(s, task, { chain, at: start, mxm: sums?.stream ?? -1, turned, alus, taken, given });
  return 0;
};

/** Whether rows have no choice of places, as those of a state; of others it is asked once nothing else is in their way. */
const liesInOne = (s: Scheduler, leaf: Leaf): boolean => {
  const { kind } = storageOf(s, leaf.storage);
  if (kind !== "temp" || !s.trial.cornered) return kind === "state";
  return piecesOf(s, leaf, leaf.runs).some(({ chunk }) => chunk.copies.length === 1);
};

const timedChain = (s: Scheduler, { ops }: Task): TimedChain => {
  const known = s.chains.get(ops);
  if (known !== undefined) return known;
  const chain = timeChain(ops, s.target, s.turns);
  s.chains.set(ops, chain);
  return chain;
};

const offsetOf = ({ ops }: TimedChain, op: number): number => {
  const timed = ops[op];
  invariant(timed !== undefined, "an operation is part of its chain");
  return timed.offset;
};

/** A free ALU for each operation, added to `alus`. Returns 0 or a delay. */
const tryAlus = (s: Scheduler, chain: TimedChain, task: Task, at: number, alus: number[]): number => {
  const { barrier } = s.target.timing;
  for (const { offset } of chain.ops) {
    const cycle = at + offset;
    if (cycle < barrier) return barrier - cycle;
    const alu = pickLine(s, s.alus, cycle, task.rows, alus);
    if (alu < 0) return -alu;
    alus.push(alu);
  }
  return 0;
};

/** Lowest line that is free and not in `except`, or minus the delay until one is free. */
export const pickLine = (
  s: Scheduler,
  lines: readonly Timeline[],
  cycle: number,
  length: number,
  except: readonly number[] = [],
): number => {
  let best = NEVER;
  for (let index = 0; index < lines.length; index++) {
    if (except.includes(index)) continue;
    const line = lineAt(lines, index);
    const start = s.trial.figure.fit(line, cycle, length);
    if (start === cycle) {
      s.trial.figure.add(line, cycle, length);
      return index;
    }
    best = Math.min(best, start - cycle);
  }
  return -best;
};

/* ---------- operands ---------- */

/** What rows are read for: an operation of a chain, by its origin, and how many it takes. */
type Reader = Pick<Task, "rows" | "origin">;

/** Rows on their way out to the SXM: what else is made of the same rows at the same cycle is taken from the same stream. */
interface Outbound {
  readonly side: Side;
  readonly diagonal: number;
  readonly stream: number;
  readonly leaf: Leaf;
}

/** Brings a leaf's rows to the VXM at `arrival`. Returns its stream, or minus a delay. */
const tryLeaf = (s: Scheduler, reader: Reader, leaf: Leaf, arrival: number, outbound: Outbound[]): number => {
  const storage = storageOf(s, leaf.storage);
  const pieces = piecesOf(s, leaf, leaf.runs);
  let best = NEVER;
  for (const side of sidesWith(s, storage, pieces)) {
    const half = s.halves[side];
    const mark = markOf(s);
    const stream = pickStreams(s, {
      half,
      use: "inward",
      width: widthOf(storage),
      diagonal: arrival,
      length: reader.rows,
    });
    if (stream < 0) {
      best = Math.min(best, -stream);
      continue;
    }
    const flight: Flight = { half, inward: true, diagonal: arrival, stream, origin: reader.origin };
    const delay =
      leaf.map === undefined
        ? tryRead(s, leaf, pieces, flight)
        : tryTurn(s, reader, { leaf, map: leaf.map, storage, pieces }, flight, outbound);
    if (delay === 0) return stream;
    best = Math.min(best, delay);
    rollback(s, mark);
  }
  return -best;
};

/** Hemispheres from which all pieces can be read; where a constant has no copy yet, the less used one first. */
export const sidesWith = (s: Scheduler, storage: Storage, pieces: readonly ReadPiece[]): readonly Side[] => {
  const has = ([0, 1] as const).filter((side) =>
    pieces.every((piece) => piece.chunk.copies.some((copy) => copy.side === side)),
  );
  if (has.length > 0 || storage.kind === "temp") return has;
  return s.trial.cursor % 2 === 0 ? [0, 1] : [1, 0];
};

interface TurnedLeaf {
  readonly leaf: Leaf;
  /** Index into Plan.maps. */
  readonly map: number;
  readonly storage: Storage;
  readonly pieces: readonly ReadPiece[];
}

/** Out to the SXM, where lanes are rearranged, and back in as `back`. Returns 0 or a delay. */
const tryTurn = (s: Scheduler, reader: Reader, turned: TurnedLeaf, back: Flight, outbound: Outbound[]): number => {
  const { leaf, map, storage, pieces } = turned;
  const { target } = s;
  const { half } = back;
  const turn = at(s.turns, map, "lane map");
  const diagonal = back.diagonal - 2 * target.sxm - turn.cycles;
  const dispatch = diagonal + target.sxm;
  if (dispatch < target.timing.barrier) return target.timing.barrier - dispatch;
  const unit = pickLine(s, half.sxm, dispatch, reader.rows);
  if (unit < 0) return -unit;
  const shared = outbound.find(
    (other) => other.side === half.side && other.diagonal === diagonal && sameRows(other.leaf, leaf),
  );
  const source =
    shared?.stream ?? pickStreams(s, { half, use: "outward", width: widthOf(storage), diagonal, length: reader.rows });
  if (source < 0) return -source;
  if (shared === undefined) {
    const delay = tryRead(s, leaf, pieces, { ...back, inward: false, diagonal, stream: source });
    if (delay !== 0) return delay;
    outbound.push({ side: half.side, diagonal, stream: source, leaf });
  }
  const by: Turning = { op: turn.op, half, unit, dispatch, tap: 0 };
  emitTurn(s, reader, by, { source, map, type: storage.dtype, give: back.stream });
  return 0;
};

/** What one unit of an SXM does; with `tap`, what it takes flies on. */
interface Turning {
  readonly op: Turn["op"];
  readonly half: Half;
  readonly unit: number;
  readonly dispatch: number;
  readonly tap: 0 | 1;
}

const emitTurn = (
  s: Scheduler,
  { origin, rows }: Reader,
  { op, half, unit, dispatch, tap }: Turning,
  fields: Readonly<Record<"source" | "map" | "give", number>> & { readonly type: Storage["dtype"] },
): void => emit(s, sxmQueue(s.target, half.hemisphere, unit), dispatch, { op, fields, origin, count: rows, tap });

/** Sums on their way, and how their lanes are rearranged. */
interface TurnedSums {
  readonly sums: FlyingSums;
  /** Index into Plan.maps. */
  readonly map: number;
  readonly turn: Turn;
}

/** Rearranged as they fly past the SXM, and on beside themselves. Returns the stream, or minus a delay. */
const trySumsTurn = (s: Scheduler, task: Task, at: number, { sums, map, turn }: TurnedSums): number => {
  const { half, stream: source } = sums;
  const { target } = s;
  const dispatch = at - target.sxm;
  const unit = pickLine(s, half.sxm, dispatch, task.rows);
  if (unit < 0) return unit;
  const diagonal = at + turn.cycles;
  const give = pickStreams(s, { half, use: "inward", width: 2, diagonal, length: task.rows });
  if (give < 0) return give;
  emitTurn(s, task, { op: turn.op, half, unit, dispatch, tap: 1 }, { source, map, type: "f32", give });
  return give;
};

/** Leaves of one task that read the same rows of the same panel. */
const sameRows = (a: Leaf, b: Leaf): boolean =>
  a.storage === b.storage && a.panel === b.panel && JSON.stringify(a.runs) === JSON.stringify(b.runs);

/* ---------- instructions ---------- */

/** Streams on which a result leaves the VXM: one for each hemisphere that keeps it. */
interface Given {
  readonly streams: readonly number[];
  readonly type: StreamType;
}

interface PlacedChain {
  readonly chain: TimedChain;
  /** Time zero. */
  readonly at: number;
  /** Stream of the MXM result, and of what permutations made of it on the way. */
  readonly mxm: number;
  readonly turned: ReadonlyMap<number, number>;
  /** By operation. */
  readonly alus: readonly number[];
  /** Stream of each of the chain's takes. */
  readonly taken: readonly number[];
  /** By operation. */
  readonly given: ReadonlyMap<number, Given>;
}

const OPERANDS = [
  { name: "a", type: "typeA" },
  { name: "b", type: "typeB" },
  { name: "c", type: "typeC" },
] as const;
const MNEMONICS = { 1: "unary", 2: "binary", 3: "ternary" } as const;

const emitChain = (s: Scheduler, task: Task, placed: PlacedChain): void => {
  for (const [index, { fn, args, offset, origin = task.origin }] of placed.chain.ops.entries()) {
    const fields: Record<string, string | number | Source> = { function: fn };
    for (const [position, { name, type }] of OPERANDS.slice(0, args.length).entries()) {
      const operand = aluSource(s, task, placed, index, position);
      fields[args.length === 1 ? "type" : type] = operand.type;
      fields[name] = operand.source;
    }
    const given = placed.given.get(index);
    fields["give"] = given?.streams[0] ?? -1;
    fields["give2"] = given?.streams[1] ?? -1;
    fields["as"] = given?.type ?? "f32";
    emit(s, vxmQueue(s.target, at(placed.alus, index, "alu")), placed.at + offset, {
      op: MNEMONICS[ALU_FUNCTIONS[fn].operands],
      fields,
      origin,
      count: task.rows,
    });
  }
};

/** Where an ALU takes an argument from: a stream, a constant, or the result of another ALU some cycles ago. */
const aluSource = (
  s: Scheduler,
  task: Task,
  { chain, mxm, turned, alus, taken }: PlacedChain,
  op: number,
  position: number,
): { type: string; source: Source } => {
  const argument: Argument | undefined = chain.ops[op]?.args[position];
  invariant(argument !== undefined, "an operation has its arguments");
  if ("constant" in argument) return { type: "f32", source: { constant: argument.constant } };
  if ("mxm" in argument) {
    const stream = argument.map === undefined ? mxm : sure(turned.get(argument.map), "stream of the sums that turn");
    return { type: "f32", source: { stream, tap: false } };
  }
  if ("op" in argument) {
    const age = offsetOf(chain, op) - offsetOf(chain, argument.op) - s.target.timing.vxmAlu;
    return { type: "f32", source: { alu: at(alus, argument.op, "alu"), age } };
  }
  const take = chain.takes.findIndex((one) => one.op === op && one.argument === position);
  const storage = storageOf(s, at(task.leaves, argument.leaf, "leaf").storage);
  return { type: argument.as ?? storage.dtype, source: { stream: at(taken, take, "stream"), tap: false } };
};

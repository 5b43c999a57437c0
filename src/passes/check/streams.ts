/**
 * Part of the schedule checker: streams. Every operand finds its value, and no two values meet on a stream register.
 *
 * A value is named by its stream and its diagonal (cycle minus position eastward, plus westward), which it keeps along its
 * flight. Each stream is replayed position by position in the order of flight: first the gives of a position claim their
 * diagonals, which must be free, then its takes must find theirs claimed, and values that were not only tapped leave. What is
 * never taken flies on to the edge of the chip. ALU operands that chain need no stream, but a result of just that age.
 *
 * The replay also notes which bursts gave what each operand takes: meaning.ts asks whether it is what the plan says.
 */

import { operandStreams } from "../../ir/operands.js";
import { at, invariant } from "../../diagnostics.js";
import { isWestward } from "../../ir/program.js";
import { brief, type Burst, type CheckedChip, raise, specOfOp, streamName, streamOf } from "./burst.js";

/** A stream operand of a burst: its first vector is on the unit's stream register at cycle `at`. */
export interface Flow {
  readonly burst: Burst;
  readonly field: string;
  /** First stream. */
  readonly stream: number;
  /** How many streams. */
  readonly width: number;
  readonly at: number;
  readonly tap: boolean;
  /** Of what is taken: streams that are taken before it. */
  readonly before: number;
}

/** `count` vectors that one burst gave: executions `from`, `from + step` and so on of it. */
export interface TakenPiece {
  readonly giver: Flow;
  readonly from: number;
  readonly step: number;
  readonly count: number;
}

/** What bursts take, and from which bursts it comes. */
export interface Taken {
  /** In order of bursts. */
  readonly flows: Flow[];
  /** By number of a burst: index of the first of its flows. */
  readonly first: Int32Array;
  /** By taken stream: index of its first piece, and how many there are. */
  readonly starts: number[];
  readonly lengths: number[];
  /** By piece. */
  readonly givers: Flow[];
  readonly froms: number[];
  readonly counts: number[];
}

export const flowOf = ({ flows, first }: Taken, { number }: Burst, field: string): Flow | undefined => {
  for (let i = at(first, number, "burst"); i < (first[number + 1] ?? flows.length); i++)
    if (flows[i]?.field === field) return flows[i];
  return undefined;
};

/** What a flow takes from its `index`th stream, in order of executions. */
export const piecesOf = (taken: Taken, flow: Flow, index: number): TakenPiece[] => {
  const start = at(taken.starts, flow.before + index, "start");
  const end = start + at(taken.lengths, flow.before + index, "length");
  const pieces: TakenPiece[] = [];
  for (let i = start; i < end; i++) {
    const giver = taken.givers[i];
    invariant(giver !== undefined, "a piece is given by some burst");
    const step = flow.burst.instruction.interval / giver.burst.instruction.interval;
    pieces.push({ giver, from: at(taken.froms, i, "giver"), step, count: at(taken.counts, i, "count") });
  }
  return pieces;
};

/** Flows of every stream at every position, positions in the order of flight. */
interface Flows {
  readonly gives: (Flow[] | undefined)[];
  readonly takes: (Flow[] | undefined)[];
}

export const checkStreams = (chip: CheckedChip): Taken => {
  const { target } = chip;
  const first = new Int32Array(chip.bursts);
  const taken: Taken = { flows: [], first, starts: [], lengths: [], givers: [], froms: [], counts: [] };
  const flows = collect(chip, taken);
  // Diagonals run from the earliest operand at the far edge to the last result at the other.
  const low = -target.mxm - target.timing.vxmEntry;
  const values = new Int32Array(chip.cycles + 2 * target.mxm + Math.max(...Object.values(target.timing)) - low + 1);
  for (let stream = 0; stream < 2 * target.streams; stream++) replay(chip, flows, stream, values, low, taken);
  return taken;
};

const collect = (chip: CheckedChip, taken: Taken): Flows => {
  const { target, specs, queues } = chip;
  const flows: Flows = { gives: [], takes: [] };
  let before = 0;
  for (const queue of queues)
    for (const burst of queue) {
      const { instruction } = burst;
      const { takes, gives } = specOfOp(specs, instruction.op);
      taken.first[burst.number] = taken.flows.length;
      for (const { field, offset, slot } of takes) {
        const value = instruction.fields[field];
        const stream = streamOf(value);
        if (stream < 0) continue;
        const tap = typeof value === "object" ? "tap" in value && value.tap : ((instruction.tap >> slot) & 1) === 1;
        const width = operandStreams(target, instruction, field);
        const flow = { burst, field, stream, width, at: instruction.cycle + offset, tap, before };
        before += width;
        taken.flows.push(flow);
        add(chip, flows.takes, flow);
      }
      for (const { field, offset } of gives) {
        const stream = streamOf(instruction.fields[field]);
        if (stream < 0) continue;
        const width = operandStreams(target, instruction, field);
        add(chip, flows.gives, { burst, field, stream, width, at: instruction.cycle + offset, tap: false, before: 0 });
      }
    }
  return flows;
};

const add = ({ target }: CheckedChip, table: (Flow[] | undefined)[], flow: Flow): void => {
  const { burst, stream: first, width } = flow;
  const { position } = burst;
  for (let stream = first; stream < first + width; stream++) {
    const bin = stream * (2 * target.mxm + 1) + target.mxm + (isWestward(target, stream) ? -position : position);
    const known = table[bin];
    if (known === undefined) table[bin] = [flow];
    else known.push(flow);
  }
};

/** `values[diagonal - low]` is the value that flies there: a flow of `givers`, counted from 1. */
const replay = (
  chip: CheckedChip,
  { gives, takes }: Flows,
  stream: number,
  values: Int32Array,
  low: number,
  taken: Taken,
): void => {
  const { target } = chip;
  const positions = 2 * target.mxm + 1;
  const givers: Flow[] = [];
  const start = ({ burst, at }: Flow): number =>
    at + (isWestward(target, stream) ? burst.position : -burst.position) - low;
  let used = false;
  for (let bin = stream * positions; bin < (stream + 1) * positions; bin++) {
    for (const flow of gives[bin] ?? []) {
      if (!used) values.fill(0);
      used = true;
      const number = givers.push(flow);
      const { count, interval } = flow.burst.instruction;
      for (let i = 0, at = start(flow); i < count; i++, at += interval) {
        if (values[at] !== 0) collide(chip, stream, flow, i, givers[(values[at] as number) - 1]);
        values[at] = number;
      }
    }
    const here = takes[bin];
    if (here === undefined) continue;
    for (const flow of here) {
      const { count, interval } = flow.burst.instruction;
      const pieces = taken.givers.length;
      for (let i = 0, at = start(flow); i < count; ) {
        const number = used ? (values[at] as number) : 0;
        const giver = givers[number - 1] ?? nothing(chip, stream, flow, i);
        const from = (at - start(giver)) / giver.burst.instruction.interval;
        const first = i;
        do {
          i++;
          at += interval;
        } while (i < count && values[at] === number);
        taken.givers.push(giver);
        taken.froms.push(from);
        taken.counts.push(i - first);
      }
      const index = flow.before + stream - flow.stream;
      taken.starts[index] = pieces;
      taken.lengths[index] = taken.givers.length - pieces;
    }
    for (const flow of here) {
      if (flow.tap) continue;
      const { count, interval } = flow.burst.instruction;
      const at = start(flow);
      if (interval === 1) values.fill(0, at, at + count);
      else for (let i = 0; i < count; i++) values[at + i * interval] = 0;
    }
  }
};

const place = (flow: Flow, index: number): number => flow.at + index * flow.burst.instruction.interval;

const collide = (chip: CheckedChip, stream: number, flow: Flow, index: number, earlier: Flow | undefined): never =>
  raise(
    chip,
    "LPU2215",
    flow.burst,
    place(flow, index),
    `operand '${flow.field}': expected ${streamName(chip.target, stream)} free at position ${flow.burst.position}, found the value of ${earlier === undefined ? "another" : brief(chip, earlier.burst)}`,
  );

const nothing = (chip: CheckedChip, stream: number, flow: Flow, index: number): never =>
  raise(
    chip,
    "LPU2216",
    flow.burst,
    place(flow, index),
    `operand '${flow.field}': expected a value on ${streamName(chip.target, stream)} at position ${flow.burst.position}, found none in execution ${index}`,
  );

/** The ALU that an operand names executed exactly `vxmAlu` + age cycles before. */
export const checkChains = (chip: CheckedChip): void => {
  const { target, specs, cycles } = chip;
  const { vxmAlu } = target.timing;
  const alus = chip.queues.slice(2 * target.slices, 2 * target.slices + target.alus);
  const executed = new Uint8Array(target.alus * cycles);
  for (const [alu, queue] of alus.entries())
    for (const {
      instruction: { cycle, count, interval, fields },
    } of queue) {
      if (fields["function"] === undefined) continue;
      for (let i = 0, at = alu * cycles + cycle; i < count; i++, at += interval) executed[at] = 1;
    }
  for (const queue of alus)
    for (const burst of queue) {
      const { cycle, count, interval, fields, op } = burst.instruction;
      for (const { field } of specOfOp(specs, op).takes) {
        const source = fields[field];
        if (typeof source !== "object" || !("alu" in source)) continue;
        const first = cycle - vxmAlu - source.age;
        for (let i = 0, at = first; i < count; i++, at += interval)
          if (at < 0 || executed[source.alu * cycles + at] !== 1)
            raise(
              chip,
              "LPU2217",
              burst,
              cycle + i * interval,
              `operand '${field}': expected an execution of alu ${source.alu} at cycle ${at}, found none`,
            );
      }
    }
};

/**
 * Part of the schedule checker: streams. Every operand finds its value, and no two values meet on a stream register.
 *
 * A value is named by its stream and its diagonal (cycle minus position eastward, plus westward), which it keeps along its
 * flight. Each stream is replayed position by position in the order of flight: first the gives of a position claim their
 * diagonals, which must be free, then its takes must find theirs claimed, and values that were not only tapped leave. What is
 * never taken flies on to the edge of the chip. ALU operands that chain need no stream, but a result of just that age.
 */

import { isWestward } from "../../ir/program.js";
import { brief, type Burst, type CheckedChip, operandStreams, raise, specOfOp, streamName, streamOf } from "./burst.js";

/** A stream operand of a burst: its first vector is on the unit's stream register at cycle `at`. */
interface Flow {
  readonly burst: Burst;
  readonly field: string;
  readonly at: number;
  readonly tap: boolean;
}

/** Flows of every stream at every position, positions in the order of flight. */
interface Flows {
  readonly gives: (Flow[] | undefined)[];
  readonly takes: (Flow[] | undefined)[];
}

export const checkStreams = (chip: CheckedChip): void => {
  const { target } = chip;
  const flows = collect(chip);
  // Diagonals run from the earliest operand at the far edge to the last result at the other.
  const low = -target.mxm - target.timing.vxmEntry;
  const values = new Int32Array(chip.cycles + 2 * target.mxm + Math.max(...Object.values(target.timing)) - low + 1);
  for (let stream = 0; stream < 2 * target.streams; stream++) replay(chip, flows, stream, values, low);
};

const collect = (chip: CheckedChip): Flows => {
  const { specs, queues } = chip;
  const flows: Flows = { gives: [], takes: [] };
  for (const queue of queues)
    for (const burst of queue) {
      const { instruction } = burst;
      const { takes, gives } = specOfOp(specs, instruction.op);
      for (const { field, offset, slot } of takes) {
        const value = instruction.fields[field];
        const tap = typeof value === "object" ? "tap" in value && value.tap : ((instruction.tap >> slot) & 1) === 1;
        add(chip, flows.takes, { burst, field, at: instruction.cycle + offset, tap }, streamOf(value));
      }
      for (const { field, offset } of gives)
        add(
          chip,
          flows.gives,
          { burst, field, at: instruction.cycle + offset, tap: false },
          streamOf(instruction.fields[field]),
        );
    }
  return flows;

  function add({ target }: CheckedChip, table: (Flow[] | undefined)[], flow: Flow, first: number): void {
    if (first < 0) return;
    const width = operandStreams(target, flow.burst.instruction, flow.field);
    for (let stream = first; stream < first + width; stream++) {
      const { position } = flow.burst;
      const bin = stream * (2 * target.mxm + 1) + target.mxm + (isWestward(target, stream) ? -position : position);
      const known = table[bin];
      if (known === undefined) table[bin] = [flow];
      else known.push(flow);
    }
  }
};

/** `values[diagonal - low]` is the value that flies there: a flow of `givers`, counted from 1. */
const replay = (chip: CheckedChip, { gives, takes }: Flows, stream: number, values: Int32Array, low: number): void => {
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
      for (let i = 0, at = start(flow); i < count; i++, at += interval)
        if (!used || values[at] === 0) nothing(chip, stream, flow, i);
    }
    for (const flow of here) {
      if (flow.tap) continue;
      const { count, interval } = flow.burst.instruction;
      for (let i = 0, at = start(flow); i < count; i++, at += interval) values[at] = 0;
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

/**
 * The activity as a trace for Perfetto (ui.perfetto.dev), in its native format: protos/perfetto/trace of google/perfetto.
 *
 * One nanosecond of the trace is one cycle. Chips are processes, units and queues are tracks, a burst is a slice from its
 * first execution to its last. Bursts of one queue that overlap (the address generators of a slice) take further tracks of
 * the same name, since slices of one track nest. Flows lead from the burst that gives vectors to the one that takes them.
 * Counters are the power by unit, byte vectors given to streams a cycle, and live SRAM. Made piece by piece.
 */

import { queueCount, queueName, type TimedInstruction } from "../ir/program.js";
import { MNEMONICS } from "../ir/isa.js";
import type { Activity } from "./activity.js";
import { UNITS, unitOf } from "./bursts.js";
import { sortByBin } from "./columns.js";
import { watts } from "./energy.js";
import { binCycles, POWER_ROWS, type Power } from "./power.js";
import { ProtoWriter } from "./proto.js";

/** Numbers of the fields that are written. */
const TRACE = { packet: 1 } as const;
const PACKET = {
  timestamp: 8,
  sequence: 10,
  trackEvent: 11,
  internedData: 12,
  sequenceFlags: 13,
  trackDescriptor: 60,
} as const;
const DESCRIPTOR = { uuid: 1, name: 2, process: 3, parent: 5, counter: 8, childOrdering: 11, siblingRank: 12 } as const;
const PROCESS = { pid: 1, name: 6 } as const;
const COUNTER = { unit: 3 } as const;
const EVENT = {
  annotations: 4,
  type: 9,
  nameId: 10,
  track: 11,
  counterValue: 30,
  doubleCounterValue: 44,
  flows: 47,
  endingFlows: 48,
} as const;
const ANNOTATION = { nameId: 1, uint: 3, text: 6, textId: 17 } as const;
const INTERNED = { eventNames: 2, annotationNames: 3, annotationTexts: 29 } as const;
/** All interned entries are an id and a text. */
const ENTRY = { id: 1, text: 2 } as const;

const TYPE = { begin: 1, end: 2, counter: 4 } as const;
const FLAGS = { cleared: 1, needsState: 2 } as const;
const ORDERING_EXPLICIT = 3;
const UNIT_BYTES = 3;
/** The one writer of the trace. */
const SEQUENCE = 1;

const ANNOTATIONS = ["node", "instruction", "executions", "femtojoules (model)"] as const;

export function* traceChunks(
  activity: Activity,
  power: Power,
  describe: (instruction: TimedInstruction) => string,
): Generator<Uint8Array> {
  const trace = newTrace();
  internTexts(trace, activity.program.origins);
  yield* burstTracks(trace, activity, describe);
  yield* counterTracks(trace, activity, power);
  yield* trace.writer.take(true);
}

/** A trace that is being written. */
interface Trace {
  readonly writer: ProtoWriter;
  readonly packet: (write: () => void, flags?: number) => void;
  /** A further track, below a parent or, for 0, by itself; `more`: what its descriptor says besides. */
  readonly track: (parent: number, rank: number, name: string, more?: () => void) => number;
}

function newTrace(): Trace {
  const writer = new ProtoWriter();
  const packet = (write: () => void, flags: number = FLAGS.needsState): void =>
    writer.message(TRACE.packet, () => {
      writer.uint(PACKET.sequence, SEQUENCE);
      writer.uint(PACKET.sequenceFlags, flags);
      write();
    });
  let tracks = 0;
  const track = (parent: number, rank: number, name: string, more: () => void = () => {}): number => {
    const uuid = ++tracks;
    packet(() =>
      writer.message(PACKET.trackDescriptor, () => {
        writer.uint(DESCRIPTOR.uuid, uuid);
        if (parent > 0) writer.uint(DESCRIPTOR.parent, parent);
        writer.text(DESCRIPTOR.name, name);
        writer.uint(DESCRIPTOR.childOrdering, ORDERING_EXPLICIT);
        writer.uint(DESCRIPTOR.siblingRank, rank);
        more();
      }),
    );
    return uuid;
  };
  return { writer, packet, track };
}

/** Texts that events name by number. */
function internTexts({ writer, packet }: Trace, origins: readonly string[]): void {
  packet(
    () =>
      writer.message(PACKET.internedData, () => {
        const entries = (field: number, texts: readonly string[]): void => {
          for (const [index, text] of texts.entries())
            writer.message(field, () => {
              writer.uint(ENTRY.id, index + 1);
              writer.text(ENTRY.text, text);
            });
        };
        entries(INTERNED.eventNames, MNEMONICS);
        entries(INTERNED.annotationNames, ANNOTATIONS);
        entries(INTERNED.annotationTexts, origins);
      }),
    FLAGS.cleared,
  );
}

/** A process for each chip, in it a track for each unit, and below that those of its queues. */
function* burstTracks(
  trace: Trace,
  activity: Activity,
  describe: (instruction: TimedInstruction) => string,
): Generator<Uint8Array> {
  const { writer, track } = trace;
  const { program, bursts } = activity;
  const { target, chips } = program;
  const flows = flowsOf(activity);
  const writeBurst = (burst: number, uuid: number): void => {
    const instruction = bursts.instructions[burst];
    if (instruction === undefined) return;
    writeEvent(trace, uuid, TYPE.begin, bursts.cycle[burst] as number, () => {
      writer.uint(EVENT.nameId, MNEMONICS.indexOf(instruction.op) + 1);
      annotate(writer, "node", () => writer.uint(ANNOTATION.textId, (bursts.origin[burst] as number) + 1));
      annotate(writer, "instruction", () => writer.text(ANNOTATION.text, describe(instruction)));
      annotate(writer, "executions", () => writer.uint(ANNOTATION.uint, instruction.count));
      annotate(writer, "femtojoules (model)", () => writer.uint(ANNOTATION.uint, bursts.energy[burst] as number));
      for (const flow of flows.from(burst)) writer.fixed64(EVENT.flows, flow);
      for (const flow of flows.to(burst)) writer.fixed64(EVENT.endingFlows, flow);
    });
    writeEvent(trace, uuid, TYPE.end, (bursts.last[burst] as number) + 1);
  };

  for (let chip = 0; chip < chips.length; chip++) {
    const title = `${chips.length === 1 ? target.name : `${target.name} chip ${chip}`} (1 ns is 1 cycle)`;
    const process = track(0, chip, title, () =>
      writer.message(DESCRIPTOR.process, () => {
        writer.uint(PROCESS.pid, chip + 1);
        writer.text(PROCESS.name, title);
      }),
    );
    const units = UNITS.map((unit, index) => track(process, index, unit));
    for (let queue = 0; queue < queueCount(target); queue++) {
      const parent = units[UNITS.indexOf(unitOf(target, queue))] as number;
      const lanes: { readonly uuid: number; end: number }[] = [];
      const [first, last] = bursts.ofQueue(chip, queue);
      for (let burst = first; burst < last; burst++) {
        const start = bursts.cycle[burst] as number;
        let lane = lanes.find(({ end }) => end <= start);
        if (lane === undefined) {
          lane = { uuid: track(parent, queue, queueName(target, queue)), end: 0 };
          lanes.push(lane);
        }
        lane.end = (bursts.last[burst] as number) + 1;
        writeBurst(burst, lane.uuid);
        yield* writer.take();
      }
    }
  }
}

/** Power by unit, vectors given to streams, and live SRAM, behind the chips. */
function* counterTracks(trace: Trace, activity: Activity, power: Power): Generator<Uint8Array> {
  const { writer, track } = trace;
  const { target, chips } = activity.program;
  const count = (uuid: number, at: number, write: () => void): void => writeEvent(trace, uuid, TYPE.counter, at, write);
  const counter = (name: string, rank: number, unit?: number): number =>
    track(0, chips.length + rank, name, () =>
      writer.message(DESCRIPTOR.counter, () => {
        if (unit !== undefined) writer.uint(COUNTER.unit, unit);
      }),
    );
  for (const [rank, row] of POWER_ROWS.entries()) {
    const uuid = counter(`power of ${row} (W, a model)`, rank);
    for (let bin = 0; bin < power.bins; bin++) {
      const cycles = binCycles(activity.cycles, power.grid, bin);
      const value = watts(target, power.energy[row][bin] as number, cycles);
      count(uuid, bin * power.grid, () => writer.double(EVENT.doubleCounterValue, value));
    }
    yield* writer.take();
  }
  const streams = counter("byte vectors given to streams a cycle", POWER_ROWS.length);
  const given = givenByBin(activity, power.grid, power.bins);
  for (let bin = 0; bin < power.bins; bin++) {
    const value = (given[bin] as number) / binCycles(activity.cycles, power.grid, bin);
    count(streams, bin * power.grid, () => writer.double(EVENT.doubleCounterValue, value));
  }
  const sram = counter("live SRAM", POWER_ROWS.length + 1, UNIT_BYTES);
  const { constants, live } = activity.memory;
  for (let step = 0; step < live.cycle.length; step++) {
    const bytes = (constants + (live.value[step] as number)) * target.lanes;
    count(sram, live.cycle[step] as number, () => writer.uint(EVENT.counterValue, bytes));
    yield* writer.take();
  }
}

/** An event on a track at a cycle; `more`: what it says besides. */
function writeEvent({ writer, packet }: Trace, uuid: number, type: number, cycle: number, more = (): void => {}): void {
  packet(() => {
    writer.uint(PACKET.timestamp, cycle);
    writer.message(PACKET.trackEvent, () => {
      writer.uint(EVENT.type, type);
      writer.uint(EVENT.track, uuid);
      more();
    });
  });
}

function annotate(writer: ProtoWriter, name: (typeof ANNOTATIONS)[number], value: () => void): void {
  writer.message(EVENT.annotations, () => {
    writer.uint(ANNOTATION.nameId, ANNOTATIONS.indexOf(name) + 1);
    value();
  });
}

/** One flow for each pair of bursts of which one takes what the other gives, numbered from 1. */
function flowsOf({ bursts, flights }: Activity): {
  readonly from: (burst: number) => Iterable<number>;
  readonly to: (burst: number) => Iterable<number>;
} {
  const byFrom = sortByBin(flights.from, bursts.size);
  const givers: number[] = [];
  const takers: number[] = [];
  for (let burst = 0; burst < bursts.size; burst++) {
    const [first, last] = [byFrom.start[burst] as number, byFrom.start[burst + 1] as number];
    for (const to of new Set(
      Array.from(byFrom.order.subarray(first, last), (flight) => flights.to[flight] as number),
    )) {
      if (to < 0) continue;
      givers.push(burst);
      takers.push(to);
    }
  }
  const lists = [givers, takers].map((ends) => sortByBin(Int32Array.from(ends), bursts.size));
  const listed = (which: 0 | 1) =>
    function* (burst: number): Generator<number> {
      const { order, start } = lists[which] as (typeof lists)[number];
      for (let k = start[burst] as number; k < (start[burst + 1] as number); k++) yield (order[k] as number) + 1;
    };
  return { from: listed(0), to: listed(1) };
}

/** Byte vectors that are given to streams in each bin, or what `totalOf` says of all executions of a burst, booked at their dispatch. */
export function givenByBin(
  { bursts }: Activity,
  grid: number,
  bins: number,
  totalOf: (instruction: TimedInstruction, burst: number) => number = (_, burst) => bursts.given[burst] as number,
): Float64Array {
  const given = new Float64Array(bins);
  for (let burst = 0; burst < bursts.size; burst++) {
    const total = totalOf(bursts.instructions[burst] as TimedInstruction, burst);
    if (total === 0) continue;
    const [cycle, count, interval] = [bursts.cycle, bursts.count, bursts.interval].map(
      (column) => column[burst] as number,
    ) as [number, number, number];
    let before = 0;
    for (let bin = Math.floor(cycle / grid); bin <= Math.floor((bursts.last[burst] as number) / grid); bin++) {
      const executed = Math.min(count, Math.ceil(((bin + 1) * grid - cycle) / interval));
      (given[bin] as number) += ((executed - before) * total) / count;
      before = executed;
    }
  }
  return given;
}

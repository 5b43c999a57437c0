/**
 * The trace read back by another reader of protocol buffers, with the messages of Perfetto as they are published.
 */

import { beforeAll, describe, expect, test } from "@jest/globals";
import protobuf from "protobufjs";
import { MNEMONICS } from "../src/ir/isa.js";
import { queueCount, queueName, chosenEntry } from "../src/ir/program.js";
import { type Activity, activityOf } from "../src/report/activity.js";
import { binCycles, powerOf, POWER_ROWS, type Power } from "../src/report/power.js";
import { ProtoWriter } from "../src/report/proto.js";
import { givenByBin, traceChunks } from "../src/report/trace.js";
import { compileSmall } from "./compiled.js";

/** The part of protos/perfetto/trace that a trace of a program has. */
const PERFETTO = `
  syntax = "proto2";
  message Trace { repeated TracePacket packet = 1; }
  message TracePacket {
    optional uint64 timestamp = 8;
    optional uint32 trusted_packet_sequence_id = 10;
    optional TrackEvent track_event = 11;
    optional InternedData interned_data = 12;
    optional uint32 sequence_flags = 13;
    optional TrackDescriptor track_descriptor = 60;
  }
  message InternedData {
    repeated Entry event_names = 2;
    repeated Entry debug_annotation_names = 3;
    repeated Entry debug_annotation_string_values = 29;
  }
  message Entry { optional uint64 iid = 1; optional string name = 2; }
  message TrackDescriptor {
    optional uint64 uuid = 1;
    optional string name = 2;
    optional ProcessDescriptor process = 3;
    optional uint64 parent_uuid = 5;
    optional CounterDescriptor counter = 8;
    optional uint32 child_ordering = 11;
    optional int32 sibling_order_rank = 12;
  }
  message ProcessDescriptor { optional int32 pid = 1; optional string process_name = 6; }
  message CounterDescriptor { optional uint32 unit = 3; }
  message TrackEvent {
    repeated DebugAnnotation debug_annotations = 4;
    optional uint32 type = 9;
    optional uint64 name_iid = 10;
    optional uint64 track_uuid = 11;
    optional int64 counter_value = 30;
    optional double double_counter_value = 44;
    repeated fixed64 flow_ids = 47 [packed = false];
    repeated fixed64 terminating_flow_ids = 48 [packed = false];
  }
  message DebugAnnotation {
    optional uint64 name_iid = 1;
    optional uint64 uint_value = 3;
    optional string string_value = 6;
    optional uint64 string_value_iid = 17;
  }
`;

interface Entry {
  readonly iid: number;
  readonly name: string;
}
interface TrackEvent {
  readonly type: number;
  readonly nameIid?: number;
  readonly trackUuid: number;
  readonly counterValue?: number;
  readonly doubleCounterValue?: number;
  readonly flowIds?: readonly number[];
  readonly terminatingFlowIds?: readonly number[];
  readonly debugAnnotations?: readonly {
    readonly nameIid: number;
    readonly uintValue?: number;
    readonly stringValue?: string;
    readonly stringValueIid?: number;
  }[];
}
interface Packet {
  readonly timestamp?: number;
  readonly trustedPacketSequenceId: number;
  readonly sequenceFlags: number;
  readonly trackEvent?: TrackEvent;
  readonly internedData?: Readonly<
    Record<"eventNames" | "debugAnnotationNames" | "debugAnnotationStringValues", Entry[]>
  >;
  readonly trackDescriptor?: {
    readonly uuid: number;
    readonly name: string;
    readonly parentUuid?: number;
    readonly process?: { readonly pid: number; readonly processName: string };
    readonly counter?: { readonly unit?: number };
  };
}

const join = (chunks: Iterable<Uint8Array>): Uint8Array => Buffer.concat([...chunks]);

describe("a trace of bert", () => {
  let activity: Activity;
  let power: Power;
  let packets: readonly Packet[] = [];
  const tracks = new Map<number, NonNullable<Packet["trackDescriptor"]>>();
  const slices: { readonly begin: TrackEvent; readonly from: number; readonly to: number; readonly track: number }[] =
    [];

  beforeAll(() => {
    activity = activityOf(chosenEntry(compileSmall("bert", "lpu-v1").program));
    power = powerOf(activity, 100);
    const { root } = protobuf.parse(PERFETTO);
    const type = root.lookupType("Trace");
    const decoded = type.decode(join(traceChunks(activity, power, ({ op, cycle }) => `${op} at ${cycle}`)));
    packets = (type.toObject(decoded, { longs: Number }) as { packet: Packet[] }).packet;
    const open = new Map<number, { begin: TrackEvent; from: number }>();
    for (const { trackDescriptor, trackEvent, timestamp = -1 } of packets) {
      if (trackDescriptor !== undefined) tracks.set(trackDescriptor.uuid, trackDescriptor);
      if (trackEvent?.type === 1) {
        expect(open.has(trackEvent.trackUuid)).toBe(false);
        open.set(trackEvent.trackUuid, { begin: trackEvent, from: timestamp });
      } else if (trackEvent?.type === 2) {
        const begun = open.get(trackEvent.trackUuid);
        if (begun !== undefined) slices.push({ ...begun, to: timestamp, track: trackEvent.trackUuid });
        open.delete(trackEvent.trackUuid);
      }
    }
    expect(open.size).toBe(0);
  });

  test("is of one sequence that begins with what it refers to", () => {
    expect(new Set(packets.map(({ trustedPacketSequenceId }) => trustedPacketSequenceId))).toEqual(new Set([1]));
    expect(packets.map(({ sequenceFlags }) => sequenceFlags).indexOf(2)).toBe(1);
    expect(packets[0]).toMatchObject({ sequenceFlags: 1 });
    const names = packets[0]?.internedData?.debugAnnotationStringValues.map(({ name }) => name);
    expect(names).toEqual(activity.program.origins);
  });

  test("has every burst as a slice of its queue's track, with its node, and slices of a track never overlap", () => {
    const { bursts, program } = activity;
    const { target } = program;
    const shown = slices.map(({ begin, from, to, track }) => {
      const texts = (begin.debugAnnotations ?? []).map(({ uintValue, stringValue, stringValueIid }) =>
        stringValueIid === undefined ? (stringValue ?? uintValue) : program.origins[stringValueIid - 1],
      );
      return [tracks.get(track)?.name, MNEMONICS[(begin.nameIid ?? 0) - 1], from, to, ...texts].join(" ");
    });
    const expected = bursts.instructions.map(({ op, cycle, count, origin }, burst) =>
      [
        queueName(target, bursts.queue[burst] as number),
        ...[op, cycle, (bursts.last[burst] as number) + 1],
        ...[program.origins[origin], `${op} at ${cycle}`, count, bursts.energy[burst]],
      ].join(" "),
    );
    expect(shown.sort()).toEqual(expected.sort());
    const ends = new Map<number, number>();
    for (const { track, from, to } of slices) {
      expect(from).toBeGreaterThanOrEqual(ends.get(track) ?? 0);
      ends.set(track, to);
    }
  });

  test("tracks lie in units, and units in chips", () => {
    const queues = new Set(
      Array.from({ length: queueCount(activity.program.target) }, (_, queue) =>
        queueName(activity.program.target, queue),
      ),
    );
    for (const { name, parentUuid = 0, counter, process } of tracks.values()) {
      if (counter !== undefined || process !== undefined) expect(parentUuid).toBe(0);
      else if (queues.has(name)) expect(["mem", "vxm", "mxm", "sxm"]).toContain(tracks.get(parentUuid)?.name);
      else expect(tracks.get(parentUuid)?.process?.pid).toBe(1);
    }
  });

  test("every flow leads from the burst that gives to the one that takes, later in time", () => {
    const begun = new Map<number, (typeof slices)[number]>();
    for (const slice of slices) for (const flow of slice.begin.flowIds ?? []) begun.set(flow, slice);
    const { flights, bursts } = activity;
    const place = (burst: number): string =>
      `${queueName(activity.program.target, bursts.queue[burst] as number)} ${bursts.cycle[burst]}`;
    const expected = new Set<string>();
    for (let flight = 0; flight < flights.size; flight++) {
      const [from, to] = [flights.from[flight] as number, flights.to[flight] as number];
      if (to >= 0) expected.add(`${place(from)} -> ${place(to)}`);
    }
    const found = slices.flatMap((slice) =>
      (slice.begin.terminatingFlowIds ?? []).map((flow) => {
        const giver = begun.get(flow);
        expect(giver?.from).toBeLessThan(slice.from);
        return `${tracks.get(giver?.track ?? 0)?.name} ${giver?.from} -> ${tracks.get(slice.track)?.name} ${slice.from}`;
      }),
    );
    expect(found).toHaveLength(expected.size);
    expect(new Set(found)).toEqual(expected);
    expect(begun.size).toBe(expected.size);
  });

  test("counters are the power, the streams and the memory of the activity", () => {
    const valuesOf = (name: string): readonly (readonly [number, number])[] =>
      packets.flatMap(({ timestamp = -1, trackEvent }) =>
        trackEvent?.type === 4 && tracks.get(trackEvent.trackUuid)?.name === name
          ? [[timestamp, trackEvent.counterValue ?? trackEvent.doubleCounterValue ?? 0] as const]
          : [],
      );
    const { cycles, memory, program, bursts } = activity;
    const { clock, lanes } = program.target;
    const joules = POWER_ROWS.flatMap((row) =>
      valuesOf(`power of ${row} (W, a model)`).map(
        ([at, watts]) => (watts * binCycles(cycles, power.grid, at / power.grid)) / (clock * 1e6),
      ),
    ).reduce((sum, value) => sum + value, 0);
    expect(joules / (power.total * 1e-15)).toBeCloseTo(1, 9);
    const given = valuesOf("byte vectors given to streams a cycle").map(
      ([at, rate]) => rate * binCycles(cycles, power.grid, at / power.grid),
    );
    const all = bursts.given.reduce((sum, value) => sum + value, 0);
    expect(given.reduce((sum, value) => sum + value, 0)).toBeCloseTo(all, 6);
    expect(givenByBin(activity, 7, Math.ceil(cycles / 7)).reduce((sum, value) => sum + value, 0)).toBe(all);
    expect(valuesOf("live SRAM")).toEqual(
      Array.from(memory.live.cycle, (at, step) => [
        at,
        (memory.constants + (memory.live.value[step] as number)) * lanes,
      ]),
    );
  });
});

test("messages of any length and depth are read back as they were written", () => {
  const type = protobuf
    .parse(
      'syntax = "proto2"; message M { optional M inner = 1; optional string text = 2; optional uint64 number = 3; optional fixed64 fixed = 16; optional double real = 17; }',
    )
    .root.lookupType("M");
  const writer = new ProtoWriter();
  const texts = ["", "é".repeat(63), "x".repeat(127), "x".repeat(128), "€".repeat(9000), "x".repeat(600_000)];
  const chunks: Uint8Array[] = [];
  const write = (depth: number): void => {
    for (const text of texts.slice(depth)) writer.text(2, text);
    writer.uint(3, 2 ** (10 * depth) - 1);
    writer.fixed64(16, 2 ** (8 * depth));
    writer.double(17, -depth / 3);
    if (depth < 5) writer.message(1, () => write(depth + 1));
  };
  write(0);
  chunks.push(...writer.take(true), ...writer.take(true));
  let message = type.toObject(type.decode(join(chunks)), { longs: Number });
  for (let depth = 0; depth <= 5; depth++) {
    expect([message["text"]?.length, message["number"]]).toEqual([600_000, 2 ** (10 * depth) - 1]);
    expect([message["fixed"], message["real"]]).toEqual([2 ** (8 * depth), -depth / 3]);
    message = message["inner"] as typeof message;
  }
});

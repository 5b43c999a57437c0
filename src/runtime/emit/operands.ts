/**
 * Operands as kernels want them: fields of instructions, and streams as byte planes or whole elements.
 *
 * What a burst takes lies as byte planes (from SRAM) or whole (from ALUs, accumulators and the SXM). Each function here says
 * where it lies if the form is right, and otherwise calls a kernel that brings it into that form in scratch memory.
 */

import type { TimedInstruction } from "../../ir/program.js";
import { modeOf, STREAM_TYPES, type StreamType } from "../../ir/isa.js";
import type { BufferLayout, Place } from "./layout.js";
import { SEGMENT, SEGMENT_SIZE } from "../link/streams.js";
import { elementType, ENTRY, ENTRY_SIZE, instructionOf, type Tables } from "../link/tables.js";

export const fieldsOf = (layout: BufferLayout, burst: number): TimedInstruction["fields"] =>
  instructionOf(layout.findings.tables, burst).fields;
export const number = (layout: BufferLayout, burst: number, field: string): number =>
  Number(fieldsOf(layout, burst)[field]);
export const elementBytes = (layout: BufferLayout, burst: number): number =>
  STREAM_TYPES[typeOf(layout.findings.tables, burst, "type")].bytes;

export const typeOf = (tables: Tables, burst: number, field: string): StreamType =>
  elementType(instructionOf(tables, burst), field);

export const wordOf = (tables: Tables, burst: number): string => modeOf(instructionOf(tables, burst));

/** First TAKE entry of an operand slot; -1 if the operand takes nothing. */
export function takes(layout: BufferLayout, burst: number, slot: number): number {
  const { takes, takeFirst } = layout.findings.tables;
  for (let entry = takeFirst.at(burst); entry < takeFirst.at(burst + 1); entry++) {
    if (takes.at(entry * ENTRY_SIZE + ENTRY.slot) === slot) return entry;
  }
  return -1;
}

export function producerOf(layout: BufferLayout, segment: number): number {
  const { tables, matches } = layout.findings;
  return tables.gives.at(matches.segments.at(segment * SEGMENT_SIZE + SEGMENT.give) * ENTRY_SIZE);
}

export function copyPlane(layout: BufferLayout, to: Place, from: Place, count: number): void {
  if (from.laneStride === 1)
    layout.call("copyRows", to.address, to.stride, from.address, from.stride, count, layout.lanes);
  else
    layout.call("extractPlane", to.address, to.stride, from.address, from.stride, from.laneStride, count, layout.lanes);
}

/** One stream of an operand with lanes side by side. */
export function plane(layout: BufferLayout, entry: number, first: number, count: number): Place {
  const place = layout.takePlace(entry, first);
  if (place.laneStride === 1) return place;
  const own: Place = { address: layout.scratch(count * layout.lanes), stride: layout.lanes, laneStride: 1 };
  copyPlane(layout, own, place, count);
  return own;
}

export function mapPlanes(
  layout: BufferLayout,
  burst: number,
  slot: number,
  first: number,
  count: number,
): readonly [Place, Place] {
  const entry = takes(layout, burst, slot);
  return [plane(layout, entry, first, count), plane(layout, entry + 1, first, count)];
}

/** Lanes at and beyond the vector length of the queue are given as zero. */
export function mask(layout: BufferLayout, burst: number, to: Place, count: number): void {
  const length = layout.findings.tables.length.at(burst);
  const rest = layout.lanes - length;
  if (rest <= 0) return;
  if (to.laneStride === 0)
    layout.call("fillRows", to.address + length, layout.lanes, (count * to.stride) / layout.lanes, rest);
  else layout.call("fillRows", to.address + length * to.laneStride, to.stride, count, rest * to.laneStride);
}

/** An operand as whole elements of `width` bytes with lanes side by side. */
export function wholeOperand(
  layout: BufferLayout,
  burst: number,
  slot: number,
  width: number,
  first: number,
  count: number,
): Place {
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

export function areElements(streams: readonly Place[], width: number): boolean {
  const [low] = streams;
  return (
    low !== undefined &&
    streams.every(
      ({ address, stride, laneStride }, byte) =>
        laneStride === width && address === low.address + byte && stride === low.stride,
    )
  );
}

/**
 * Kernel calls of the VXM: operands become rows of fp32 or int32, the function runs on them, the result is stored as a type.
 *
 * Results stay in 32 bits for the ALUs that chain them. An int function takes rounded floats, a float function converted integers,
 * as `lanes.ts` has it.
 */

import { ALU_FUNCTIONS, isAluFunction, STREAM_TYPES, type StreamType } from "../../ir/isa.js";
import { aluKernelName } from "../kernels/alu.js";
import { TYPE_NUMBERS } from "../kernels/stream.js";
import { floatToInt } from "../lanes.js";
import type { BufferLayout, Place } from "./layout.js";
import { areElements, fieldsOf, mask, plane, producerOf, takes, typeOf } from "./operands.js";
import { isWhole } from "../link/order.js";
import { ENTRY, ENTRY_SIZE, NO_STREAM, type Tables } from "../link/tables.js";

export function isInt(tables: Tables, burst: number): boolean {
  const name = String(tables.instructions[burst]?.fields["function"]);
  return isAluFunction(name) && ALU_FUNCTIONS[name].int;
}

/** Rows of 32-bit numbers of one kind as rows of the other, one after another at `to`. */
export function convertRows(
  layout: BufferLayout,
  to: number,
  from: Place,
  count: number,
  fromInt: boolean,
  toInt: boolean,
): void {
  if (fromInt === toInt)
    layout.call("copyRows", to, layout.lanes * 4, from.address, from.stride, count, layout.lanes * 4);
  else layout.call(toInt ? "floatToInt" : "intToFloat", to, from.address, from.stride, count, layout.lanes);
}

const rowBytes = (layout: BufferLayout): number => layout.lanes * 4;

/** An ALU operand as rows of fp32 or int32. */
function aluOperand(
  layout: BufferLayout,
  burst: number,
  slot: number,
  field: string,
  typeField: string,
  int: boolean,
  first: number,
  count: number,
): Place {
  const { tables } = layout.findings;
  const value = fieldsOf(layout, burst)[field];
  if (typeof value === "object" && value !== null && "constant" in value)
    return constantRow(layout, Number(value.constant), int);
  const entry = takes(layout, burst, slot);
  if (tables.takes.at(entry * ENTRY_SIZE + ENTRY.stream) === NO_STREAM) {
    const place = layout.takePlace(entry, first);
    const { matches } = layout.findings;
    // Operands put together from several bursts were converted on the way.
    const producerInt = isWhole(tables, matches, entry)
      ? isInt(tables, producerOf(layout, matches.first[entry] as number))
      : int;
    return producerInt === int ? place : converted(layout, place, count, producerInt, int);
  }
  const type = typeOf(tables, burst, typeField);
  const { bytes: width, lane } = STREAM_TYPES[type];
  const typeIsInt = lane === "int";
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

function converted(layout: BufferLayout, from: Place, count: number, fromInt: boolean, toInt: boolean): Place {
  const address = layout.scratch(count * rowBytes(layout));
  convertRows(layout, address, from, count, fromInt, toInt);
  return { address, stride: rowBytes(layout), laneStride: 4 };
}

function constantRow(layout: BufferLayout, value: number, int: boolean): Place {
  const words = int ? Int32Array.of(floatToInt(value)) : new Int32Array(Float32Array.of(value).buffer);
  const [bits = 0] = words;
  return {
    address: layout.fixedWords(`constant ${bits}`, () => new Int32Array(layout.lanes).fill(bits)),
    stride: 0,
    laneStride: 4,
  };
}

export function compute(
  layout: BufferLayout,
  burst: number,
  first: number,
  count: number,
  types: readonly string[],
): void {
  const { tables } = layout.findings;
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
function store(layout: BufferLayout, to: number, from: number, type: StreamType, int: boolean, count: number): void {
  const lanes = count * layout.lanes;
  const float = STREAM_TYPES[type].lane === "float";
  if (int && float) {
    const numbers = type === "f32" ? to : layout.scratch(lanes * 4);
    layout.call("intToFloat", numbers, from, rowBytes(layout), count, layout.lanes);
    if (type === "f16") layout.call("storeHalf", to, numbers, lanes);
  } else if (float) layout.call(type === "f16" ? "storeHalf" : "storeFloat", to, from, lanes);
  else layout.call("storeAny", to, from, lanes, TYPE_NUMBERS[type], int ? 1 : 0);
}

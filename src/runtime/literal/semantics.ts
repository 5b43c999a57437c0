/**
 * What every instruction does, one handler a row of ISA: the meaning that the literal machine executes.
 *
 * A handler runs at the cycle of dispatch, when it may claim ports and look at buffers, and may return what is to be done
 * once its operands have been taken: in the same cycle, or later where the operand arrives with a skew. Results go to
 * `machine.give`, which puts them on the unit's stream register after the latency of the row. Handlers of the MXM are in
 * `semantics-mxm.ts`.
 */

import { at, sure } from "../../diagnostics.js";
import { aluBinary, aluTernary, aluUnary } from "../../ir/functions.js";
import { ALU_FUNCTIONS, type AluFunction, isAluFunction, type Mnemonic } from "../../ir/isa.js";
import { arrivalOf, flipBit, wireCheck } from "../disturb.js";
import { convertLanes, floatToInt, type LaneValues, readLanes, writeLanes } from "../lanes.js";
import { numberField, typeField, type Vector } from "../program.js";
import { mxmSemantics } from "./semantics-mxm.js";
import { broken, changed, type Execution, type Handler, hemisphereIndex, type Port, type Slice } from "./state.js";

export const semantics: { readonly [M in Mnemonic]: Handler } = {
  /** Waiting is the queue's own business: `literal.ts` knows until when it is busy. */
  nop: () => undefined,
  ifetch: (x) => () => x.machine.fetch(x, joined(taken(x, "source"))),
  sync: (x) => {
    const release = x.state.notified + x.target.timing.barrier;
    if (!(x.cycle <= release)) broken(x, "LPU4016", "no notify releases this sync");
    return undefined;
  },
  notify: (x) => {
    if (x.cycle !== x.state.notified) broken(x, "LPU4016", "the chip has notified before");
    return undefined;
  },
  config: (x) => {
    const length = numberField(x, "length");
    if (length % x.target.superlane !== 0)
      broken(x, "LPU4008", `expected a multiple of ${x.target.superlane} lanes, got ${length}`);
    x.state.lengths[x.queue] = length;
    return undefined;
  },
  repeat: notAlone,
  countdown: notAlone,
  step: notAlone,
  iterations: notAlone,

  read: (x) => {
    const row = numberField(x, "address");
    const slice = claim(x, "read", bankOf(x, row));
    readable(x, slice, row);
    return () => give(x, "stream", [rowBytes(x, row).slice()]);
  },
  write: (x) => {
    const row = numberField(x, "address");
    claim(x, "write", bankOf(x, row));
    return () => {
      rowBytes(x, row).set(single(x, "stream"));
      x.machine.sram.written[rowIndex(x, row)] = 1;
      x.state.writes.set(rowIndex(x, row), x.cycle);
      changed(x.state, x.cycle + x.target.timing.memWrite);
    };
  },
  gather: (x) => {
    const slice = claim(x, "read", -1);
    if (x.cycle < slice.write.cycle + x.target.timing.memWrite) broken(x, "LPU4006");
    return () => {
      const vector = new Uint8Array(x.target.lanes);
      eachSuperlane(x, (row, from, to) => {
        if (x.machine.sram.written[rowIndex(x, row)] !== 1) broken(x, "LPU4005", `row ${row} was never written`);
        vector.set(rowBytes(x, row).subarray(from, to), from);
      });
      give(x, "stream", [vector]);
    };
  },
  scatter: (x) => {
    claim(x, "write", -1).lastScatter = x.cycle;
    return () => {
      const vector = single(x, "stream");
      eachSuperlane(x, (row, from, to) => rowBytes(x, row).set(vector.subarray(from, to), from));
      changed(x.state, x.cycle + x.target.timing.memWrite);
    };
  },

  unary: (x) => () => compute(x, [{ field: "a", type: "type" }]),
  binary: (x) => () =>
    compute(x, [
      { field: "a", type: "typeA" },
      { field: "b", type: "typeB" },
    ]),
  ternary: (x) => () =>
    compute(x, [
      { field: "a", type: "typeA" },
      { field: "b", type: "typeB" },
      { field: "c", type: "typeC" },
    ]),

  ...mxmSemantics,

  shift: (x) => () => {
    const by = numberField(x, "lanes");
    rearrange(x, (lane) => lane - by);
  },
  rotate: (x) => () => {
    const by = numberField(x, "lanes");
    const { lanes } = x.target;
    rearrange(x, (lane) => (((lane - by) % lanes) + lanes) % lanes);
  },
  permute: (x) => {
    const map = laneMap(x, x.target.lanes);
    return () => rearrange(x, (lane) => at(map, lane, "lane"));
  },
  distribute: (x) => {
    const { superlane } = x.target;
    const map = laneMap(x, superlane);
    return () =>
      rearrange(x, (lane) => {
        const source = at(map, lane % superlane, "lane");
        return source < 0 ? -1 : lane - (lane % superlane) + source;
      });
  },
  select: (x) => {
    const map = laneMap(x, x.target.lanes, true);
    return () => {
      const other = taken(x, "b");
      give(
        x,
        "give",
        taken(x, "a").map((vector, byte) =>
          vector.map((value, lane) => (map[lane] === 0 ? value : at(at(other, byte, "stream"), lane, "lane"))),
        ),
      );
    };
  },
  transpose: (x) => () => {
    const { superlane } = x.target;
    const source = taken(x, "source");
    give(
      x,
      "give",
      source.map((vector, stream) =>
        vector.map((_, lane) => at(at(source, lane % superlane, "stream"), lane - (lane % superlane) + stream, "lane")),
      ),
    );
  },

  deskew: () => undefined,
  send: (x) => {
    const link = numberField(x, "link");
    const inbox = x.machine.inboxOf(x.chip, link);
    if (inbox === undefined) return broken(x, "LPU4015", `link ${link} is not connected`);
    const free = (x.state.sentAt[link] ?? Number.NEGATIVE_INFINITY) + x.target.timing.linkInterval;
    if (x.cycle < free) broken(x, "LPU4015", `link ${link} takes the next vector at cycle ${free}`);
    x.state.sentAt[link] = x.cycle;
    changed(x.state, x.cycle + x.target.timing.c2cSend);
    const { program, flipped } = x.machine;
    const { jitter, flip } = program.disturbed ?? {};
    const arrival = arrivalOf(x.target, jitter, x.chip, link, x.cycle);
    const isFlipped = flipped?.chip === x.chip && flipped.queue === x.queue && flipped.cycle === x.cycle;
    return () => {
      const vector = single(x, "stream").slice();
      const check = wireCheck(vector);
      if (flip !== undefined && isFlipped) flipBit(vector, flip.bit);
      inbox.push({ arrival, vector, check });
    };
  },
  receive: (x) => {
    const link = numberField(x, "link");
    const first = x.state.inbox[link]?.[0];
    if (first === undefined || first.arrival > x.cycle)
      return broken(x, "LPU4015", `nothing has arrived on link ${link}`);
    if (wireCheck(first.vector) !== first.check) broken(x, "LPU4018");
    x.state.inbox[link]?.shift();
    return () => give(x, "stream", [first.vector]);
  },
};

function notAlone(x: Execution): never {
  return broken(x, "LPU4008", `'${x.instruction.op}' is part of a burst and cannot stand alone`);
}

const taken = (x: Execution, field: string): readonly Vector[] => sure(x.operands.get(field), "operand");
const single = (x: Execution, field: string): Vector => taken(x, field)[0] ?? new Uint8Array(x.target.lanes);

/** Gives bytes; lanes beyond the vector length of the unit are zero. */
function give(x: Execution, field: string, vectors: readonly Vector[]): void {
  const length = at(x.state.lengths, x.queue, "queue");
  x.machine.give(
    x,
    field,
    length < x.target.lanes
      ? vectors.map((vector) => vector.map((value, lane) => (lane < length ? value : 0)))
      : vectors,
  );
}

function joined(vectors: readonly Vector[]): Uint8Array {
  const bytes = new Uint8Array(vectors.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const vector of vectors) {
    bytes.set(vector, at);
    at += vector.length;
  }
  return bytes;
}

const bankOf = (x: Execution, row: number): number => Math.floor(row / x.target.rowsPerBank);
const rowIndex = (x: Execution, row: number): number =>
  x.machine.sram.rowIndex(x.chip, sure(x.place.hemisphere, "hemisphere"), x.place.index, row);
const rowBytes = (x: Execution, row: number): Uint8Array =>
  x.machine.sram.span(x.chip, sure(x.place.hemisphere, "hemisphere"), x.place.index, row, 1);

/** Takes a port of the slice for this cycle; bank -1 is both. A burst also takes the address generator, to its end. */
function claim(x: Execution, kind: "read" | "write", bank: number): Slice {
  const slice = x.state.slices[hemisphereIndex(x.place) * x.target.slices + x.place.index];
  if (slice === undefined) return broken(x, "LPU4008", "no such slice");
  const port = slice[kind];
  const other: Port = kind === "read" ? slice.write : slice.read;
  const { count, interval } = x.instruction;
  if (port.cycle === x.cycle) broken(x, "LPU4003", `the slice already has a ${kind} in this cycle`);
  if (other.cycle === x.cycle && (bank < 0 || other.bank < 0 || bank === other.bank)) {
    broken(x, "LPU4004", "read and write of one bank in one cycle");
  }
  if (count > 1 && x.index === 0) {
    if (port.generatorUntil >= x.cycle)
      broken(x, "LPU4003", `the ${kind} address generator runs until cycle ${port.generatorUntil}`);
    port.generatorUntil = x.cycle + (count - 1) * interval;
  }
  port.cycle = x.cycle;
  port.bank = bank;
  return slice;
}

function readable(x: Execution, slice: Slice, row: number): void {
  const index = rowIndex(x, row);
  if (x.machine.sram.written[index] !== 1) broken(x, "LPU4005", `row ${row} was never written`);
  const last = Math.max(x.state.writes.get(index) ?? Number.NEGATIVE_INFINITY, slice.lastScatter);
  const ready = last + x.target.timing.memWrite;
  if (x.cycle < ready) broken(x, "LPU4006", `row ${row} may be read at cycle ${ready}`);
}

/** The row address that field `map` has for every superlane. */
function eachSuperlane(x: Execution, visit: (row: number, from: number, to: number) => void): void {
  const { lanes, superlane, rowsPerBank } = x.target;
  const [low, high] = taken(x, "map");
  for (let from = 0; from < lanes; from += superlane) {
    const row = (low?.[from] ?? 0) | ((high?.[from] ?? 0) << 8);
    if (row >= 2 * rowsPerBank)
      broken(x, "LPU4014", `expected a row below ${2 * rowsPerBank}, got ${row} in superlane ${from / superlane}`);
    visit(row, from, from + superlane);
  }
}

/** Keeps a result for as long as it can be chained. */
function remember(results: Map<number, LaneValues>, cycle: number, result: LaneValues, reach: number): void {
  for (const old of results.keys()) {
    if (old >= cycle - reach) break;
    results.delete(old);
  }
  results.set(cycle, result);
}

const LANEWISE: { readonly [F in AluFunction]: (a: number, b: number, c: number) => number } = {
  ...aluUnary,
  ...aluBinary,
  ...aluTernary,
};

interface AluOperand {
  readonly field: string;
  readonly type: string;
}

function compute(x: Execution, fields: readonly AluOperand[]): void {
  const { instruction, state, cycle, place, target } = x;
  const name = String(instruction.fields["function"]);
  if (!isAluFunction(name)) broken(x, "LPU4008", `no ALU function '${name}'`);
  const { int } = ALU_FUNCTIONS[name];
  const operands = fields.map((operand) => aluOperand(x, operand, int));
  const result: LaneValues = { int, values: new Float64Array(target.lanes) };
  const apply = LANEWISE[name];
  for (let lane = 0; lane < target.lanes; lane++) {
    result.values[lane] = apply(operands[0]?.[lane] ?? 0, operands[1]?.[lane] ?? 0, operands[2]?.[lane] ?? 0);
  }
  const results = state.results[place.index];
  changed(state, cycle + target.timing.vxmAlu);
  if (results !== undefined) remember(results, cycle, result, target.timing.vxmAlu + target.chainDepth);
  for (const field of ["give", "give2"]) {
    if (numberField(x, field) >= 0)
      x.machine.give(x, field, writeLanes(typeField(instruction, "as"), result, at(state.lengths, x.queue, "queue")));
  }
}

function aluOperand(x: Execution, { field, type }: AluOperand, int: boolean): Float64Array {
  const source = x.instruction.fields[field];
  if (typeof source !== "object") return broken(x, "LPU4008", `operand '${field}' is missing`);
  if ("stream" in source) return readLanes(typeField(x.instruction, type), taken(x, field), int);
  if ("constant" in source)
    return new Float64Array(x.target.lanes).fill((int ? floatToInt : Math.fround)(source.constant));
  const dispatched = x.cycle - x.target.timing.vxmAlu - source.age;
  const result = x.state.results[source.alu]?.get(dispatched);
  if (result === undefined) return broken(x, "LPU4009", `alu ${source.alu} executed nothing at cycle ${dispatched}`);
  return convertLanes(result, int);
}

/** Gives, for every byte of the type, the lanes of the operand that `from` chooses; zero where it chooses none. */
function rearrange(x: Execution, from: (lane: number) => number): void {
  give(
    x,
    "give",
    taken(x, "source").map((vector) => vector.map((_, lane) => vector[from(lane)] ?? 0)),
  );
}

/** The instruction's lane map, with one entry for each of so many lanes, checked. */
function laneMap(x: Execution, lanes: number, flags = false): Int16Array {
  const index = numberField(x, "map");
  const map = x.state.program.maps[index];
  if (map === undefined || map.length < lanes)
    return broken(x, "LPU4008", `lane map ${index} does not have ${lanes} lanes`);
  if (!flags && map.subarray(0, lanes).some((source) => source < -1 || source >= lanes)) {
    broken(x, "LPU4008", `lane map ${index} has a source lane outside of -1 to ${lanes - 1}`);
  }
  return map;
}

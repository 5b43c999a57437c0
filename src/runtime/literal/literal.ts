/**
 * The literal machine: every stream register of every chip, every cycle. Slow and obvious: the definition.
 *
 * A cycle has five steps: values on eastward streams move one position east, on westward ones one west, and drop off at the
 * ends; results that are due are put on registers (a live value there is a fault); operands that are due are taken from
 * registers (none there is a fault; a value goes away unless all who read it here only tap); the dispatches of the cycle run;
 * what waits for operands that have now arrived runs. Nothing stalls and nothing is repaired: a broken rule is a
 * MachineFault. An ALU takes its stream operands `vxmEntry` cycles before dispatch, so the machine looks that far ahead.
 */

import { layoutOf, nextDispatch } from "../../codegen/text/layout.js";
import { mayIssue } from "../../ir/bursts.js";
import { decodeQueue } from "../../codegen/text/decode.js";
import { OPERAND_CODECS } from "../../codegen/text/operands.js";
import { at, invariant, sure } from "../../diagnostics.js";
import { ISA, type InstructionRow } from "../../ir/isa.js";
import {
  isWestward,
  type QueueNumber,
  type QueuePlace,
  queuePlace,
  type TimedInstruction,
  positionOf,
} from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { arrivalOf, flippedSend, wireCheck } from "../disturb.js";
import { type FaultPlace, raise } from "../fault.js";
import { semantics } from "./semantics.js";
import type { Sram } from "../sram.js";
import {
  type Counters,
  type MachineProgram,
  numberField,
  type OuterVectors,
  streamGroup,
  type Vector,
} from "../program.js";
import {
  broken,
  changed,
  type ChipState,
  createChip,
  type Execution,
  type Inbox,
  type LiteralMachine,
} from "./state.js";

export interface LiteralResult {
  /** Of each chip: the cycle from which on nothing changes any more, but for values that fly on. */
  readonly cycles: readonly number[];
  readonly sram: Sram;
  readonly counters: readonly Counters[];
  /** On outer wires. */
  readonly sent: OuterVectors;
}

interface Take {
  readonly execution: Execution;
  readonly field: string;
  readonly stream: number;
  readonly streams: number;
  readonly tap: boolean;
}

interface Give {
  readonly execution: Execution;
  readonly stream: number;
  readonly vector: Vector;
}

/** What is due in one cycle. */
interface Due {
  readonly records: { readonly chip: ChipState; readonly queue: QueueNumber; readonly instruction: TimedInstruction }[];
  readonly gives: Give[];
  readonly takes: Take[];
  readonly dispatches: Execution[];
  readonly arrivals: (() => void)[];
}

/**
 * Runs a program to its end. Constants and inputs lie in `sram` already; outputs lie there afterwards. `received`: what comes
 * in on outer wires.
 */
export function runLiteral(program: MachineProgram, sram: Sram, received: OuterVectors = {}): LiteralResult {
  const { target, disturbed: { flip } = {} } = program;
  const agenda = new Map<number, Due>();
  const chips = program.chips.map((_, index) => createChip(program, index));
  const inboxes = new Map(
    program.links.map(({ fromChip, fromLink, toChip, toLink }) => [
      `${fromChip}:${fromLink}`,
      chips[toChip]?.inbox[toLink],
    ]),
  );
  const outer = joinOuter(program, chips, inboxes, received);
  const machine: LiteralMachine = {
    program,
    target,
    sram,
    chips,
    now: -target.timing.vxmEntry,
    flipped: flip && flippedSend(program, flip),
    give: (execution, field, vectors) => scheduleGive(machine, agenda, execution, field, vectors),
    inboxOf: (chip, link) => inboxes.get(`${chip}:${link}`),
    fetch: (execution, text) => fetchText(machine, agenda, execution, text),
  };
  for (const chip of chips) {
    chip.notified = notifyCycle(chip);
    chip.program.queues.forEach((instructions, queue) => {
      addRecords(machine, agenda, chip, queue, instructions, machine.now);
    });
  }
  while (agenda.size > 0) {
    stepCycle(machine, agenda);
    machine.now++;
  }
  return {
    cycles: chips.map(({ cycles }) => cycles),
    sram,
    counters: chips.map(({ counters }) => counters),
    sent: outer(),
  };
}

/** Puts what is received where its chips find it, and joins links that lead out. Returns what takes from these, at the end. */
function joinOuter(
  { outer = [], target, disturbed = {} }: MachineProgram,
  chips: readonly ChipState[],
  inboxes: Map<string, Inbox | undefined>,
  received: OuterVectors,
): () => OuterVectors {
  const sending = outer.filter(({ kind }) => kind === "send");
  for (const { name, vectors } of outer.filter(({ kind }) => kind === "receive"))
    for (const [index, { chip, link, cycle }] of vectors.entries()) {
      const vector = at(sure(received[name], "wire"), index, "vector");
      const arrival = arrivalOf(target, disturbed.jitter, chip, link, cycle);
      chips[chip]?.inbox[link]?.push({ arrival, vector, check: wireCheck(vector) });
    }
  for (const { chip, link } of sending.flatMap(({ vectors }) => vectors)) inboxes.set(`${chip}:${link}`, []);
  return () =>
    Object.fromEntries(
      sending.map(({ name, vectors }) => [
        name,
        vectors.map(({ chip, link }) => sure(inboxes.get(`${chip}:${link}`)?.shift(), "vector").vector),
      ]),
    );
}

function stepCycle(machine: LiteralMachine, agenda: Map<number, Due>): void {
  for (const chip of machine.chips) moveStreams(machine.target, chip);
  const due = agenda.get(machine.now);
  if (due !== undefined) {
    // Looking ahead adds to lists of this cycle and later ones, so it comes first.
    for (const { chip, queue, instruction } of due.records) expand(machine, agenda, chip, queue, instruction);
    for (const give of due.gives) put(give, machine.now);
    takeAll(due.takes);
    for (const execution of due.dispatches) dispatch(machine, agenda, execution);
    for (const arrive of due.arrivals) arrive();
    agenda.delete(machine.now);
  }
  for (const { planes } of machine.chips) {
    for (const { products } of planes.flat()) {
      const lost = products.find(({ cycle }) => cycle <= machine.now);
      if (lost !== undefined) broken(lost.execution, "LPU4012", "no acc takes the product of this instruction");
    }
  }
}

function moveStreams(target: Target, { registers }: ChipState): void {
  registers.forEach((register, stream) => {
    if (isWestward(target, stream)) {
      register.shift();
      register.push(undefined);
    } else {
      register.pop();
      register.unshift(undefined);
    }
  });
}

function put({ execution, stream, vector }: Give, now: number): void {
  const { state, position, target } = execution;
  const register = state.registers[stream];
  const place = position + target.mxm;
  if (register === undefined || register[place] !== undefined) {
    broken(execution, "LPU4001", `${streamName(target, stream)} already carries a value at position ${position}`);
  }
  register[place] = vector;
  changed(state, now);
}

/** Everyone reads before anything is taken away. */
function takeAll(takes: readonly Take[]): void {
  for (const { execution, field, stream, streams } of takes) {
    const { state, position, target } = execution;
    const vectors: Vector[] = [];
    for (let byte = 0; byte < streams; byte++) {
      const vector = state.registers[stream + byte]?.[position + target.mxm];
      if (vector === undefined)
        broken(execution, "LPU4002", `no value on ${streamName(target, stream + byte)} at position ${position}`);
      vectors.push(vector);
    }
    execution.operands.set(field, vectors);
  }
  for (const { execution, stream, streams, tap } of takes) {
    for (let byte = 0; byte < streams && !tap; byte++) {
      const register = execution.state.registers[stream + byte];
      if (register !== undefined) register[execution.position + execution.target.mxm] = undefined;
    }
  }
}

function dispatch(machine: LiteralMachine, agenda: Map<number, Due>, execution: Execution): void {
  const { state, instruction, cycle } = execution;
  const arrive = semantics[instruction.op](execution);
  const { executions } = state.counters;
  executions[instruction.op] = (executions[instruction.op] ?? 0) + 1;
  changed(state, machine.now + 1);
  if (arrive !== undefined)
    dueAt(agenda, Math.max(cycle, ...takesOf(execution).map(({ at }) => at))).arrivals.push(arrive);
}

/** Puts instructions on the agenda, early enough to look ahead for the operands of ALUs. */
function addRecords(
  machine: LiteralMachine,
  agenda: Map<number, Due>,
  chip: ChipState,
  queue: QueueNumber,
  instructions: readonly TimedInstruction[],
  earliest: number,
): void {
  for (const instruction of instructions) {
    const ahead = instruction.cycle - machine.target.timing.vxmEntry;
    dueAt(agenda, Math.max(ahead, earliest)).records.push({ chip, queue, instruction });
    chip.ends[queue] = Math.max(at(chip.ends, queue, "queue"), queueFree(chip, machine.target, instruction));
  }
}

/** Puts all executions of a burst on the agenda: what they take, and their dispatch. */
function expand(
  machine: LiteralMachine,
  agenda: Map<number, Due>,
  chip: ChipState,
  queue: QueueNumber,
  instruction: TimedInstruction,
): void {
  const { target, program } = machine;
  const faulty: FaultPlace = {
    target,
    chip: chip.index,
    queue,
    instruction,
    cycle: instruction.cycle,
    origins: program.origins,
  };
  const place = queuePlace(target, queue);
  checkRecord(faulty, place);
  const free = at(chip.free, queue, "queue");
  if (instruction.cycle < free) raise("LPU4007", faulty, `the queue may dispatch again at cycle ${free}`);
  chip.free[queue] = queueFree(chip, target, instruction);
  const position = positionOf(target, place);
  for (let index = 0; index < instruction.count; index++) {
    const cycle = instruction.cycle + index * instruction.interval;
    const execution: Execution = {
      ...faulty,
      cycle,
      machine,
      state: chip,
      place,
      position,
      index,
      operands: new Map(),
    };
    for (const { at: due, ...take } of takesOf(execution)) {
      if (due < machine.now) raise("LPU4017", faulty, `its operand should have been taken at cycle ${due}`);
      dueAt(agenda, due).takes.push({ execution, ...take });
    }
    const list = dueAt(agenda, cycle).dispatches;
    // A vector length, and a change of the array, hold from the cycle of their dispatch on.
    if (instruction.op === "config" || instruction.op === "iwStream") list.unshift(execution);
    else list.push(execution);
  }
}

/** Operands must be such as the encoder accepts, and streams aligned and within one direction. */
function checkRecord(at: FaultPlace, { unit }: QueuePlace): void {
  const { target, instruction } = at;
  const layout = layoutOf(target).byName.get(instruction.op);
  if (layout === undefined || !mayIssue(layout.row, unit))
    raise("LPU4008", at, `unit '${unit}' has no '${instruction.op}'`);
  for (const field of layout.fields) {
    const value = instruction.fields[field.name];
    const expected = OPERAND_CODECS[field.row.kind].refuse(value, field);
    if (expected !== undefined) raise("LPU4008", at, `operand '${field.name}': expected ${expected}`);
    const last =
      typeof value === "number" ? numberField({ instruction, index: instruction.count - 1 }, field.name) : field.min;
    if (last < field.min || last > field.max)
      raise("LPU4008", at, `operand '${field.name}': the last of the burst is ${last}`);
    const stream = streamOf(instruction, field.name);
    if (stream === undefined) continue;
    const { unit: width, groups } = streamGroup(target, instruction, field.name);
    const start = stream % target.streams;
    if (start % width !== 0 || start + width * groups > target.streams) {
      raise(
        "LPU4008",
        at,
        `operand '${field.name}': expected ${groups * width} neighbouring streams, aligned to ${width}`,
      );
    }
  }
  const [give, give2] = [streamOf(instruction, "give"), streamOf(instruction, "give2")];
  if (give !== undefined && give2 !== undefined && isWestward(target, give) === isWestward(target, give2)) {
    raise("LPU4008", at, "operand 'give2': expected a stream of the other direction");
  }
}

/** The stream that an operand names, if it is one. */
function streamOf({ op, fields }: TimedInstruction, name: string): number | undefined {
  const row: InstructionRow = ISA[op];
  const kind = row.fields[name]?.kind;
  const value = fields[name];
  if (typeof value === "object") return "stream" in value ? value.stream : undefined;
  return (kind === "stream" || kind === "optionalStream") && Number(value) >= 0 ? Number(value) : undefined;
}

/** What an execution takes, and when. */
function takesOf({ target, instruction, cycle }: Execution): (Omit<Take, "execution"> & { readonly at: number })[] {
  const row: InstructionRow = ISA[instruction.op];
  return Object.entries(row.takes).flatMap(([field, { skew, sign = 1 }], bit) => {
    const stream = streamOf(instruction, field);
    if (stream === undefined) return [];
    const { unit, groups } = streamGroup(target, instruction, field);
    const value = instruction.fields[field];
    const tap = typeof value === "object" ? "tap" in value && value.tap : ((instruction.tap >> bit) & 1) === 1;
    return [{ at: cycle + sign * (skew === 0 ? 0 : target.timing[skew]), field, stream, streams: unit * groups, tap }];
  });
}

function scheduleGive(
  machine: LiteralMachine,
  agenda: Map<number, Due>,
  execution: Execution,
  field: string,
  vectors: readonly Vector[],
): void {
  const row: InstructionRow = ISA[execution.instruction.op];
  const latency = row.gives[field];
  invariant(latency !== undefined, `${execution.instruction.op} gives '${field}'`);
  const { gives } = dueAt(agenda, execution.cycle + machine.target.timing[latency]);
  const stream = numberField(execution, field);
  vectors.forEach((vector, byte) => {
    gives.push({ execution, stream: stream + byte, vector });
  });
}

/** The first cycle at which the queue may dispatch after this instruction. */
function queueFree(chip: ChipState, target: Target, { op, cycle, count, interval, fields }: TimedInstruction): number {
  if (op === "nop") return cycle + Math.max(Number(fields["cycles"]), 1);
  if (op === "sync" || op === "notify") return Math.max(cycle + 1, chip.notified + target.timing.barrier || 0);
  const layout = layoutOf(target).byName.get(op);
  invariant(layout !== undefined, `no layout of ${op}`);
  return nextDispatch(layout, cycle, count, interval);
}

/** When the chip notifies; NaN if never. */
function notifyCycle({ program }: ChipState): number {
  const cycles = program.queues.flatMap((queue) => queue.filter(({ op }) => op === "notify").map(({ cycle }) => cycle));
  return cycles.length === 0 ? Number.NaN : Math.min(...cycles);
}

/**
 * Text that was fetched: its length in bytes (two bytes, low first), then instructions. The first is dispatched when the
 * queue is through with the text that it has, and not before the fetch is complete.
 */
function fetchText(machine: LiteralMachine, agenda: Map<number, Due>, execution: Execution, bytes: Uint8Array): void {
  const { target, queue, state } = execution;
  const length = at(bytes, 0, "byte") | (at(bytes, 1, "byte") << 8);
  if (length > bytes.length - 2)
    broken(execution, "LPU4017", `expected at most ${bytes.length - 2} bytes of text, got ${length}`);
  const text = Uint8Array.of(ISA.sync.opcode, ...bytes.subarray(2, 2 + length));
  const { instructions } = decodeQueue(target, queue, text);
  if (instructions.some(({ op }) => op === "deskew")) broken(execution, "LPU4017", "fetched text cannot hold deskew");
  const start = Math.max(at(state.ends, queue, "queue"), execution.cycle + target.timing.ifetch);
  const shift = start - target.timing.barrier;
  const fetched = instructions.map((instruction) => ({
    ...instruction,
    cycle: instruction.cycle + shift,
    origin: execution.instruction.origin,
  }));
  addRecords(machine, agenda, state, queue, fetched, machine.now + 1);
}

function dueAt(agenda: Map<number, Due>, cycle: number): Due {
  const known = agenda.get(cycle);
  if (known !== undefined) return known;
  const due: Due = { records: [], gives: [], takes: [], dispatches: [], arrivals: [] };
  agenda.set(cycle, due);
  return due;
}

const streamName = (target: Target, stream: number): string =>
  stream < target.streams ? `e${stream}` : `w${stream - target.streams}`;

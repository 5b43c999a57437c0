/**
 * Program text that is fetched from SRAM: instructions that join their queues before anything is linked.
 *
 * Text is data, but of a program that can be linked it is constant data: what an Ifetch takes must be read from constant rows
 * that the program never writes. So each Ifetch is followed back to its rows, the text is decoded, and the longer program is matched again,
 * until nothing more is fetched. Where text starts in time is as in `literal.ts`.
 */

import { at } from "../../diagnostics.js";
import { decodeQueue } from "../../codegen/text/decode.js";
import { layoutOf, nextDispatch } from "../../codegen/text/layout.js";
import { ISA, MNEMONICS } from "../../ir/isa.js";
import { queuePlace, type TimedInstruction } from "../../ir/program.js";
import type { Target } from "../../ir/target.js";
import { SEGMENT, SEGMENT_SIZE, type Matches } from "./streams.js";
import { ENTRY_SIZE, instructionOf, raiseAt, type Tables } from "./tables.js";
import type { MachineProgram } from "../program.js";

interface Matched {
  readonly tables: Tables;
  readonly matches: Matches;
}

export function expandFetches(program: MachineProgram, match: (program: MachineProgram) => Matched): Matched {
  const done = new Set<string>();
  let current = program;
  for (;;) {
    const matched = match(current);
    const longer = fetchOnce(current, matched, done);
    if (longer === undefined) return matched;
    current = longer;
  }
}

/** The program with all text that is known now; undefined if there is no more. */
function fetchOnce(
  program: MachineProgram,
  { tables, matches }: Matched,
  done: Set<string>,
): MachineProgram | undefined {
  const { target } = program;
  const fetches: { chip: number; queue: number; burst: number; index: number; cycle: number }[] = [];
  for (let burst = 0; burst < tables.instructions.length; burst++) {
    if (MNEMONICS[tables.op.at(burst)] !== "ifetch") continue;
    for (let index = 0; index < tables.count.at(burst); index++) {
      const cycle = tables.cycle.at(burst) + index * tables.interval.at(burst);
      fetches.push({ chip: tables.chip.at(burst), queue: tables.queue.at(burst), burst, index, cycle });
    }
  }
  if (fetches.length === 0) return undefined;
  fetches.sort((a, b) => a.cycle - b.cycle);
  const chips = program.chips.map((chip) => ({ ...chip, queues: chip.queues.map((queue) => [...queue]) }));
  let grown = false;
  for (const { chip, queue, burst, index, cycle } of fetches) {
    const name = `${chip}:${queue}:${cycle}`;
    const text = done.has(name) ? undefined : fetchedText(program, { tables, matches }, burst, index);
    const instructions = chips[chip]?.queues[queue];
    if (text === undefined || instructions === undefined) continue;
    done.add(name);
    const start = Math.max(queueEnd(target, instructions), cycle + target.timing.ifetch);
    const fetched = decodeQueue(target, queue, text).instructions;
    if (fetched.some(({ op }) => op === "deskew"))
      raiseAt(tables, "LPU4017", burst, cycle, "fetched text cannot hold deskew");
    const { origin } = instructionOf(tables, burst);
    for (const instruction of fetched)
      instructions.push({ ...instruction, cycle: instruction.cycle + start - target.timing.barrier, origin });
    grown ||= fetched.length > 0;
  }
  return grown ? { ...program, chips } : undefined;
}

/** The first cycle at which the queue may dispatch after all that it has. */
function queueEnd(target: Target, instructions: readonly TimedInstruction[]): number {
  return instructions.reduce((end, { op, cycle, count, interval, fields }) => {
    const layout = layoutOf(target).byName.get(op);
    const free =
      op === "nop"
        ? cycle + Math.max(Number(fields["cycles"]), 1)
        : layout === undefined
          ? cycle + 1
          : nextDispatch(layout, cycle, count, interval);
    return Math.max(end, free);
  }, 0);
}

/** Text of one execution, with the Sync that the decoder expects; undefined while its source is not known. */
function fetchedText(
  program: MachineProgram,
  { tables, matches }: Matched,
  burst: number,
  index: number,
): Uint8Array | undefined {
  const first = tables.takeFirst.at(burst);
  const cycle = tables.cycle.at(burst) + index * tables.interval.at(burst);
  const bytes: number[] = [];
  for (let entry = first; entry < tables.takeFirst.at(burst + 1); entry++) {
    const vector = constantVector(program, { tables, matches }, entry, index);
    if (vector === "unknown") return undefined;
    if (vector === "data")
      return raiseAt(tables, "LPU4017", burst, cycle, "expected program text from rows that are constant");
    bytes.push(...vector);
  }
  const length = at(bytes, 0, "byte") | (at(bytes, 1, "byte") << 8);
  if (length > bytes.length - 2)
    raiseAt(tables, "LPU4017", burst, cycle, `expected at most ${bytes.length - 2} bytes of text, got ${length}`);
  return Uint8Array.of(ISA.sync.opcode, ...bytes.slice(2, 2 + length));
}

function constantVector(
  program: MachineProgram,
  { tables, matches }: Matched,
  entry: number,
  index: number,
): Uint8Array | "unknown" | "data" {
  const first = matches.first[entry] as number;
  for (let segment = first; segment < first + (matches.count[entry] as number); segment++) {
    const at = segment * SEGMENT_SIZE;
    const offset = index - matches.segments.at(at + SEGMENT.index);
    if (offset < 0 || offset >= matches.segments.at(at + SEGMENT.count)) continue;
    const burst = tables.gives.at(matches.segments.at(at + SEGMENT.give) * ENTRY_SIZE);
    if (MNEMONICS[tables.op.at(burst)] !== "read") return "data";
    const vector = matches.segments.at(at + SEGMENT.vector) + offset * matches.segments.at(at + SEGMENT.step);
    const { fields, step } = instructionOf(tables, burst);
    const row = Number(fields["address"]) + (tables.base.at(burst) + vector) * step;
    const bytes = constantRow(program, tables.chip.at(burst), tables.queue.at(burst), row);
    return bytes?.map((byte, lane) => (lane < tables.length.at(burst) ? byte : 0)) ?? "data";
  }
  return "unknown";
}

/** Bytes of a row that is constant from beginning to end. */
function constantRow(
  { target, chips }: MachineProgram,
  chip: number,
  queue: number,
  row: number,
): Uint8Array | undefined {
  const { hemisphere, index } = queuePlace(target, queue);
  const changed = chips[chip]?.queues[queue]?.some(({ op, fields, count, step }) => {
    if (op === "scatter") return true;
    if (op !== "write") return false;
    return Array.from({ length: count }, (_, i) => Number(fields["address"]) + i * step).includes(row);
  });
  const block = chips[chip]?.constants.find(
    (one) => one.hemisphere === hemisphere && one.slice === index && row >= one.row && row < one.row + one.rows,
  );
  if (changed === true || block === undefined) return undefined;
  const from = (row - block.row) * target.lanes;
  return block.bytes().subarray(from, from + target.lanes);
}

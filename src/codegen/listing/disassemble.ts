/**
 * Disassembler: a whole image as a listing, from which `assemble` makes the same bytes again.
 *
 * One line an instruction (cycle, mnemonic, operands, burst, origin), grouped by entry, chip and queue; everything else is a
 * directive line, in the order in which the assembler wants it: what stays on each chip, then the entries. The grammar is described in docs/FORMAT.md.
 */

import { at } from "../../diagnostics.js";
import type { Binding, ChipMemory, EntryPoint, HostLookup, Program, Queues } from "../../ir/program.js";
import { likesOf, memQueue, queueName } from "../../ir/program.js";
import { TARGETS, type Target } from "../../ir/target.js";
import { readImage } from "../image/image.js";
import { printInstruction } from "./print.js";

export interface ListingOptions {
  /** Without data, constants and tables are comments: shorter, but it cannot be assembled. */
  readonly data: boolean;
}

export function disassemble(bytes: Uint8Array, options: ListingOptions = { data: true }): string {
  return `${[...listing(readImage(bytes), options)].join("\n")}\n`;
}

/** The lines of a listing, one after the other: a listing with its weights may be larger than a string. */
export function* listing(program: Program, options: ListingOptions): Generator<string> {
  const { target, name, links, states, origins, entries, chips } = program;
  yield `.program ${JSON.stringify(name)}`;
  yield `.target ${targetText(target)}`;
  for (const { fromChip, fromLink, toChip, toLink } of links) yield `.link ${fromChip}.${fromLink} ${toChip}.${toLink}`;
  for (const origin of origins) yield `.origin ${JSON.stringify(origin)}`;
  const tables = new Map<HostLookup["bytes"], number>();
  const likes = likesOf(chips);
  for (const { inputs, outputs } of entries) {
    for (const { lookup } of [...inputs, ...outputs]) {
      if (lookup === undefined || tables.has(lookup.bytes)) continue;
      yield dataLine(`.table ${tables.size}`, lookup.bytes, options);
      tables.set(lookup.bytes, tables.size);
    }
  }
  for (const [index, chip] of chips.entries()) {
    yield "";
    yield `.chip ${index}`;
    yield* memoryLines(target, chip, at(likes, index, "chip"), options);
  }
  if (states.length > 0) yield "";
  for (const { name: state, declared, shape, placements } of states)
    yield `.state ${boundText(state, declared, shape, placements)}`;
  const suffixes = originSuffixes(origins);
  for (const entry of entries) {
    yield "";
    yield* entryLines(entry, tables);
    for (const [index, queues] of entry.queues.entries()) {
      if (chips.length > 1) yield `.chip ${index}`;
      yield* queueLines(target, queues, suffixes);
    }
  }
}

/** Mnemonics are padded to this, cycles to one less. */
const MNEMONIC_WIDTH = 10;

const targetText = (target: Target): string => {
  const record = JSON.stringify(target);
  return Object.values(TARGETS).some((known) => JSON.stringify(known) === record) ? target.name : record;
};

function* entryLines(
  { name, inputs, outputs, cycles, macs }: EntryPoint,
  tables: ReadonlyMap<unknown, number>,
): Generator<string> {
  yield `.entry ${JSON.stringify(name)} cycles=${JSON.stringify(cycles)} macs=${macs}`;
  for (const input of inputs) yield* bindingLines(".input", input, tables);
  for (const output of outputs) yield* bindingLines(".output", output, tables);
}

function* bindingLines(
  directive: string,
  { name, declared, shape, placements, lookup }: Binding,
  tables: ReadonlyMap<unknown, number>,
): Generator<string> {
  yield `${directive} ${boundText(name, declared, shape, placements)}`;
  if (lookup === undefined) return;
  const { origin, dtype, rows, width, bytes } = lookup;
  yield `.lookup ${JSON.stringify(origin)} ${dtype} rows=${rows} width=${width} table=${tables.get(bytes)}`;
}

const boundText = (...[name, declared, shape, placements]: BoundParts): string =>
  `${JSON.stringify(name)} ${declared} ${JSON.stringify(shape)} ${JSON.stringify(placements)}`;
type BoundParts = [Binding["name"], Binding["declared"], Binding["shape"], Binding["placements"]];

/** `likes`: by block the earlier chip that has it. */
function* memoryLines(
  target: Target,
  chip: ChipMemory,
  likes: readonly (number | undefined)[],
  options: ListingOptions,
): Generator<string> {
  for (const [index, map] of chip.maps.entries()) yield `.map ${index} ${JSON.stringify(Array.from(map))}`;
  for (const [index, { hemisphere, slice, row, rows, bytes }] of chip.constants.entries()) {
    const place = `.constant ${queueName(target, memQueue(target, hemisphere, slice))} row=${row} rows=${rows}`;
    const like = likes[index];
    yield like === undefined ? dataLine(place, bytes, options) : `${options.data ? "" : "; "}${place} like=${like}`;
  }
}

/** An origin is named, or numbered if an earlier one has its name; the nameless first one is left out. */
function originSuffixes(origins: readonly string[]): readonly string[] {
  const ids = new Map<string, number>();
  origins.forEach((name, id) => {
    if (!ids.has(name)) ids.set(name, id);
  });
  return origins.map((name, id) => {
    if (ids.get(name) !== id) return ` from #${id}`;
    return name === "" ? "" : ` from ${JSON.stringify(name)}`;
  });
}

function* queueLines(target: Target, queues: Queues, suffixes: readonly string[]): Generator<string> {
  for (const [queue, instructions] of queues.entries()) {
    if (instructions.length === 0) continue;
    yield "";
    yield `${queueName(target, queue)}:`;
    for (const instruction of instructions) {
      const cycle = String(instruction.cycle).padStart(MNEMONIC_WIDTH - 1);
      yield `${cycle} ${printInstruction(target, instruction, MNEMONIC_WIDTH)}${at(suffixes, instruction.origin, "origin")}`;
    }
  }
}

function dataLine(head: string, bytes: () => Uint8Array, { data }: ListingOptions): string {
  if (!data) return `; ${head}`;
  const content = bytes();
  const first = content[0] ?? 0;
  if (content.length > 0 && content.every((byte) => byte === first)) {
    return `${head} fill ${first}${head.startsWith(".table") ? ` x${content.length}` : ""}`;
  }
  return `${head} base64 ${Buffer.from(content.buffer, content.byteOffset, content.length).toString("base64")}`;
}

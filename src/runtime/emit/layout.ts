/**
 * Where everything lies in machine memory, and the calls that work on it: what the unit emitters write into.
 *
 * Order of memory: SRAM, then for each program that runs on it: data (fault words, accumulators, constant rows, maps, flags, wires),
 * an arena of buffers and scratch for each chip, call arguments. Chips share nothing that a call writes but wires, so that each can run
 * on a thread of its own. The operations are emitted twice, by the same code: first to plan, which finds out when each buffer is first
 * and last used and how much scratch a call needs, then for good. Buffers share their arena by lifetime. A read is not run at all but
 * used where it lies in SRAM, unless one of its rows is overwritten before its last consumer has run.
 */

import { align, type Buffer, placeBuffers } from "./buffers.js";
import { invariant } from "../../diagnostics.js";
import { MNEMONICS, STREAM_TYPES } from "../../ir/isa.js";
import { KERNEL_NAMES, KERNELS } from "../kernels/kernels.js";
import { SEGMENT, SEGMENT_SIZE, type Matches } from "../link/streams.js";
import type { MemoryFindings } from "../link/memory.js";
import type { MxmFindings } from "../link/mxm.js";
import type { Nodes } from "../link/nodes.js";
import type { SendPlace } from "../disturb.js";
import { isWhole, type ExecutionOrder } from "../link/order.js";
import {
  elementType,
  ENTRY,
  ENTRY_SIZE,
  instructionOf,
  IntList,
  NO_STREAM,
  RAW_SLOT,
  type Tables,
} from "../link/tables.js";

/** Vectors in memory: address of the first, bytes from one to the next, and bytes from lane to lane. */
export interface Place {
  readonly address: number;
  readonly stride: number;
  readonly laneStride: number;
}

/** Everything that linking has found out. */
export interface Findings {
  readonly tables: Tables;
  readonly nodes: Nodes;
  readonly matches: Matches;
  readonly memory: MemoryFindings;
  readonly mxm: MxmFindings;
  readonly wires: ReadonlyMap<number, readonly WireSegment[]>;
  /** Rows that hold constants or inputs when the program starts. */
  readonly initial: Uint8Array;
  /** What sends the vector of which a bit flips. */
  readonly flipped: SendPlace | undefined;
}

/** Executions of a Receive burst and the Send executions whose vectors they get. */
export interface WireSegment {
  readonly first: number;
  readonly count: number;
  /** The burst; what an outer wire brings has a negative number. */
  readonly send: number;
  readonly vector: number;
}

/** Bytes that are there before a run; `changes`: a run changes them, so they are put back before each. */
export interface FixedBytes {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly changes: boolean;
}

/** Vectors of a Send burst up to `until`, and how many calls there are once they are on the wire. */
interface Sent {
  readonly until: number;
  readonly calls: number;
}

const KERNEL_NUMBERS = new Map(KERNEL_NAMES.map((name, index) => [name, index]));
export const FAULT_BYTES = 64;

export class BufferLayout {
  readonly findings: Findings;
  readonly lanes: number;
  readonly rows: number;
  /** Calls: kernel, chip, and where its arguments start in `words`. */
  readonly kernels = new IntList();
  readonly chips = new IntList();
  readonly starts = new IntList();
  readonly words = new IntList();
  /** Pairs: a call that takes vectors from a wire, and how many calls there are once they are on it. */
  readonly crossings = new IntList();
  readonly data: FixedBytes[] = [];
  readonly dataStart: number;
  /** Place of the item that is being emitted, in the order, and its chip. */
  position = 0;
  private chip = 0;
  planning = true;
  private dataEnd: number;
  /** By chip. */
  private readonly scratchStarts: number[];
  private scratchEnd = 0;
  private scratchUsed = 0;
  private scratchBytes = 0;
  private readonly known = new Map<string, number>();
  private readonly buffers: Buffer[] = [];
  /** By Send burst, in order. */
  private readonly sent = new Map<number, Sent[]>();
  /** Buffers by GIVE entry (-1: none), and those of operands that are put together, by TAKE entry. */
  private readonly ofGive: Int32Array;
  private readonly ofTake = new Map<number, number>();
  private readonly ofVersion = new Map<number, number>();
  /** Reads (by burst) that must be copied; the last position at which one is used; rows' bytes in SRAM. */
  private readonly copied: Uint8Array;
  private readonly lastUse: Int32Array;
  /** Bytes between neighbouring lanes of what a burst gives; 0 where every stream is a plane of its own. */
  private readonly widths: Uint8Array;

  /** `start`: the first byte of memory that is free. */
  constructor(findings: Findings, start: number) {
    const { tables } = findings;
    const { target } = tables;
    this.findings = findings;
    this.lanes = target.lanes;
    this.rows = 2 * target.rowsPerBank;
    this.dataStart = align(start);
    const chips = tables.program.chips.length;
    this.dataEnd = this.dataStart + chips * FAULT_BYTES;
    this.scratchStarts = new Array<number>(chips).fill(0);
    const bursts = tables.instructions.length;
    this.copied = new Uint8Array(bursts);
    this.lastUse = new Int32Array(bursts).fill(-1);
    this.widths = new Uint8Array(bursts);
    this.ofGive = new Int32Array(tables.gives.length / ENTRY_SIZE).fill(-1);
    for (let burst = 0; burst < bursts; burst++) this.addBuffers(burst);
  }

  /** Buffers of what a burst gives: one for its streams, one for ALU results. */
  private addBuffers(burst: number): void {
    const { tables } = this.findings;
    const first = tables.giveFirst.at(burst);
    const end = tables.giveFirst.at(burst + 1);
    if (first === end) return;
    const width = this.widthOf(burst);
    this.widths[burst] = width;
    const count = tables.count.at(burst);
    if (this.isRead(burst)) this.copied[burst] = tables.length.at(burst) < this.lanes ? 1 : 0;
    const stride = this.lanes * (width === 0 ? end - first : width);
    let streams = -1;
    for (let entry = first; entry < end; entry++) {
      if (tables.gives.at(entry * ENTRY_SIZE + ENTRY.slot) === RAW_SLOT)
        this.ofGive[entry] = this.addBuffer(count, this.lanes * 4);
      else this.ofGive[entry] = streams = streams < 0 ? this.addBuffer(count, stride) : streams;
    }
  }

  private widthOf(burst: number): number {
    const { tables } = this.findings;
    const instruction = tables.instructions[burst];
    const op = MNEMONICS[tables.op.at(burst)];
    if (instruction === undefined || op === "transpose") return 0;
    if (op === "read" || op === "gather" || op === "receive") return 1;
    if (op === "acc") return 4;
    return STREAM_TYPES[elementType(instruction, op === "unary" || op === "binary" || op === "ternary" ? "as" : "type")]
      .bytes;
  }

  private addBuffer(count: number, stride: number): number {
    return (
      this.buffers.push({
        ...{ bytes: count * stride, stride, chip: 0 },
        ...{ first: Number.POSITIVE_INFINITY, last: -1, address: 0 },
      }) - 1
    );
  }

  private isRead(burst: number): boolean {
    return MNEMONICS[this.findings.tables.op.at(burst)] === "read";
  }

  /** Address of a buffer, which is in use now. */
  private use(index: number): Buffer {
    const buffer = this.buffers[index];
    invariant(buffer !== undefined, "a buffer for every value");
    if (this.planning) {
      buffer.chip = this.chip;
      buffer.first = Math.min(buffer.first, this.position);
      buffer.last = Math.max(buffer.last, this.position);
    }
    return buffer;
  }

  /** A read that is used where it lies needs no buffer. */
  private forget(burst: number): void {
    const buffer = this.buffers[this.ofGive[this.findings.tables.giveFirst.at(burst)] as number];
    if (buffer !== undefined) buffer.last = -1;
  }

  /** Row of a slice, by the MEM queue of a burst, at one of its executions. */
  rowPlace(burst: number, index: number): Place {
    const { tables } = this.findings;
    const { step, fields } = instructionOf(tables, burst);
    const row = Number(fields["address"]) + (tables.base.at(burst) + index) * step;
    return { address: this.sliceAddress(burst) + row * this.lanes, stride: step * this.lanes, laneStride: 1 };
  }

  sliceAddress(burst: number): number {
    return this.sliceNumber(burst) * this.rows * this.lanes;
  }

  sliceNumber(burst: number): number {
    const { tables } = this.findings;
    return tables.chip.at(burst) * 2 * tables.target.slices + tables.queue.at(burst);
  }

  /** Where a burst puts vector `index` of what it gives on streams. */
  givePlace(burst: number, index: number): Place {
    const { address, stride } = this.use(this.ofGive[this.findings.tables.giveFirst.at(burst)] as number);
    return { address: address + index * stride, stride, laneStride: this.widths[burst] as number };
  }

  givesStreams(burst: number): boolean {
    const { tables } = this.findings;
    const first = tables.giveFirst.at(burst);
    return first < tables.giveFirst.at(burst + 1) && tables.gives.at(first * ENTRY_SIZE + ENTRY.slot) !== RAW_SLOT;
  }

  /** Where an ALU burst puts result `index`. */
  rawPlace(burst: number, index: number): Place {
    const { address, stride } = this.use(this.ofGive[this.findings.tables.giveFirst.at(burst + 1) - 1] as number);
    return { address: address + index * stride, stride, laneStride: 4 };
  }

  isCopied(burst: number): boolean {
    return this.copied[burst] === 1;
  }

  /** Vectors of one give entry from `index` on, `step` apart. */
  private entryPlace(give: number, index: number, step: number): Place {
    const { tables } = this.findings;
    const burst = tables.gives.at(give * ENTRY_SIZE);
    if (tables.gives.at(give * ENTRY_SIZE + ENTRY.slot) === RAW_SLOT) {
      const { address, stride } = this.rawPlace(burst, index);
      return { address, stride: stride * step, laneStride: 4 };
    }
    if (this.isRead(burst)) {
      if (this.planning) this.lastUse[burst] = this.position;
      if (!this.planning && !this.isCopied(burst)) {
        const { address, stride } = this.rowPlace(burst, index);
        return { address, stride: stride * step, laneStride: 1 };
      }
    }
    const byte = tables.gives.at(give * ENTRY_SIZE + ENTRY.byte);
    const width = this.widths[burst] as number;
    const place = this.givePlace(burst, index);
    return {
      address: place.address + byte * (width === 0 ? this.lanes : 1),
      stride: place.stride * step,
      laneStride: Math.max(width, 1),
    };
  }

  /** One stream of an operand (or a chained one), from execution `index` of its burst on. */
  takePlace(entry: number, index: number): Place {
    const { tables, matches } = this.findings;
    if (isWhole(tables, matches, entry)) {
      const at = (matches.first[entry] as number) * SEGMENT_SIZE;
      const step = matches.segments.at(at + SEGMENT.step);
      return this.entryPlace(
        matches.segments.at(at + SEGMENT.give),
        matches.segments.at(at + SEGMENT.vector) + index * step,
        step,
      );
    }
    const chained = tables.takes.at(entry * ENTRY_SIZE + ENTRY.stream) === NO_STREAM;
    let known = this.ofTake.get(entry);
    if (known === undefined) {
      known = this.addBuffer(tables.count.at(tables.takes.at(entry * ENTRY_SIZE)), this.lanes * (chained ? 4 : 1));
      this.ofTake.set(entry, known);
    }
    const { address, stride } = this.use(known);
    return { address: address + index * stride, stride, laneStride: chained ? 4 : 1 };
  }

  /** Source of one segment of an operand, from execution `index` of the segment on. */
  segmentPlace(segment: number, index: number): Place {
    const { segments } = this.findings.matches;
    const at = segment * SEGMENT_SIZE;
    const step = segments.at(at + SEGMENT.step);
    return this.entryPlace(segments.at(at + SEGMENT.give), segments.at(at + SEGMENT.vector) + index * step, step);
  }

  versionAddress(version: number, bytes: number): number {
    let known = this.ofVersion.get(version);
    if (known === undefined) {
      known = this.addBuffer(1, bytes);
      this.ofVersion.set(version, known);
    }
    return this.use(known).address;
  }

  /** Fault words of the chip whose item this is. */
  faultAddress(): number {
    return this.dataStart + this.chip * FAULT_BYTES;
  }

  /** Bytes for this item alone. */
  scratch(bytes: number): number {
    const address = (this.scratchStarts[this.chip] as number) + this.scratchUsed;
    this.scratchUsed += align(bytes);
    this.scratchBytes = Math.max(this.scratchBytes, this.scratchUsed);
    return address;
  }

  /** Bytes that stay, known by name; made at first use. */
  fixed(name: string, make: () => Uint8Array, changes = false): number {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    invariant(this.planning, "data is found while planning");
    const bytes = make();
    const address = this.dataEnd;
    this.data.push({ address, bytes, changes });
    this.dataEnd += align(bytes.length);
    this.known.set(name, address);
    return address;
  }

  fixedWords(name: string, make: () => Int32Array): number {
    return this.fixed(name, () => {
      const words = make();
      return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    });
  }

  nextItem(position: number, burst: number): void {
    this.position = position;
    this.chip = this.findings.tables.chip.at(burst);
    this.scratchUsed = 0;
  }

  call(name: string, ...values: readonly number[]): void {
    if (this.planning) return;
    const kernel = KERNEL_NUMBERS.get(name);
    invariant(kernel !== undefined && KERNELS[name]?.arguments.length === values.length, `arguments of kernel ${name}`);
    this.kernels.push(kernel);
    this.chips.push(this.chip);
    this.starts.push(this.words.length);
    for (const value of values) this.words.push(value);
  }

  /** Vectors of a Send burst before `until` are on the wire. */
  noteSent(send: number, until: number): void {
    if (this.planning) return;
    const known = this.sent.get(send);
    const sent: Sent = { until, calls: this.kernels.length };
    if (known === undefined) this.sent.set(send, [sent]);
    else known.push(sent);
  }

  /** The next call takes vectors of a Send burst before `until`. */
  noteCrossing(send: number, until: number): void {
    if (this.planning) return;
    const sent = this.sent.get(send)?.find((one) => one.until >= until);
    invariant(sent !== undefined, "what is received was sent");
    this.crossings.pushAll(this.kernels.length, sent.calls);
  }

  /** Ends planning: decides which reads are copied, and where buffers lie. */
  place(order: ExecutionOrder): void {
    const { nodes, memory } = this.findings;
    const firstOf = new Int32Array(nodes.kind.length).fill(-1);
    for (let item = order.node.length - 1; item >= 0; item--) firstOf[order.node.at(item)] = item;
    for (let at = 0; at < memory.overwrites.length; at += 2) {
      const reader = nodes.burst.at(memory.overwrites.at(at + 1));
      if (this.isRead(reader) && (firstOf[memory.overwrites.at(at)] as number) <= (this.lastUse[reader] as number))
        this.copied[reader] = 1;
    }
    for (let item = 0; item < order.node.length; item++) {
      const burst = nodes.burst.at(order.node.at(item));
      if (!this.isRead(burst) || nodes.ofBurst[burst] !== order.node.at(item)) continue;
      this.nextItem(item, burst);
      if (this.isCopied(burst)) this.givePlace(burst, 0);
      else this.forget(burst);
    }
    const used = this.buffers.filter(({ last, bytes }) => last >= 0 && bytes > 0);
    let end = this.dataEnd;
    this.scratchStarts.forEach((_, chip) => {
      const own = used.filter((buffer) => buffer.chip === chip);
      this.scratchStarts[chip] = end + placeBuffers(own, end, order.node.length);
      end = align((this.scratchStarts[chip] as number) + this.scratchBytes + 64);
    });
    this.scratchEnd = end;
    this.planning = false;
  }

  /** Where the call arguments start. */
  wordsAddress(): number {
    return this.scratchEnd;
  }
}

/**
 * The timing of a chain of ALU operations, before it has a place: at which cycle each is dispatched, counted from the
 * chain's time zero, the cycle in which the MXM result (or, without one, the first operand) passes the VXM.
 *
 * A stream passes the VXM once, so what is used twice enters through a copy. What follows the MXM result is dispatched as
 * soon as it can be; what only feeds it as late as it can be, so that its operands leave SRAM late.
 */

import { at, fail } from "../../../diagnostics.js";
import type { AluOp, Argument, Turn } from "../../../ir/plan.js";
import type { Target } from "../../../ir/target.js";
import { NEVER } from "../chip/resources.js";

/** A chain with the copies that it needs, each operation with its cycle. */
export interface TimedChain {
  readonly ops: readonly TimedOp[];
  /** Operands that are read from storages. */
  readonly takes: readonly Take[];
  /** Lane maps that the MXM result also goes through: indices into Plan.maps. */
  readonly maps: readonly number[];
  /** How it does, if it does: each map in as many cycles, so that all arrive together. */
  readonly turn: Turn | undefined;
  /** Index of each of the task's operations among `ops`. */
  readonly index: readonly number[];
}

export interface TimedOp extends AluOp {
  /** Dispatch, in cycles after time zero; may be negative. */
  readonly offset: number;
}

/** Which operation takes a leaf, as which of its arguments. */
export interface Take {
  readonly leaf: number;
  readonly op: number;
  readonly argument: number;
}

/** `turns`: how lanes are rearranged, by lane map. */
export const timeChain = (task: readonly AluOp[], target: Target, turns: readonly Turn[]): TimedChain => {
  const copies = copiesOf(task);
  const shift = copies.size;
  const ops: AluOp[] = [...copies.values()].map(({ argument }) => copyOf(argument));
  for (const op of task) ops.push({ ...op, args: op.args.map((argument) => moved(argument, copies, shift)) });
  if (ops.length > target.alus)
    fail("LPU2002", {
      message: `a chain of ${ops.length} operations, target '${target.name}' has ${target.alus} ALUs`,
      hint: "choose a target with more ALUs",
    });
  const maps = ops.flatMap(({ args }) => args.flatMap((argument) => mapOf(argument) ?? []));
  const turn = maps
    .map((map) => at(turns, map, "lane map"))
    .reduce<Turn | undefined>((slowest, one) => (one.cycles > (slowest?.cycles ?? 0) ? one : slowest), undefined);
  const offsets = offsetsOf(ops, target, turn?.cycles ?? 0);
  return {
    ops: ops.map((op, index) => ({ ...op, offset: at(offsets, index, "offset") })),
    takes: ops.flatMap(({ args }, op) =>
      args.flatMap((arg, argument) => ("leaf" in arg ? [{ leaf: arg.leaf, op, argument }] : [])),
    ),
    maps,
    turn,
    index: task.map((_, index) => index + shift),
  };
};

/** Integers keep all their bits only where nothing makes numbers of them. */
const copyOf = (argument: Argument): AluOp =>
  "leaf" in argument && argument.as !== undefined
    ? { fn: "orBits", args: [argument, { constant: 0 }] }
    : { fn: "copy", args: [argument] };

/** What stands for an argument that comes on a stream; undefined for others. */
const streamKey = (argument: Argument): string | undefined =>
  "leaf" in argument
    ? `leaf${argument.leaf} ${argument.as ?? ""}`
    : "mxm" in argument
      ? `mxm${argument.map ?? ""}`
      : undefined;

/**
 * Streams that enter through a copy, in the order of their first use, each with the number of the operation that copies it:
 * those that are used twice, and the MXM result if it also comes rearranged, which takes longer.
 */
const copiesOf = (ops: readonly AluOp[]): Map<string, { readonly op: number; readonly argument: Argument }> => {
  const uses = new Map<string, number>();
  const copies = new Map<string, { op: number; argument: Argument }>();
  const streams = ops.flatMap(({ args }) => args.map((argument) => ({ argument, key: streamKey(argument) })));
  const turned = streams.some(({ argument }) => mapOf(argument) !== undefined);
  for (const { key } of streams) if (key !== undefined) uses.set(key, (uses.get(key) ?? 0) + 1);
  for (const { argument, key } of streams)
    if (key !== undefined && ((uses.get(key) ?? 0) > 1 || (turned && "mxm" in argument)) && !copies.has(key))
      copies.set(key, { op: copies.size, argument });
  return copies;
};

const mapOf = (argument: Argument): number | undefined => ("mxm" in argument ? argument.map : undefined);

/** An argument where the operations come `shift` later, after the copies. */
const moved = (argument: Argument, copies: ReturnType<typeof copiesOf>, shift: number): Argument => {
  const copied = copies.get(streamKey(argument) ?? "");
  if (copied !== undefined) return { op: copied.op };
  return "op" in argument ? { op: argument.op + shift } : argument;
};

/** `turning`: cycles that the MXM result takes more where it is rearranged. */
const offsetsOf = (ops: readonly AluOp[], { timing }: Target, turning: number): number[] => {
  const follows: boolean[] = [];
  for (const { args } of ops)
    follows.push(args.some((argument) => "mxm" in argument || ("op" in argument && follows[argument.op] === true)));
  // Without an MXM result all is as soon as possible.
  const soon = (index: number): boolean => follows[index] === true || !follows.includes(true);
  const isTurned = ({ args }: AluOp): boolean => args.some((argument) => mapOf(argument) !== undefined);
  const offsets = ops.map((op) => timing.vxmEntry + (isTurned(op) ? turning : 0));
  const offsetOf = (index: number): number => at(offsets, index, "offset");
  for (const [index, { args }] of ops.entries())
    if (soon(index))
      for (const argument of args)
        if ("op" in argument && soon(argument.op))
          offsets[index] = Math.max(offsetOf(index), offsetOf(argument.op) + timing.vxmAlu);
  for (let index = ops.length - 1; index >= 0; index--) {
    if (soon(index)) continue;
    let latest = NEVER;
    for (const [user, { args }] of ops.entries())
      if (args.some((argument) => "op" in argument && argument.op === index))
        latest = Math.min(latest, offsetOf(user) - timing.vxmAlu);
    offsets[index] = latest;
  }
  return offsets;
};

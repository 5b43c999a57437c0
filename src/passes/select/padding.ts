/**
 * Unused lanes: what lies on the lanes of a panel that no element of a value uses.
 *
 * They are read, computed and stored like all others, and an infinity there would meet the zeros of an array: 0 * inf is no
 * number. So every storage has facts, an interval of what its elements may be and one of what its unused lanes may hold; the
 * rows of ALU_RANGES say what each function makes of intervals. What may be infinite is masked before it is stored.
 * Elements themselves are taken to be finite unless the graph says otherwise: those that overflow are not wrong in silence.
 */

import { LARGEST_F16, LARGEST_F32, roundToF16 } from "../../ir/numerics.js";
import { at } from "../../diagnostics.js";
import type { NodeId } from "../../ir/graph.js";
import type { AluOp, Argument, Leaf, StorageType } from "../../ir/plan.js";
import { ALU_RANGES, bounded, isSpecial, type Range, union, ZERO } from "../../ir/ranges.js";

/** What may lie on the lanes of a storage: of its elements, and on the lanes that no element uses. */
export interface Facts {
  readonly values: Range;
  readonly padding: Range;
}

/** What is known while a plan is made, as far as facts follow from it; a Selection is one. */
interface Known {
  readonly storages: readonly { readonly dtype: StorageType }[];
  readonly facts: Facts[];
  /** Ranges of the sums that a permutation brings to all lanes: by number of the map. */
  readonly sumRanges: ReadonlyMap<number, Range>;
  /** The range of each node of the graph. */
  readonly ranges: readonly Range[];
}

/** The greatest finite number of each type. */
const LARGEST: Readonly<Record<StorageType, number>> = { f16: LARGEST_F16, f32: LARGEST_F32, i32: 2 ** 31 };

/** A bound as a type rounds it: near zero that may be zero, by which nothing may be divided. */
const roundedTo = (bound: number, dtype: StorageType): number =>
  dtype === "f16" && Math.abs(bound) < 1 ? roundToF16(bound) : bound;

/** What numbers of a type are, as far as a range does not say more. */
export const withinType = ({ lo, hi, mayBeInfinite, mayBeNan }: Range, dtype: StorageType): Range => ({
  lo: roundedTo(Math.max(lo, -LARGEST[dtype]), dtype),
  hi: roundedTo(Math.min(hi, LARGEST[dtype]), dtype),
  mayBeInfinite,
  mayBeNan,
});

/** What becomes of a range when it is stored: beyond the type's numbers are infinities. */
const stored = (range: Range, dtype: StorageType): Range => {
  const overflows = range.lo < -LARGEST[dtype] || range.hi > LARGEST[dtype];
  return { ...withinType(range, dtype), mayBeInfinite: range.mayBeInfinite || overflows };
};

/** What the sums of passes are: on columns that have weights anything, on the others zero. */
export const SUMS: Facts = { values: bounded(-LARGEST.f32, LARGEST.f32), padding: ZERO };
/** Where copies fill the columns that have no weights of their own. */
export const FILLED_SUMS: Facts = { values: SUMS.values, padding: SUMS.values };

const typeOf = ({ storages }: Known, storage: number): StorageType => at(storages, storage, "storage").dtype;

export const factsOf = (s: Known, storage: number): Facts => {
  const known = s.facts[storage];
  if (known !== undefined) return known;
  const values = withinType(bounded(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY), typeOf(s, storage));
  return { values, padding: ZERO };
};

/** Facts of what an ALU takes; a permutation may bring any lane to any other. */
const factsOfArgument = (s: Known, leaves: readonly Leaf[], sums: Facts, argument: Argument): Facts => {
  if ("constant" in argument) {
    const value = bounded(argument.constant, argument.constant);
    const range = Number.isFinite(argument.constant) ? value : { ...ZERO, mayBeInfinite: true, mayBeNan: false };
    return { values: range, padding: range };
  }
  if ("mxm" in argument)
    return argument.map === undefined ? sums : { values: sums.values, padding: turnedSums(s, argument.map, sums) };
  const leaf = "leaf" in argument ? leaves[argument.leaf] : undefined;
  if (leaf === undefined) return SUMS;
  const { values, padding } = factsOf(s, leaf.storage);
  if (leaf.map === undefined) return { values, padding };
  const both = union(values, padding);
  return { values: both, padding: both };
};

const turnedSums = (s: Known, map: number, sums: Facts): Range => s.sumRanges.get(map) ?? sums.values;

/** Facts of the last operation of a chain. */
export const factsOfChain = (s: Known, ops: readonly AluOp[], leaves: readonly Leaf[], sums: Facts): Facts =>
  at(factsOfOps(s, ops, leaves, sums), ops.length - 1, "operation");

/** Facts of every operation of a chain. */
export const factsOfOps = (s: Known, ops: readonly AluOp[], leaves: readonly Leaf[], sums: Facts): readonly Facts[] => {
  const made: Facts[] = [];
  for (const { fn, args } of ops) {
    const operands = args.map((argument) =>
      "op" in argument ? at(made, argument.op, "operation") : factsOfArgument(s, leaves, sums, argument),
    );
    const isSquare = args.length === 2 && JSON.stringify(args[0]) === JSON.stringify(args[1]);
    const apply = (of: keyof Facts): Range =>
      ALU_RANGES[fn](
        operands.map((operand) => operand[of]),
        isSquare,
      );
    made.push({ values: apply("values"), padding: apply("padding") });
  }
  return made;
};

/** Facts of a storage of a type in which the results of a chain are stored. */
export const storedFacts = ({ values, padding }: Facts, dtype: StorageType): Facts => ({
  values: withinType(values, dtype),
  padding: stored(padding, dtype),
});

/** Says of a storage's elements what the graph knows of a node; with `everywhere`, they stand on all lanes. */
export const refine = (s: Known, storage: number, node: NodeId, everywhere = false): void => {
  const range = s.ranges[node];
  if (range === undefined) return;
  const values = withinType(range, typeOf(s, storage));
  s.facts[storage] = { values, padding: everywhere ? values : factsOf(s, storage).padding };
};

/** Whether what a chain stores on unused lanes may be an infinity or a NaN. */
export const mayDiverge = (
  s: Known,
  { ops, leaves }: { readonly ops: readonly AluOp[]; readonly leaves: readonly Leaf[] },
  dtype: StorageType,
): boolean => isSpecial(storedFacts(factsOfChain(s, ops, leaves, SUMS), dtype).padding);

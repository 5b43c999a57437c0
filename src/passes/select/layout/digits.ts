/**
 * Digits of a move: which parts of an index lie on rows or lanes, before and after, and the places that they lead to.
 *
 * A digit is a pair of factors of one extent, the target's first. The four lists of a Move are all digits that matter; an
 * element's place is the sum over them, before and after, so the combinations of one list are one loop of the move.
 */

import type { BitsType, StorageId } from "../../../ir/plan.js";
import type { FactorPair, Located } from "./operand.js";
import type { Chain, Part } from "../selection.js";

export interface Move {
  readonly value: Located;
  /** What is multiplied, lying as the value does, and what its sums flow through; `as`: results are bits. */
  readonly parts: readonly Part[];
  readonly chain: Chain;
  readonly as: BitsType | undefined;
  /** Destination, its panels, and its first column. */
  readonly storage: StorageId;
  readonly panels: number;
  readonly column: number;
  /** Digits by where they lie in the source and in the destination. */
  readonly rowToRow: readonly FactorPair[];
  readonly laneToRow: readonly FactorPair[];
  readonly rowToLane: readonly FactorPair[];
  readonly laneToLane: readonly FactorPair[];
  /** Row strides in the destination, of the digits that lie on rows there. */
  readonly strides: ReadonlyMap<FactorPair, number>;
  readonly origin: number;
}

export const productOfExtents = (pairs: readonly FactorPair[]): number =>
  pairs.reduce((product, [f]) => product * f.extent, 1);

export const largestDivisor = (n: number, limit: number): number => {
  let divisor = Math.min(n, limit);
  while (divisor > 1 && n % divisor !== 0) divisor--;
  return Math.max(1, divisor);
};

/** Offsets in destination and source of every combination of digits, the first digit outermost. */
export const combinations = (
  pairs: readonly FactorPair[],
  target: "row" | "column",
  source: "row" | "column",
  strides?: ReadonlyMap<FactorPair, number>,
): { readonly to: number; readonly from: number }[] => {
  let all = [{ to: 0, from: 0 }];
  for (const pair of pairs) {
    const [f, g] = pair;
    const stride = strides?.get(pair) ?? f[target];
    all = all.flatMap(({ to, from }) =>
      Array.from({ length: f.extent }, (_, i) => ({ to: to + i * stride, from: from + i * g[source] })),
    );
  }
  return all;
};

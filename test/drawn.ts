/** Placements that are drawn, for tests of what any of them must keep. */

import { elementCount } from "../src/ir/graph.js";
import type { Placement } from "../src/ir/ops/placement.js";
import type { Costs } from "../src/passes/graph/shard/costs.js";

/** Costs that mean nothing: wires are cheap, and work that is not shared is dear. `to`: where values may be moved; anywhere if not given. */
export const drawnCosts = (seed: number, to?: readonly Placement[]): Costs => {
  let state = seed;
  const next = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * below;
  };
  const moves = (from: Placement, wanted: Placement): boolean =>
    from !== "whole" && wanted !== "partial" && (to === undefined || to.includes(wanted));
  return {
    compute: ({ type }) => next(100) * elementCount(type.shape),
    move: (_, from, wanted) => (moves(from, wanted) ? next(200) : undefined),
  };
};

/** By the norm of all elements. */
export const relativeError = (actual: Float32Array, wanted: Float32Array): number => {
  let [difference, size] = [0, 0];
  for (const [i, value] of wanted.entries()) {
    difference += (value - (actual[i] ?? 0)) ** 2;
    size += value ** 2;
  }
  return Math.sqrt(difference / Math.max(size, 1e-12));
};

/**
 * Steps of a maximum: each lane of every group ends with the group's greatest, whatever lies on the lanes beside it, by as
 * many leaves as arrive at once, and those that are said to stay in their superlanes do.
 */

import { describe, expect, test } from "@jest/globals";
import { at } from "../src/diagnostics.js";
import { isAlikeInSuperlanes, type StorageType } from "../src/ir/plan.js";
import { TARGETS, type Target, type TargetName } from "../src/ir/target.js";
import { laneMap } from "../src/passes/select/rules/max.js";
import { type MaxStep, stepsOf } from "../src/passes/select/rules/max-steps.js";

const BESIDE = 1e9;

interface Maps {
  readonly keeps: boolean;
  readonly maps: readonly Int16Array[];
}

/** Steps with the lane maps of the first panel. */
const mapped = (target: Target, steps: readonly MaxStep[], starts: readonly number[]): Maps[] =>
  steps.map(({ keeps, sources, within }) => {
    const maps = sources.map((source) => laneMap(target, starts, 0, source));
    if (within) expect(maps.every((map) => isAlikeInSuperlanes(map, target.superlane))).toBe(true);
    return { keeps, maps };
  });

/** Lanes after all steps. */
const after = (steps: readonly Maps[], lanes: readonly number[]): readonly number[] =>
  steps.reduce(
    (now, { keeps, maps }) =>
      now.map((own, lane) =>
        maps.reduce(
          (most, map) => Math.max(most, at(now, at(map, lane, "lane"), "lane")),
          keeps ? own : Number.NEGATIVE_INFINITY,
        ),
      ),
    lanes,
  );

/** Some places among n, with the first, the last, and those beside the ends of superlanes. */
const placesIn = (n: number): number[] =>
  Array.from({ length: n }, (_, place) => place).filter(
    (place) => place % 16 < 2 || place % 7 === 0 || place === n - 1,
  );

const CASES: readonly [target: TargetName, n: number, groups: number, apart: number, first: number][] = [
  ...[1, 2, 5, 15, 16, 17, 32, 50, 64, 77, 128, 159, 160, 161, 197, 250, 256, 257, 304, 319, 320].map(
    (n) => ["lpu-v1", n, 1, n, 0] as [TargetName, number, number, number, number],
  ),
  ...[4, 8, 16, 17, 20, 33, 50, 64, 77, 80, 128, 160].map(
    (n) => ["lpu-v1", n, Math.floor(320 / n), n, 0] as [TargetName, number, number, number, number],
  ),
  ["lpu-v1", 64, 2, 160, 0],
  ["lpu-v1", 100, 2, 160, 0],
  ["lpu-v1", 96, 1, 96, 160],
  ["lpu-v1", 70, 1, 70, 35],
  ...[1, 2, 3, 4, 7, 8, 12, 13, 16].map((n) => ["tiny", n, 1, n, 0] as [TargetName, number, number, number, number]),
  ["tiny", 4, 4, 4, 0],
  ["tiny", 5, 3, 5, 0],
];

describe("the greatest of groups of lanes", () => {
  const kinds: readonly (readonly [StorageType, number])[] = [
    ["f16", 1],
    ["f16", 4096],
    ["f32", 1],
    ["i32", 1],
  ];
  for (const [dtype, vectors] of kinds)
    test.each(CASES)(
      `${dtype} in ${vectors} vectors, %s: groups of %i, %i of them, %i lanes apart, from lane %i`,
      (name, n, groups, apart, first) => {
        const target = TARGETS[name];
        const starts = Array.from({ length: groups }, (_, group) => first + group * apart);
        const steps = stepsOf(target, dtype, { starts, n, vectors });
        const leaves = steps.map(({ keeps, sources }) => sources.length + (keeps ? 1 : 0));
        const bytes = dtype === "f16" ? 2 : 4;
        const maps = mapped(target, steps, starts);
        expect(Math.max(1, ...leaves) * bytes).toBeLessThanOrEqual(target.streams);
        // The greatest lies on each lane of its group in turn; beside the groups lies what is greater than all.
        for (const place of placesIn(n)) {
          const lanes = Array.from({ length: target.lanes }, () => BESIDE);
          for (const [group, start] of starts.entries())
            for (let i = 0; i < n; i++) lanes[start + i] = i === (place + 7 * group) % n ? 100 + group : -i;
          const ends = after(maps, lanes);
          for (const [group, start] of starts.entries())
            expect(new Set(ends.slice(start, start + n))).toEqual(new Set([100 + group]));
        }
      },
    );

  test("of 256 fp16 numbers takes three steps, one of them across superlanes; of 64 two", () => {
    const ways = (dtype: StorageType, n: number, vectors = 1): string =>
      stepsOf(TARGETS["lpu-v1"], dtype, { starts: [0], n, vectors })
        .map(({ keeps, sources, within }) => `${within ? "within" : "across"} ${sources.length + (keeps ? 1 : 0)}`)
        .join(", ");
    expect(ways("f16", 256)).toBe("within 4, across 8, within 8");
    expect(ways("f16", 64)).toBe("across 8, within 8");
    expect(ways("f16", 320)).toBe("within 4, across 10, within 8");
    expect(ways("f32", 256)).toBe("within 4, across 4, within 4, within 4");
    expect(ways("f16", 256, 4096)).toBe("within 4, across 4, within 4, within 4");
  });
});

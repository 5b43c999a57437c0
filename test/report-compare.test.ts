/** Comparison of two programs: rows are of one name, and their differences sum to that of the programs. */

import { chosenEntry } from "../src/ir/program.js";
import { beforeAll, describe, expect, test } from "@jest/globals";
import { type Analysis, analysisOf } from "../src/report/analysis.js";
import { type Comparison, compareOverviews } from "../src/report/compare.js";
import type { Overview } from "../src/report/overview.js";
import { pageData } from "../src/report/page/data.js";
import { htmlLines } from "../src/report/page/html.js";
import { formatDifference } from "../src/report/units.js";
import { compileSmall, type SmallName } from "./compiled.js";

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const modelOf = (name: SmallName, target: "lpu-v1" | "unit-latency"): Analysis =>
  analysisOf(chosenEntry(compileSmall(name, target).program));

describe("bert beside others", () => {
  let own: Analysis;
  let there: Analysis;
  let faster: Overview;
  let other: Overview;
  let comparison: Comparison;
  beforeAll(() => {
    own = modelOf("bert", "lpu-v1");
    there = modelOf("bert", "unit-latency");
    faster = there.overview;
    other = modelOf("gpt2", "lpu-v1").overview;
    comparison = compareOverviews(own.overview, faster);
  });

  test("differences by bound, layer and node each sum to the difference of the programs", () => {
    for (const [there, found] of [
      [faster, comparison],
      [other, compareOverviews(own.overview, other)],
    ] as const) {
      const difference = own.overview.cycles - there.cycles;
      expect(found.difference).toBe(difference);
      expect(sum(Object.values(found.bounds))).toBe(difference);
      for (const rows of [found.layers, found.nodes]) {
        expect(sum(rows.map((row) => row.difference))).toBe(difference);
        expect(sum(rows.map((row) => row.cycles))).toBe(own.overview.cycles);
        expect(sum(rows.map((row) => row.otherCycles))).toBe(there.cycles);
        for (const row of rows) expect(sum(Object.values(row.bounds))).toBe(row.difference);
        const sizes = rows.map((row) => Math.abs(row.difference));
        expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
      }
      for (const [unit, { bursts, executions }] of Object.entries(found.units)) {
        const count = ({ units }: Overview, of: "bursts" | "executions"): number => units[unit as "mem"][of];
        expect(bursts).toBe(count(own.overview, "bursts") - count(there, "bursts"));
        expect(executions).toBe(count(own.overview, "executions") - count(there, "executions"));
      }
      expect(sum(Object.values(own.overview.units).map(({ bursts }) => bursts))).toBe(own.overview.bursts);
      expect(sum(Object.values(own.overview.units).map(({ executions }) => executions))).toBe(
        sum(Object.values(own.overview.executions)),
      );
      expect(found.energyDifference).toBe(own.overview.energy.femtojoules - there.energy.femtojoules);
    }
  });

  test("the same model has the same nodes, another one has none in common but by name", () => {
    expect(new Set(comparison.nodes.map((row) => row.in))).toEqual(new Set(["both"]));
    const names = new Set(other.nodes.map(({ name }) => name));
    for (const row of compareOverviews(own.overview, other).nodes) {
      const here = own.overview.nodes.some(({ name }) => name === row.name);
      expect(row.in).toBe(here ? (names.has(row.name) ? "both" : "this") : "other");
    }
  });

  test("a program differs from itself in nothing", () => {
    const same = compareOverviews(own.overview, own.overview);
    expect([same.difference, same.energyDifference, ...Object.values(same.bounds)].every((value) => value === 0)).toBe(
      true,
    );
    expect(same.nodes.filter((row) => row.difference !== 0 || row.energyDifference !== 0)).toEqual([]);
  });

  test("the page says it", () => {
    const data = pageData(own, there, (_, { op }) => op);
    const page = [...htmlLines(data)].join("");
    // Both programs' queues, one below the other, and every burst of either in one row.
    const queuesOf = ({ activity }: Analysis): number => new Set(activity.bursts.queue).size;
    const below = data.rows.filter(({ name }) => name.startsWith("other "));
    expect([data.rows.length - below.length, below.length]).toEqual([queuesOf(own), queuesOf(there)]);
    expect(sum(data.rows.map(({ first, end }) => end - first))).toBe(
      own.activity.bursts.size + there.activity.bursts.size,
    );
    expect(data.cycles).toBe(Math.max(own.overview.cycles, faster.cycles));
    expect(data.nodes).toEqual(own.activity.program.origins);
    expect(page).toContain("Compared with bert on unit-latency");
    for (const { name, difference } of comparison.layers)
      expect(page).toMatch(
        new RegExp(
          `${name}</th><td>[\\d,]+</td><td>[\\d,]+</td><td>[+]?${formatDifference(difference).replace("+", "")}</td>`,
        ),
      );
  });
});

test("differences have a sign", () => {
  expect([-1234, 0, 0.2, 7].map(formatDifference)).toEqual(["-1,234", "0", "0", "+7"]);
});

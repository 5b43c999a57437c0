/** Attention of every number of heads that models use, at lengths around the borders of panels and of blocks of heads. */

import { expect, test } from "@jest/globals";
import { TARGETS } from "../src/ir/target.js";
import { expectAsEvaluated } from "./as-evaluated.js";
import { attention, numbers } from "./attention.js";
import { planOf, programOf } from "./compiled.js";

test.each([
  [6, 64, 53],
  [9, 64, 35],
  [12, 64, 16],
  [12, 64, 50],
  [12, 32, 27],
  [14, 64, 23],
  [16, 64, 31],
  [25, 64, 13],
  [12, 80, 21],
  [8, 96, 40],
  [12, 64, 321],
  [6, 64, 330],
  [3, 96, 641],
  // Rests of 12, 37, 64 and 32 keys, of five, four, two and two heads side by side.
  [5, 32, 172],
  [12, 64, 197],
  [4, 64, 384],
  [2, 32, 512],
])("%d heads of %d over %d tokens", (heads, size, tokens) => {
  const graph = attention(heads, size, tokens);
  const x = numbers([tokens, heads * size], 2, 4);
  expectAsEvaluated(graph, x, "lpu-v1");
});

/** Cycles may grow by so much more than the number of tokens: at a border each pass has one more panel, or one more half of one. */
const MOST_GROWTH = 1.5;

test("cycles grow as their work does, at borders of halves and of panels, too", () => {
  const lengths = [80, 159, 161, 319, 321];
  const cycles = lengths.map(
    (tokens) => programOf(attention(4, 64, tokens), TARGETS["lpu-v1"]).entries[0]?.cycles[0] ?? 0,
  );
  for (const [i, tokens] of lengths.entries()) {
    const [before, now] = [cycles[i - 1], cycles[i]];
    if (before === undefined || now === undefined) continue;
    expect(now / before).toBeLessThan((MOST_GROWTH * tokens) / (lengths[i - 1] ?? tokens));
  }
});

test.each([
  [16, "32 x 2, 32 x 2"],
  [128, "64 x 1, 64 x 2, 64 x 1"],
])("%d values turn in blocks of rows and passes of so many as take least with their loads", (tokens, expected) => {
  const { tasks, storages } = planOf(attention(5, 64, tokens), TARGETS["lpu-v1"]);
  // What turns passes through an identity, the only constant that is no weight here.
  const turns = tasks.filter(
    ({ passes }) => passes.length > 0 && passes.every(({ storage }) => storages[storage]?.kind === "constant"),
  );
  expect(turns.map(({ rows, passes }) => `${rows} x ${passes.length}`).join(", ")).toBe(expected);
});

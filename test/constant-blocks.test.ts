/** Constant blocks: the bytes that an image has in their rows are those that the blocks say they hold, which is all that the proof sees. */

import { expect, test } from "@jest/globals";
import { at, sure } from "../src/diagnostics.js";
import type { Contents } from "../src/ir/contents.js";
import type { PackedTile, TileDType } from "../src/ir/plan.js";
import type { ConstantBlock } from "../src/ir/program.js";
import { TARGETS } from "../src/ir/target.js";
import { executionsOf, tileWays } from "../src/passes/schedule/figures.js";
import { constantBlocks } from "../src/passes/schedule/place/constant-blocks.js";

const target = TARGETS["lpu-v1"];
const { lanes } = target;

const tileOf = (key: string, dtype: TileDType, columns: number): PackedTile => ({
  ...{ key, dtype, columns, column: 0 },
  recipe: { kind: "points", vectors: columns, value: 1, places: [] },
});

/** No two bytes that are near each other are the same. */
const bitsOf = ({ dtype, columns }: Pick<PackedTile, "dtype" | "columns">): Uint8Array | Uint16Array => {
  const length = (columns * lanes) / 2;
  const bits = dtype === "f16" ? new Uint16Array(length) : new Uint8Array(length);
  return bits.map((_, i) => i * 7919 + 1);
};

/** What a block says that it holds, of a tile. */
const heldBy = ({ rows, holds }: ConstantBlock, tile: PackedTile): Uint8Array => {
  const { first, step, byte } = sure(holds, "what a block holds");
  const bits = bitsOf(tile);
  return Uint8Array.from({ length: rows * lanes }, (_, i) => {
    const element = (first + step * Math.floor(i / lanes)) * lanes + (i % lanes);
    // Rows behind the last column are zeros.
    return element < bits.length ? at(bits, element, "element") >>> (8 * byte) : 0;
  });
};

test.each<readonly [TileDType, number, number]>([
  ["f16", 4, 16],
  ["f16", 16, 4],
  ["f8e4m3", 4, 8],
])("a tile of %s lies in %d pairs of one hemisphere, and in %d of the other", (dtype, west, east) => {
  const tile = tileOf("one", dtype, 150);
  const contents: Contents = {
    tile: () => bitsOf(tile),
    panel: () => new Uint16Array(0),
    table: () => new Uint8Array(0),
  };
  const blocks = constantBlocks(target, contents, "main");
  for (const [hemisphere, count] of [["W", west] as const, ["E", east] as const]) {
    const pairs = Array.from({ length: count }, (_, pair) => pair);
    const place = { pairs, addresses: pairs.map(() => 0) };
    blocks.addTile(tile, hemisphere, place, executionsOf(tile, count), tileWays(tile, count));
  }
  const made = blocks.finish();
  expect(made).toHaveLength(2 * (west + east));
  for (const block of made) expect(block.bytes()).toEqual(heldBy(block, tile));
});

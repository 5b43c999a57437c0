/**
 * Constant blocks: which bytes lie where in SRAM before cycle 0. Their contents are made when the image is written.
 *
 * An element is cut into byte planes, one slice each. Blocks that are cut from the same tile or panel stand together, and
 * tiles of the same matrix too, so that each matrix is read once and only the last one is remembered.
 */

import { invariant } from "../diagnostics.js";
import type { PackedTile, Storage } from "../ir/plan.js";
import type { ConstantBlock } from "../ir/program.js";
import type { Hemisphere, Target } from "../ir/target.js";

type Bits = Uint16Array | Uint32Array;

export interface ConstantBlocks {
  /** Rows of a panel, the same address in each of the pairs (one for f16, two for f32). */
  readonly addRows: (
    storage: Storage,
    panel: number,
    rows: { readonly row: number; readonly rows: number },
    hemisphere: Hemisphere,
    place: { readonly pairs: readonly number[]; readonly address: number },
  ) => void;
  /** A weight tile: vector j (columns 2j and 2j + 1) lies in pair j % ways at row floor(j / ways). */
  readonly addTile: (
    tile: PackedTile,
    hemisphere: Hemisphere,
    place: { readonly pairs: readonly number[]; readonly addresses: readonly number[] },
    executions: number,
    ways: number,
  ) => void;
  readonly finish: () => ConstantBlock[];
}

export const constantBlocks = (target: Target): ConstantBlocks => {
  const { lanes } = target;
  const blocks: { readonly key: string; readonly block: ConstantBlock }[] = [];
  const last: { key: string; bits: Bits } = { key: "", bits: new Uint16Array(0) };
  const remember = (key: string, make: () => Bits): Bits => {
    if (last.key !== key) {
      last.bits = make();
      last.key = key;
    }
    return last.bits;
  };
  return {
    addRows: ({ id, content }, panel, { row, rows }, hemisphere, { pairs, address }) => {
      invariant(content !== undefined, "a constant has contents");
      const key = `panel ${id}/${panel}`;
      for (const [i, pair] of pairs.entries())
        for (const plane of [0, 1]) {
          const bytes = (): Uint8Array => bytePlane(remember(key, () => content(panel)), row * lanes, rows * lanes, 2 * i + plane);
          blocks.push({ key, block: { hemisphere, slice: 2 * pair + plane, row: address, rows, bytes } });
        }
    },
    addTile: (tile, hemisphere, { pairs, addresses }, executions, ways) => {
      for (const [way, pair] of pairs.entries())
        for (const plane of [0, 1]) {
          const bytes = (): Uint8Array => tilePlane(remember(tile.key, tile.content), { lanes, executions, ways, way, plane });
          const row = addresses[way];
          invariant(row !== undefined, "each way has an address");
          blocks.push({ key: tile.key, block: { hemisphere, slice: 2 * pair + plane, row, rows: executions, bytes } });
        }
    },
    finish: () => blocks.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)).map(({ block }) => block),
  };
};

const bytePlane = (bits: Bits, from: number, count: number, byte: number): Uint8Array => {
  const plane = new Uint8Array(count);
  const shift = 8 * byte;
  for (let i = 0; i < count; i++) plane[i] = (bits[from + i] as number) >>> shift;
  return plane;
};

interface TileCut {
  readonly lanes: number;
  readonly executions: number;
  readonly ways: number;
  readonly way: number;
  readonly plane: number;
}

const tilePlane = (bits: Bits, { lanes, executions, ways, way, plane }: TileCut): Uint8Array => {
  const bytes = new Uint8Array(executions * lanes);
  const shift = 8 * plane;
  for (let row = 0; row < executions; row++) {
    const from = (row * ways + way) * lanes;
    const length = Math.min(lanes, bits.length - from);
    for (let lane = 0; lane < length; lane++) bytes[row * lanes + lane] = (bits[from + lane] as number) >>> shift;
  }
  return bytes;
};

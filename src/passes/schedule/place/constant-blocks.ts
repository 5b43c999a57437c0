/**
 * Constant blocks: which bytes lie where in SRAM before cycle 0. Their contents are made when the image is written.
 *
 * An element is cut into byte planes, one slice each. Blocks that are cut from the same tile or panel stand together, and
 * tiles of the same matrix too, so that each matrix is read once and only the last one is remembered.
 */

import { invariant } from "../../../diagnostics.js";
import type { Contents } from "../../../ir/contents.js";
import { type PackedTile, type Storage, TILE_TYPES } from "../../../ir/plan.js";
import type { ConstantBlock } from "../../../ir/program.js";
import { literalOf } from "../../../ir/recipe.js";
import type { Hemisphere, Target } from "../../../ir/target.js";

type Bits = Uint16Array | Uint32Array;

export interface ConstantBlocks {
  /** Rows of a panel, in one pair (f16) or two (f32). */
  readonly addRows: (
    storage: Storage,
    panel: number,
    rows: { readonly row: number; readonly rows: number },
    hemisphere: Hemisphere,
    place: { readonly pairs: readonly number[]; readonly addresses: readonly number[] },
  ) => void;
  /** A weight tile: vector j (columns 2j and 2j + 1) lies in way j % ways at row floor(j / ways); a pair has a way of fp16, or two of FP8. */
  readonly addTile: (
    tile: PackedTile,
    hemisphere: Hemisphere,
    place: { readonly pairs: readonly number[]; readonly addresses: readonly number[] },
    executions: number,
    ways: number,
  ) => void;
  readonly finish: () => ConstantBlock[];
}

export const constantBlocks = (target: Target, contents: Contents, entry: string): ConstantBlocks => {
  const { lanes } = target;
  const blocks: { readonly key: string; readonly block: ConstantBlock }[] = [];
  const last: { key: string; planes: Uint8Array } = { key: "", planes: new Uint8Array(0) };
  const remember = (key: string, cut: () => Uint8Array): Uint8Array => {
    if (last.key !== key) {
      last.planes = cut();
      last.key = key;
    }
    return last.planes;
  };
  return {
    addRows: ({ id, dtype, rows: height, recipe }, panel, { row, rows }, hemisphere, { pairs, addresses }) => {
      invariant(recipe !== undefined, "a constant has a recipe");
      const key = `panel ${id}/${panel}`;
      const cut = (): Uint8Array => panelPlanes(contents.panel(recipe, dtype, panel));
      for (const [i, pair] of pairs.entries()) {
        const address = addresses[i];
        invariant(address !== undefined, "each pair has an address");
        for (const plane of [0, 1]) {
          const from = ((2 * i + plane) * height + row) * lanes;
          const bytes = (): Uint8Array => remember(key, cut).subarray(from, from + rows * lanes);
          const of = { entry, storage: id, panel };
          const holds = { of, first: row, step: 1, byte: 2 * i + plane, literal: literalOf(recipe) };
          blocks.push({ key, block: { hemisphere, slice: 2 * pair + plane, row: address, rows, bytes, holds } });
        }
      }
    },
    addTile: (tile, hemisphere, { pairs, addresses }, executions, ways) => {
      const { bytes: size } = TILE_TYPES[tile.dtype];
      // In the other hemisphere it may lie in other ways.
      const cutAs = `${tile.key} in ${ways} ways`;
      const cut = (): Uint8Array => tilePlanes(contents.tile(tile), { lanes, executions, ways });
      for (const [index, pair] of pairs.entries())
        for (const slice of [0, 1]) {
          const plane = 2 * index + slice;
          const from = plane * executions * lanes;
          const bytes = (): Uint8Array => remember(cutAs, cut).subarray(from, from + executions * lanes);
          const row = addresses[index];
          invariant(row !== undefined, "each pair has an address");
          const first = Math.floor(plane / size);
          const literal = literalOf(tile.recipe);
          const holds = { of: { tile: tile.key }, first, step: ways, byte: plane % size, literal };
          const place = { hemisphere, slice: 2 * pair + slice, row, rows: executions };
          blocks.push({ key: tile.key, block: { ...place, bytes, holds } });
        }
    },
    finish: () => blocks.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)).map(({ block }) => block),
  };
};

/** [byte of the element][elements]. */
const panelPlanes = (bits: Bits): Uint8Array => {
  const size = bits.BYTES_PER_ELEMENT;
  const planes = new Uint8Array(bits.byteLength);
  for (let plane = 0; plane < size; plane++) {
    const to = plane * bits.length;
    const shift = 8 * plane;
    for (let i = 0; i < bits.length; i++) planes[to + i] = (bits[i] as number) >>> shift;
  }
  return planes;
};

interface TileCut {
  readonly lanes: number;
  readonly executions: number;
  readonly ways: number;
}

/** [way][byte of the element][execution][lane] */
const tilePlanes = (bits: Uint16Array | Uint8Array, cut: TileCut): Uint8Array =>
  bits instanceof Uint16Array ? halfPlanes(bits, cut) : bytePlanes(bits, cut);

const bytePlanes = (bits: Uint8Array, { lanes, executions, ways }: TileCut): Uint8Array => {
  const planes = new Uint8Array(ways * executions * lanes);
  for (let vector = 0; vector * lanes < bits.length; vector++) {
    const row = (vector % ways) * executions + Math.floor(vector / ways);
    planes.set(bits.subarray(vector * lanes, (vector + 1) * lanes), row * lanes);
  }
  return planes;
};

/** Four lanes (two words of elements, one of each plane) at a time. */
const halfPlanes = (bits: Uint16Array, { lanes, executions, ways }: TileCut): Uint8Array => {
  const elements = new Uint32Array(bits.buffer, bits.byteOffset, bits.length / 2);
  const quads = lanes / 4;
  const planes = new Uint32Array(ways * 2 * executions * quads);
  const vectors = Math.ceil(bits.length / lanes);
  for (let vector = 0; vector < vectors; vector++) {
    const low = ((vector % ways) * 2 * executions + Math.floor(vector / ways)) * quads;
    const high = low + executions * quads;
    const from = vector * 2 * quads;
    const end = Math.min(quads, (elements.length - from) / 2);
    for (let quad = 0; quad < end; quad++) {
      const one = elements[from + 2 * quad] as number;
      const two = elements[from + 2 * quad + 1] as number;
      planes[low + quad] = (one & 0xff) | ((one >>> 8) & 0xff00) | ((two & 0xff) << 16) | ((two & 0xff0000) << 8);
      planes[high + quad] = ((one >>> 8) & 0xff) | ((one >>> 16) & 0xff00) | ((two & 0xff00) << 8) | (two & 0xff000000);
    }
  }
  return new Uint8Array(planes.buffer);
};

/**
 * Contents: the one place where recipes become bits, while an image is written.
 *
 * The reader keeps only the literal that was read last: tiles of one matrix are made together, and no second copy of the
 * weights ever exists.
 */

import type { TensorData } from "./dtype.js";
import { elementCount, type Literal, type Tensor } from "./graph.js";
import { invariant } from "../diagnostics.js";
import { encodeF16, f16ToF32, f32ToF16 } from "./numerics.js";
import type { PackedTile, StorageType, TileDType } from "./plan.js";
import {
  type BlocksRecipe,
  type Matrix,
  type PanelRecipe,
  type PointsRecipe,
  productOf,
  type SpreadDigit,
  type SpreadRecipe,
} from "./recipe.js";
import { halfLanes, type Target } from "./target.js";
import { toFloats } from "./tensor.js";

export interface Contents {
  /** [columns][halfLanes] bits of the tile's type, in memory that the next tile takes. */
  readonly tile: (tile: Pick<PackedTile, "recipe" | "dtype">) => Uint16Array | Uint8Array;
  /** [rows][lanes] bits of one panel, of two or four bytes by dtype. */
  readonly panel: (recipe: PanelRecipe, dtype: StorageType, panel: number) => Uint16Array | Uint32Array;
  /** Bytes of a table of numbers of a type. */
  readonly table: (literal: string, dtype: StorageType) => Uint8Array;
}

/** Contents of recipes that name these literals. */
export const contentsOf = (target: Target, literals: ReadonlyMap<string, Literal>): Contents => {
  const reader = literalReader();
  const tiles = memoryOfHalfs();
  const columnsOf = columnOffsets();
  const named = (key: string): Literal => {
    const literal = literals.get(key);
    invariant(literal !== undefined, `the plan has a literal ${key}`);
    return literal;
  };
  const bitsOf = (key: string, dtype: StorageType): Uint16Array | Uint32Array => storedBits(reader, named(key), dtype);
  const matrixOf = (matrix: Matrix): Uint16Array =>
    "ones" in matrix
      ? new Uint16Array(matrix.ones[0] * matrix.ones[1]).fill(ONE_F16)
      : reader.halfs(named(matrix.literal));
  const bytesOf = (matrix: Matrix, dtype: TileDType): Uint8Array => {
    const literal = "literal" in matrix ? named(matrix.literal) : undefined;
    invariant(literal?.dtype === dtype && matrix.scale === 1, "FP8 weights are a literal of their type, as it is");
    return reader.bytes(literal);
  };
  return {
    tile: ({ recipe, dtype }) => {
      if (recipe.kind === "points") return pointsContent(recipe, halfLanes(target), 0, recipe.vectors);
      return dtype === "f16"
        ? scaleBy(recipe.matrix.scale, tileContent(target, matrixOf(recipe.matrix), recipe, tiles))
        : byteTileContent(target, bytesOf(recipe.matrix, dtype), recipe, tiles);
    },
    panel: (recipe, dtype, panel) => {
      if (recipe.kind === "spread") {
        const columns = columnsOf(recipe)?.subarray(panel * target.lanes);
        return spreadContent(target, recipe, bitsOf(recipe.literal, dtype), columns);
      }
      const rows = recipe.vectors;
      return pointsContent(recipe, target.lanes, panel * rows, rows);
    },
    table: (key, dtype) => {
      const literal = named(key);
      const ofHalfs = dtype === "f16" ? halfPiecesOf(literal) : undefined;
      const bits =
        ofHalfs === undefined
          ? bitsOf(key, dtype).slice()
          : joined(new Uint16Array(elementCount(literal.shape)), ofHalfs());
      return new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
    },
  };
};

const ONE_F16 = f32ToF16(1);

/** Scales fp16 bits where they are: those of a tile, since a matrix may have many. */
const scaleBy = (scale: number, bits: Uint16Array): Uint16Array => {
  if (scale !== 1) for (let i = 0; i < bits.length; i++) bits[i] = f32ToF16(f16ToF32(bits[i] as number) * scale);
  return bits;
};

/** Vectors [first, first + count) of a recipe of points. */
const pointsContent = ({ value, places }: PointsRecipe, width: number, first: number, count: number): Uint16Array => {
  const bits = new Uint16Array(count * width);
  const half = f32ToF16(value);
  for (const [vector, element] of places)
    if (vector >= first && vector < first + count) bits[(vector - first) * width + element] = half;
  return bits;
};

/** Of each column of all panels the offset of its element, or -1; undefined where a row is one element. Panels of one recipe come together. */
const columnOffsets = (): ((recipe: SpreadRecipe) => Int32Array | undefined) => {
  const last: { recipe?: SpreadRecipe; offsets?: Int32Array | undefined } = {};
  return (recipe) => {
    if (last.recipe === recipe) return last.offsets;
    const { columns, column } = recipe;
    const count = (digits: readonly SpreadDigit[]): number =>
      digits.reduce((most, { extent, to }) => most + (extent - 1) * to, column + 1);
    last.recipe = recipe;
    last.offsets = columns === undefined ? undefined : offsets(count(columns), columns, column);
    return last.offsets;
  };
};

/** [rows][lanes] bits of a panel; `columns`: the offsets of its columns, of the first ones where there are fewer than lanes. */
const spreadContent = (
  { lanes }: Target,
  { rows: rowDigits }: SpreadRecipe,
  source: Uint16Array | Uint32Array,
  columns: Int32Array | undefined,
): Uint16Array | Uint32Array => {
  const rows = productOf(rowDigits);
  const rowElement = offsets(rows, rowDigits);
  const width = Math.min(lanes, columns?.length ?? lanes);
  const bits = source instanceof Uint16Array ? new Uint16Array(rows * lanes) : new Uint32Array(rows * lanes);
  for (let row = 0; row < rows; row++) {
    const [from, to] = [rowElement[row] as number, row * lanes];
    if (columns === undefined) bits.fill(source[from] as number, to, to + lanes);
    else
      for (let lane = 0; lane < width; lane++) {
        const element = columns[lane] as number;
        if (element >= 0) bits[to + lane] = source[from + element] as number;
      }
  }
  return bits;
};

/** [columns][halfLanes] fp16 bits of a tile made of blocks; zero elsewhere. */
const tileContent = (
  target: Target,
  matrix: Uint16Array,
  { width, blocks }: BlocksRecipe,
  memory: (length: number) => Uint16Array,
): Uint16Array => {
  const half = halfLanes(target);
  const columns = Math.max(...blocks.map((block) => block.column + block.columns));
  const tile = memory(columns * half).fill(0);
  for (const { offset, k, count, lane, n, columns: taken, column } of blocks) {
    const turn = { from: offset + k * width + n, width, count, to: column * half + lane, half, columns: taken };
    if (Object.values(turn).every((value) => value % 2 === 0) && matrix.byteOffset % 4 === 0)
      turnPairs(matrix, tile, turn);
    else turnElements(matrix, tile, turn);
  }
  return tile;
};

/** The same of bytes. */
const byteTileContent = (
  target: Target,
  matrix: Uint8Array,
  { width, blocks }: BlocksRecipe,
  memory: (length: number) => Uint16Array,
): Uint8Array => {
  const half = halfLanes(target);
  const columns = Math.max(...blocks.map((block) => block.column + block.columns));
  const tile = new Uint8Array(memory(Math.ceil((columns * half) / 2)).buffer, 0, columns * half).fill(0);
  for (const { offset, k, count, lane, n, columns: taken, column } of blocks) {
    const turn = { from: offset + k * width + n, width, count, to: column * half + lane, half, columns: taken };
    if ([turn.to, half, count].every((value) => value % 4 === 0)) turnFours(matrix, tile, turn);
    else turnElements(matrix, tile, turn);
  }
  return tile;
};

/** Rows `count`, `width` elements apart, become columns, `half` elements apart. */
interface RowsToColumns {
  readonly from: number;
  readonly width: number;
  readonly count: number;
  readonly to: number;
  readonly half: number;
  readonly columns: number;
}

const turnElements = <Bits extends Uint16Array | Uint8Array>(
  matrix: Bits,
  tile: Bits,
  { from, width, count, to, half, columns }: RowsToColumns,
): void => {
  for (let i = 0; i < count; i++) {
    const source = from + i * width;
    for (let j = 0; j < columns; j++) tile[to + i + j * half] = matrix[source + j] as number;
  }
};

/** The same where everything is even: squares of two by two elements, as two words each. */
const turnPairs = (
  matrix: Uint16Array,
  tile: Uint16Array,
  { from, width, count, to, half, columns }: RowsToColumns,
): void => {
  const read = new Uint32Array(matrix.buffer, matrix.byteOffset, matrix.length >> 1);
  const written = new Uint32Array(tile.buffer);
  for (let i = 0; i < count; i += 2) {
    const first = (from + i * width) >> 1;
    const second = first + (width >> 1);
    let place = (to + i) >> 1;
    for (let j = 0; j < columns >> 1; j++) {
      const one = read[first + j] as number;
      const two = read[second + j] as number;
      written[place] = (one & 0xffff) | (two << 16);
      written[place + (half >> 1)] = (one >>> 16) | (two & 0xffff0000);
      place += half;
    }
  }
};

/** Bytes of four rows, which come to lie side by side: a word of each column. */
const turnFours = (
  matrix: Uint8Array,
  tile: Uint8Array,
  { from, width, count, to, half, columns }: RowsToColumns,
): void => {
  const written = new Uint32Array(tile.buffer, tile.byteOffset, tile.length >> 2);
  const step = half >> 2;
  for (let i = 0; i < count; i += 4) {
    const first = from + i * width;
    const [second, third, fourth] = [first + width, first + 2 * width, first + 3 * width];
    for (let j = 0, place = (to + i) >> 2; j < columns; j++, place += step)
      written[place] =
        (matrix[first + j] as number) |
        ((matrix[second + j] as number) << 8) |
        ((matrix[third + j] as number) << 16) |
        ((matrix[fourth + j] as number) << 24);
  }
};

/** For every place 0 .. count - 1 the element offset of the digits that lead there, or -1 where none do. */
const offsets = (count: number, digits: readonly SpreadDigit[], base = 0): Int32Array => {
  const result = new Int32Array(count).fill(-1);
  const visit = (index: number, place: number, element: number): void => {
    const digit = digits[index];
    if (digit === undefined) {
      if (place < count) result[place] = element;
      return;
    }
    for (let i = 0; i < digit.extent; i++) visit(index + 1, place + i * digit.to, element + i * digit.element);
  };
  visit(0, base, 0);
  return result;
};

/**
 * Memory for numbers that are used before the next ones are made, from its start on. Weights in memory of their own, by the
 * thousand, make the collector walk through the whole program for each few of them.
 */
const memoryOfHalfs = (): ((length: number) => Uint16Array) => {
  let memory = new Uint16Array(0);
  return (length) => {
    if (memory.length < length) memory = new Uint16Array(length);
    return memory.subarray(0, length);
  };
};

/* ---------- literals ---------- */

interface LiteralReader {
  /** fp16 bit patterns, in memory that the next literal may take. */
  readonly halfs: (literal: Literal) => Uint16Array;
  /** FP8 bit patterns. */
  readonly bytes: (literal: Literal) => Uint8Array;
  readonly floats: (literal: Literal) => Float32Array;
  /** Integers of at most 32 bits, as int32. */
  readonly integers: (literal: Literal) => Int32Array;
}

const literalReader = (): LiteralReader => {
  let key = "";
  let halfs: Uint16Array = new Uint16Array(0);
  let bytes: Uint8Array = new Uint8Array(0);
  const memory = memoryOfHalfs();
  return {
    bytes: (literal) => {
      if (literal.key === key) return bytes;
      const { data } = literal.load();
      invariant(data instanceof Uint8Array, "FP8 numbers are bytes");
      bytes = data;
      key = literal.key;
      return bytes;
    },
    halfs: (literal) => {
      if (literal.key === key) return halfs;
      const pieces = halfPiecesOf(literal);
      halfs = pieces === undefined ? halfsOf(literal.load()) : joined(memory(elementCount(literal.shape)), pieces());
      key = literal.key;
      return halfs;
    },
    floats: (literal) => toFloats(literal.load()),
    integers: (literal) => Int32Array.from(literal.load().data),
  };
};

/** Of a literal that comes as fp16 bit patterns, one piece after another. */
const halfPiecesOf = ({ dtype, pieces }: Literal): Literal["pieces"] => (dtype === "f16" ? pieces : undefined);

const halfsOf = (tensor: Tensor): Uint16Array =>
  tensor.dtype === "f16" && tensor.data instanceof Uint16Array ? tensor.data : encodeF16(toFloats(tensor));

const joined = (whole: Uint16Array, pieces: Iterable<TensorData>): Uint16Array => {
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
};

/** Bit patterns of a constant as it is stored. */
const storedBits = (reader: LiteralReader, literal: Literal, dtype: StorageType): Uint16Array | Uint32Array => {
  if (dtype === "f16") return reader.halfs(literal);
  const words = dtype === "f32" ? reader.floats(literal) : reader.integers(literal);
  return new Uint32Array(words.buffer, words.byteOffset, words.length);
};

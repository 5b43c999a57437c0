/**
 * Constants as the machine wants them: weight tiles for the MXM, panels of rows for everything read as an operand.
 *
 * Contents are functions, called once while the image is written. The reader keeps only the literal that was read last:
 * tiles of one matrix are written together, and no second copy of the weights ever exists.
 */

import type { TensorData } from "../../ir/dtype.js";
import { elementCount, type Literal, type Shape, type Tensor } from "../../ir/graph.js";
import { encodeF16 } from "../../ir/numerics.js";
import type { StorageType } from "../../ir/plan.js";
import { toFloats } from "../../ir/tensor.js";
import { halfLanes, type Target } from "../../ir/target.js";
import type { Located } from "./layout/operand.js";
import type { Factor, View } from "./layout/view.js";

export interface LiteralReader {
  /** fp16 bit patterns. */
  readonly halfs: (literal: Literal) => Uint16Array;
  readonly floats: (literal: Literal) => Float32Array;
  /** Integers of at most 32 bits, as int32. */
  readonly integers: (literal: Literal) => Int32Array;
}

export const literalReader = (): LiteralReader => {
  let key = "";
  let halfs: Uint16Array = new Uint16Array(0);
  return {
    halfs: (literal) => {
      if (literal.key === key) return halfs;
      halfs =
        literal.dtype === "f16" && literal.pieces !== undefined
          ? joined(literal, literal.pieces())
          : halfsOf(literal.load());
      key = literal.key;
      return halfs;
    },
    floats: (literal) => toFloats(literal.load()),
    integers: (literal) => Int32Array.from(literal.load().data),
  };
};

const halfsOf = (tensor: Tensor): Uint16Array =>
  tensor.dtype === "f16" && tensor.data instanceof Uint16Array ? tensor.data : encodeF16(toFloats(tensor));

const joined = (literal: Literal, pieces: Iterable<TensorData>): Uint16Array => {
  const whole = new Uint16Array(elementCount(literal.shape));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
};

/** The value of a constant of one element, as an ALU's immediate. */
export const scalarOf = (reader: LiteralReader, literal: Literal): number =>
  (literal.dtype === "i32" ? reader.integers(literal) : reader.floats(literal))[0] ?? 0;

/** Bit patterns of a constant as it is stored. */
const storedBits = (reader: LiteralReader, literal: Literal, dtype: StorageType): Uint16Array | Uint32Array => {
  if (dtype === "f16") return reader.halfs(literal);
  const words = dtype === "f32" ? reader.floats(literal) : reader.integers(literal);
  return new Uint32Array(words.buffer, words.byteOffset, words.length);
};

/** A block of a weight matrix [.., K, N]: element (k, n) of the block is at `offset + (k0 + k) * N + n0 + n`. */
export interface TileBlock {
  readonly offset: number;
  readonly k: number;
  readonly count: number;
  readonly lane: number;
  readonly n: number;
  readonly columns: number;
  readonly column: number;
}

/** [columns][halfLanes] fp16 bits of a tile made of blocks; zero elsewhere. */
export const tileContent = (
  target: Target,
  matrix: Uint16Array,
  width: number,
  blocks: readonly TileBlock[],
): Uint16Array => {
  const half = halfLanes(target);
  const columns = Math.max(...blocks.map((block) => block.column + block.columns));
  const tile = new Uint16Array(columns * half);
  for (const { offset, k, count, lane, n, columns: taken, column } of blocks) {
    const turn = { from: offset + k * width + n, width, count, to: column * half + lane, half, columns: taken };
    if (Object.values(turn).every((value) => value % 2 === 0) && matrix.byteOffset % 4 === 0)
      turnPairs(matrix, tile, turn);
    else turnElements(matrix, tile, turn);
  }
  return tile;
};

/** Rows `count`, `width` elements apart, become columns, `half` elements apart. */
interface Turn {
  readonly from: number;
  readonly width: number;
  readonly count: number;
  readonly to: number;
  readonly half: number;
  readonly columns: number;
}

const turnElements = (
  matrix: Uint16Array,
  tile: Uint16Array,
  { from, width, count, to, half, columns }: Turn,
): void => {
  for (let i = 0; i < count; i++) {
    const source = from + i * width;
    for (let j = 0; j < columns; j++) tile[to + i + j * half] = matrix[source + j] as number;
  }
};

/** The same where everything is even: squares of two by two elements, as two words each. */
const turnPairs = (matrix: Uint16Array, tile: Uint16Array, { from, width, count, to, half, columns }: Turn): void => {
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

export interface ConstantLayout {
  readonly key: string;
  readonly rows: number;
  readonly panels: number;
  readonly content: (panel: number) => Uint16Array | Uint32Array;
  readonly view: View;
  readonly repeated?: Located["repeated"];
}

/**
 * Lays a constant out to be read along with a result of the given space: rows only for the row dims along which it varies;
 * lanes as the space has them, repeated along the lane dims that it broadcasts over. A constant that does not vary along
 * lanes at all fills every lane of one panel.
 */
export const constantContent = (
  target: Target,
  reader: LiteralReader,
  literal: Literal,
  dtype: StorageType,
  full: View,
  fullShape: Shape,
): ConstantLayout => {
  const { lanes } = target;
  const missing = fullShape.length - literal.shape.length;
  // Element strides of the literal along the dims of the space.
  const strides: number[] = fullShape.map(() => 0);
  let stride = 1;
  for (let axis = literal.shape.length - 1; axis >= 0; axis--) {
    const extent = literal.shape[axis] ?? 1;
    if (extent > 1) strides[axis + missing] = stride;
    stride *= extent;
  }
  const digits = fullShape.flatMap((_, axis) => digitsOf(full.dims[axis] ?? [], strides[axis] ?? 0));
  const varies = digits.some((d) => d.column !== 0 && d.element !== 0);
  let rowStride = 1;
  const rowDigits = digits
    .filter((d) => d.row !== 0 && d.element !== 0)
    .reverse()
    .map((d) => {
      const placed = { ...d, to: rowStride };
      rowStride *= d.extent;
      return placed;
    });
  const rows = rowStride;
  const rowElement = offsets(
    rows,
    rowDigits.map((d) => ({ extent: d.extent, to: d.to, element: d.element })),
  );
  const laneDigits = digits
    .filter((d) => d.column !== 0)
    .map((d) => ({ extent: d.extent, to: d.column, element: d.element }));
  const columns = 1 + (varies ? full.column + laneDigits.reduce((sum, d) => sum + (d.extent - 1) * d.to, 0) : 0);
  const panels = varies ? Math.ceil(columns / lanes) : 1;
  const columnElement = varies ? offsets(panels * lanes, laneDigits, full.column) : new Int32Array(lanes);
  const content = (panel: number): Uint16Array | Uint32Array => {
    const source = storedBits(reader, literal, dtype);
    const bits = dtype === "f16" ? new Uint16Array(rows * lanes) : new Uint32Array(rows * lanes);
    for (let row = 0; row < rows; row++)
      for (let lane = 0; lane < lanes; lane++) {
        const element = columnElement[panel * lanes + lane] as number;
        if (element >= 0) bits[row * lanes + lane] = source[(rowElement[row] as number) + element] as number;
      }
    return bits;
  };
  const place = new Map(rowDigits.map((d) => [d.factor, d.to]));
  const dims = fullShape.map((extent, axis): Factor[] =>
    extent > 1 && strides[axis] === 0
      ? []
      : (full.dims[axis] ?? []).map((f) => ({
          extent: f.extent,
          row: place.get(f) ?? 0,
          column: varies ? f.column : 0,
        })),
  );
  const view: View = { dims: dims.slice(Math.max(0, missing)), row: 0, column: varies ? full.column : 0 };
  const silent = laneDigits.filter((d) => d.element === 0 && d.extent > 1);
  const repeated = !varies
    ? ("all" as const)
    : silent.length > 0
      ? silent.map((d) => ({ extent: d.extent, column: d.to }))
      : undefined;
  return {
    key: JSON.stringify([
      rowDigits.map((d) => [d.extent, d.element]),
      varies ? [full.column, laneDigits.map((d) => [d.extent, d.to, d.element])] : "all",
    ]),
    rows,
    panels,
    content,
    view,
    ...(repeated === undefined ? {} : { repeated }),
  };
};

interface Digit {
  readonly factor: Factor;
  readonly extent: number;
  readonly row: number;
  readonly column: number;
  readonly element: number;
}

const digitsOf = (factors: readonly Factor[], stride: number): Digit[] => {
  const digits: Digit[] = [];
  let element = stride;
  for (const factor of [...factors].reverse()) {
    if (factor.extent > 1)
      digits.unshift({ factor, extent: factor.extent, row: factor.row, column: factor.column, element });
    element *= factor.extent;
  }
  return digits;
};

/** For every place 0 .. count - 1 the element offset of the digits that lead there, or -1 where none do. */
const offsets = (
  count: number,
  digits: readonly { extent: number; to: number; element: number }[],
  base = 0,
): Int32Array => {
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

/**
 * The host edge: puts inputs where the program expects them in SRAM, and gets outputs from where it leaves them.
 *
 * A Placement says for every element a row and a column; the column's panel and the row's way lead to one slice for every
 * byte of the element. Rows and columns are sums over dimensions, so both are kept as one table for each dimension and the
 * innermost loop only adds. Element types convert here (f32 to f16, i32 to i16, ...); int64 and fp64 stay outside, in
 * host/edge.ts. Invariant: placing an input writes every row of its panels whole, so that none of them is poison.
 */

import { fail, invariant } from "../diagnostics.js";
import { bytesOf, type DType, DTYPES, type EdgeDType, type TensorData } from "../ir/dtype.js";
import { roundEven } from "../ir/functions.js";
import { elementCount, type Shape, type Tensor } from "../ir/graph.js";
import { firstOverflow, isNarrowFloat, narrowFloats, widenFloats } from "../ir/numerics.js";
import { type Binding, type HostLookup, type Placement, rowsOfPlane, type StateBinding } from "../ir/program.js";
import type { Sram } from "./sram.js";

/** Puts an input tensor (of the declared dtype, narrowed) in every place that it has. */
export const placeInput = (binding: Binding, tensor: Tensor, sram: Sram): void => preparedInput(binding, tensor)(sram);

/** What puts a tensor, or a state, in its places; all that may be wrong with it has been said before. */
export function preparedInput(binding: Binding, tensor: Tensor): (sram: Sram) => void {
  const { name, shape, declared, lookup, placements } = binding;
  if (tensor.data.length !== elementCount(shape)) {
    fail("LPU4030", {
      message: `input '${name}': expected ${elementCount(shape)} elements, got ${tensor.data.length}`,
    });
  }
  if (tensor.dtype !== narrowed(declared)) {
    fail("LPU4030", { message: `input '${name}': expected dtype ${narrowed(declared)}, got ${tensor.dtype}` });
  }
  const source = lookup === undefined ? tensor : lookUp(name, lookup, tensor);
  const placed = placements.map((placement) => {
    const converted = convert(name, source, placement.dtype);
    wantFinite(name, source, placement.dtype, converted);
    return { placement, elements: bytesOf(converted) };
  });
  return (sram) => {
    for (const { placement, elements } of placed) {
      clear(placement, sram);
      const offsets = byteOffsets(placement, source.shape, sram);
      for (let i = 0; i < offsets.length; i++) sram.bytes[offsets[i] as number] = elements[i] as number;
    }
  };
}

/** What is finite in an input stays finite where the program keeps it. */
function wantFinite(name: string, { dtype, data }: Tensor, to: DType, converted: TensorData): void {
  if ((dtype !== "f32" && dtype !== "bf16") || !isNarrowFloat(to) || to === "bf16") return;
  const given = dtype === "f32" ? data : widenFloats(dtype, data as Uint16Array);
  const index = firstOverflow(given, widenFloats(to, converted as Uint16Array | Uint8Array));
  if (index !== undefined)
    fail("LPU4030", {
      message: `input '${name}': element ${index} is ${given[index]}, beyond ${to}, in which the program keeps it`,
      hint: "scale the input and, in the model, what is made of it; use an infinity if that is what is meant",
    });
}

/** Fills all rows of a state with zeros. */
export function clearState({ placements }: StateBinding, sram: Sram): void {
  for (const placement of placements) clear(placement, sram);
}

/** Gets an output tensor, or a state from its first copy, in the declared dtype narrowed. */
export function fetchOutput(binding: StateBinding, sram: Sram): Tensor {
  const { name, shape, declared, placements } = binding;
  const [placement] = placements;
  invariant(placement !== undefined, `output '${name}' has a place`);
  const dtype = narrowed(declared);
  const data = new DTYPES[placement.dtype].array(elementCount(shape));
  const elements = bytesOf(data);
  const offsets = byteOffsets(placement, shape, sram);
  for (let i = 0; i < offsets.length; i++) {
    const offset = offsets[i] as number;
    if (sram.written[Math.floor(offset / sram.target.lanes)] !== 1)
      fail("LPU4033", {
        message: `output '${name}' was not written whole`,
        hint: "the program is incomplete: build it again",
      });
    elements[i] = sram.bytes[offset] as number;
  }
  return { dtype, shape, data: convert(name, { dtype: placement.dtype, shape, data }, dtype) };
}

/** int64 and fp64 exist outside of the program only. */
function narrowed(dtype: EdgeDType): DType {
  if (dtype === "i64" || dtype === "u64") return "i32";
  return dtype === "f64" ? "f32" : dtype;
}

/** The rows of the table that the ids choose; negative ids count from the end. */
function lookUp(name: string, { dtype, rows, width, bytes }: HostLookup, ids: Tensor): Tensor {
  const table = bytes();
  const rowBytes = width * DTYPES[dtype].bytes;
  const data = new DTYPES[dtype].array(ids.data.length * width);
  const target = bytesOf(data);
  ids.data.forEach((id, index) => {
    const row = id < 0 ? id + rows : id;
    if (!(row >= 0 && row < rows)) {
      fail("LPU4031", {
        message: `input '${name}': expected an index from ${-rows} to ${rows - 1}, got ${id} in element ${index}`,
      });
    }
    target.set(table.subarray(row * rowBytes, (row + 1) * rowBytes), index * rowBytes);
  });
  return { dtype, shape: [...ids.shape, width], data };
}

/** Elements as another dtype: floats round to nearest even, integers must fit, truth values are 0 and 1. */
function convert(name: string, { dtype, data }: Tensor, to: DType): TensorData {
  if (dtype === to) return data;
  const wide = isNarrowFloat(dtype)
    ? widenFloats(dtype, data instanceof Uint8Array ? data : Uint16Array.from(data))
    : data;
  if (to === "f32") return Float32Array.from(wide);
  if (isNarrowFloat(to)) return narrowFloats(to, wide instanceof Float32Array ? wide : Float32Array.from(wide)).data;
  if (to === "bool") return Uint8Array.from(wide, (value) => (value === 0 ? 0 : 1));
  const result = new DTYPES[to].array(wide.length);
  for (let index = 0; index < wide.length; index++) {
    const value = roundEven(wide[index] as number);
    result[index] = value;
    if ((result[index] as number) !== value)
      fail("LPU4030", { message: `'${name}': element ${index} is ${value}, which ${to} cannot hold` });
  }
  return result;
}

/** Visits the rows of every panel: for each way and byte one span of rows of a slice. */
function eachSpan(
  placement: Placement,
  visit: (place: Placement["panels"][number]["planes"][number], rows: number) => void,
): void {
  for (const { planes } of placement.panels) {
    planes.forEach((place, index) => {
      const rows = rowsOfPlane(placement, index);
      if (rows > 0) visit(place, rows);
    });
  }
}

/** Marks the rows that placing an input will write, or that a state has, for a linker that must know them before there is an input. */
export function markInput({ placements }: StateBinding, sram: Sram): void {
  for (const placement of placements) {
    eachSpan(placement, ({ chip, hemisphere, slice, row }, rows) =>
      sram.markWritten(chip, hemisphere, slice, row, rows),
    );
  }
}

/** Fills all rows of the placement with zero. */
function clear(placement: Placement, sram: Sram): void {
  eachSpan(placement, ({ chip, hemisphere, slice, row }, rows) => {
    sram.span(chip, hemisphere, slice, row, rows).fill(0);
    sram.markWritten(chip, hemisphere, slice, row, rows);
  });
}

/** For every byte of every element its place in the SRAM's bytes. */
function byteOffsets({ dtype, factors, ways, panels }: Placement, shape: Shape, sram: Sram): Float64Array {
  const { bytes } = DTYPES[dtype];
  const { lanes } = sram.target;
  let rows = Int32Array.of(0);
  let columns = Int32Array.of(0);
  shape.forEach((extent, dim) => {
    const own = factors.filter((factor) => factor.dim === dim);
    rows = outerSum(rows, alongDim(extent, own, "row"));
    columns = outerSum(columns, alongDim(extent, own, "column"));
  });
  const bases = Float64Array.from(
    panels.flatMap(({ planes }) =>
      planes.map(({ chip, hemisphere, slice, row }) => sram.rowIndex(chip, hemisphere, slice, row) * lanes),
    ),
  );
  const offsets = new Float64Array(rows.length * bytes);
  for (let element = 0; element < rows.length; element++) {
    const row = rows[element] as number;
    const column = columns[element] as number;
    const panel = (column / lanes) | 0;
    const way = row % ways;
    const within = ((row - way) / ways) * lanes + column - panel * lanes;
    const base = (panel * ways + way) * bytes;
    for (let byte = 0; byte < bytes; byte++) offsets[element * bytes + byte] = (bases[base + byte] as number) + within;
  }
  return offsets;
}

/** What each index of one dim adds to the row, or the column. */
function alongDim(extent: number, own: Placement["factors"], stride: "row" | "column"): Int32Array {
  const sums = new Int32Array(extent);
  for (const { divide, extent: period, [stride]: step } of own) {
    if (step === 0) continue;
    for (let index = 0; index < extent; index++)
      sums[index] = (sums[index] as number) + (Math.floor(index / divide) % period) * step;
  }
  return sums;
}

/** a[i] + b[j] for all i, j; j runs fastest. */
function outerSum(a: Int32Array, b: Int32Array): Int32Array<ArrayBuffer> {
  const sums = new Int32Array(a.length * b.length);
  let at = 0;
  for (const outer of a) for (const inner of b) sums[at++] = outer + inner;
  return sums;
}

/** Lists of whole numbers that grow: the columns of what is found one by one and read many times. */

/** Rows of `width` int32 numbers in one array. */
export class Int32Rows {
  readonly width: number;
  #data: Int32Array;
  #length = 0;

  constructor(width: number) {
    this.width = width;
    this.#data = new Int32Array(1024 * width);
  }

  get rows(): number {
    return this.#length / this.width;
  }

  push(...row: readonly number[]): void {
    const need = this.#length + this.width;
    if (need > this.#data.length) {
      const grown = new Int32Array(2 * need);
      grown.set(this.#data);
      this.#data = grown;
    }
    for (const value of row) this.#data[this.#length++] = value;
  }

  /** Column `column` of all rows, as an array of its own. */
  column(column: number): Int32Array {
    const { rows, width } = this;
    const values = new Int32Array(rows);
    for (let row = 0; row < rows; row++) values[row] = this.#data[row * width + column] as number;
    return values;
  }
}

/** Numbers of things by bin: those of bin b are `order[start[b] .. start[b + 1]]`, in the order in which they came. */
export interface Bins {
  readonly order: Int32Array;
  readonly start: Int32Array;
}

/** Sorts things by bin in two passes over them. */
export function sortByBin(binOf: Int32Array, bins: number): Bins {
  const start = new Int32Array(bins + 1);
  for (const bin of binOf) start[bin + 1] = (start[bin + 1] as number) + 1;
  for (let bin = 0; bin < bins; bin++) start[bin + 1] = (start[bin + 1] as number) + (start[bin] as number);
  const next = start.slice(0, bins);
  const order = new Int32Array(binOf.length);
  for (let thing = 0; thing < binOf.length; thing++) {
    const bin = binOf[thing] as number;
    order[next[bin] as number] = thing;
    next[bin] = (next[bin] as number) + 1;
  }
  return { order, start };
}

/** Buffers of one chip in its arena: an address for each, which it shares with others that are in use at other times. */

export const align = (bytes: number, to = 64): number => Math.ceil(bytes / to) * to;

/** Vectors, in use from the item `first` of the order to `last`. */
export interface Buffer {
  readonly bytes: number;
  /** Bytes from one vector to the next. */
  readonly stride: number;
  /** The chip that uses it. */
  chip: number;
  first: number;
  last: number;
  address: number;
}

/** Gives every buffer an address from `start` on; buffers of disjoint lifetimes share. Returns the bytes used. */
export function placeBuffers(buffers: readonly Buffer[], start: number, positions: number): number {
  const free: { address: number; bytes: number }[] = [];
  const ending: Buffer[][] = [];
  let end = start;
  const release = ({ address, bytes }: Buffer): void => {
    let at = free.findIndex((hole) => hole.address > address);
    if (at < 0) at = free.length;
    free.splice(at, 0, { address, bytes: align(bytes) });
    for (const index of [at, at - 1]) {
      const [left, right] = [free[index], free[index + 1]];
      if (left === undefined || right === undefined || left.address + left.bytes !== right.address) continue;
      left.bytes += right.bytes;
      free.splice(index + 1, 1);
    }
  };
  let done = 0;
  for (const buffer of [...buffers].sort((a, b) => a.first - b.first)) {
    for (; done < Math.min(buffer.first, positions); done++) for (const old of ending[done] ?? []) release(old);
    const bytes = align(buffer.bytes);
    const hole = free.findIndex((candidate) => candidate.bytes >= bytes);
    const found = free[hole];
    if (found === undefined) {
      buffer.address = end;
      end += bytes;
    } else {
      buffer.address = found.address;
      found.address += bytes;
      found.bytes -= bytes;
      if (found.bytes === 0) free.splice(hole, 1);
    }
    const list = ending[buffer.last];
    if (list === undefined) ending[buffer.last] = [buffer];
    else list.push(buffer);
  }
  return end - start;
}

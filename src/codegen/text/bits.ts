/**
 * Bit strings: the writer and reader of program text, least significant bit first, little-endian.
 *
 * Every instruction starts on a byte. The reader never reads outside its bytes: past the end it gives zeros and says
 * `overrun`, which the decoder turns into an error with an offset.
 */

/** What most instructions take; more are added as they are needed. */
const FIRST_BYTES = 32;

export class BitWriter {
  private bytes = new Uint8Array(FIRST_BYTES);
  private used = 0;
  private fill = 0;

  /** Bytes written, the last of them perhaps partly. */
  get length(): number {
    return this.used;
  }

  /** Writes the low `width` bits (at most 32) of a value. */
  put(value: number, width: number): void {
    let rest = value;
    let left = width;
    while (left > 0) {
      if (this.fill === 0) this.extend();
      const take = Math.min(8 - this.fill, left);
      const last = this.used - 1;
      (this.bytes[last] as number) |= (rest & ((1 << take) - 1)) << this.fill;
      rest >>>= take;
      left -= take;
      this.fill = (this.fill + take) & 7;
    }
  }

  /** Fills the current byte with zero bits. */
  align(): void {
    this.fill = 0;
  }

  /** Writes whole bytes, from the start of a byte on. */
  append(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.used);
    this.used += bytes.length;
  }

  finish(): Uint8Array {
    return this.bytes.slice(0, this.used);
  }

  private extend(): void {
    this.reserve(1);
    this.bytes[this.used++] = 0;
  }

  private reserve(more: number): void {
    if (this.used + more <= this.bytes.length) return;
    const larger = new Uint8Array(2 * (this.used + more));
    larger.set(this.bytes);
    this.bytes = larger;
  }
}

export class BitReader {
  private readonly bytes: Uint8Array;
  private position = 0;
  private fill = 0;
  /** A bit past the end was asked for. */
  overrun = false;
  /** Every padding bit so far was zero. */
  padded = true;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Offset of the byte that the next instruction starts on. */
  get offset(): number {
    return this.position;
  }

  get atEnd(): boolean {
    return this.position >= this.bytes.length;
  }

  /** The byte here, or -1 at the end. */
  peek(): number {
    return this.bytes[this.position] ?? -1;
  }

  /** The next `width` bits (at most 32), unsigned. */
  get(width: number): number {
    let value = 0;
    let have = 0;
    while (have < width) {
      const byte = this.bytes[this.position];
      if (byte === undefined) this.overrun = true;
      const take = Math.min(8 - this.fill, width - have);
      value |= (((byte ?? 0) >> this.fill) & ((1 << take) - 1)) << have;
      have += take;
      this.fill += take;
      if (this.fill === 8) {
        this.fill = 0;
        this.position++;
      }
    }
    return value >>> 0;
  }

  /** Goes on to the next byte. */
  align(): void {
    if (this.fill === 0) return;
    if ((this.bytes[this.position] ?? 0) >> this.fill !== 0) this.padded = false;
    this.fill = 0;
    this.position++;
  }
}

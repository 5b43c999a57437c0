/**
 * Protocol buffer messages, written one after another into a buffer that is handed on in pieces: the four wire types that a
 * trace needs. A message is its fields, written by a function; lengths are as short as they can be.
 */

const CHUNK = 1 << 18;
const WIRE = { varint: 0, fixed64: 1, bytes: 2 } as const;

export class ProtoWriter {
  #bytes = new Uint8Array(2 * CHUNK);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  readonly #text = new TextEncoder();

  /** A whole number of at least 0 and at most 2^53. */
  uint(field: number, value: number): void {
    this.#tag(field, WIRE.varint);
    this.#varint(value);
  }

  fixed64(field: number, value: number): void {
    this.#tag(field, WIRE.fixed64);
    this.#reserve(8);
    this.#view.setBigUint64(this.#length, BigInt(value), true);
    this.#length += 8;
  }

  double(field: number, value: number): void {
    this.#tag(field, WIRE.fixed64);
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  text(field: number, value: string): void {
    this.#tag(field, WIRE.bytes);
    this.#delimited(() => {
      this.#reserve(3 * value.length);
      this.#length += this.#text.encodeInto(value, this.#bytes.subarray(this.#length)).written;
    });
  }

  message(field: number, write: () => void): void {
    this.#tag(field, WIRE.bytes);
    this.#delimited(write);
  }

  /** What has been written, once it is a piece worth handing on; to be asked between messages. */
  *take(all = false): Generator<Uint8Array> {
    if (this.#length === 0 || (this.#length < CHUNK && !all)) return;
    const taken = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    yield taken;
  }

  #tag(field: number, wire: number): void {
    this.#varint(field * 8 + wire);
  }

  #varint(value: number): void {
    this.#reserve(8);
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) + 128;
    this.#bytes[this.#length++] = rest;
  }

  /** Most lengths take one byte; what a longer one needs is made room for afterwards. */
  #delimited(write: () => void): void {
    const at = this.#length;
    this.#reserve(8);
    this.#length++;
    write();
    const size = this.#length - at - 1;
    let more = 0;
    for (let rest = size; rest > 127; rest = Math.floor(rest / 128)) more++;
    this.#reserve(more);
    this.#bytes.copyWithin(at + 1 + more, at + 1, this.#length);
    this.#length = at;
    this.#varint(size);
    this.#length += size;
  }

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#length + bytes));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/**
 * Shuffles, by the bytes that they take of two vectors (0 to 15 of the first, 16 to 31 of the second), and constant vectors.
 */

/** Bytes of two vectors in turn: of their lower halves, and of their upper halves. */
export const INTERLEAVE_LOW = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
export const INTERLEAVE_HIGH = [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31];
/** The same of elements of 16 bits. */
export const HALVES_LOW = [0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23];
export const HALVES_HIGH = [8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31];
/** And of 32 bits. */
export const WORDS_LOW = [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];
export const WORDS_HIGH = [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31];
/** The lower halves of both vectors, one behind the other, and the upper ones. */
export const LOW_PAIRS = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
export const HIGH_PAIRS = [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31];
/** The upper half of the first vector, twice. */
export const HIGH_TWICE = [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15];
/** Every other byte of both vectors, and every fourth, twice. */
export const EVEN_BYTES = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
export const FOURTH_BYTES = [0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28];

/** A vector of one byte, and one of one 16-bit number. */
export const splat = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);
export const splatWord = (word: number): Uint8Array =>
  new Uint8Array(Uint16Array.from({ length: 8 }, () => word).buffer);

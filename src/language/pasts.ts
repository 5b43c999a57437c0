/**
 * Pasts that are kept, so that a prompt which begins like one before need not be taken from its first token.
 *
 * What is kept are copies of the states at some ends of what was taken. A past that lies in a window cannot be cut at its
 * end, so where a prompt only begins like another, the place where they part is kept when it is next passed.
 */

/** The past of a program and the tokens that it is of. */
export interface Saved {
  readonly tokens: readonly number[];
  /** What the program gave; only it can take it back. */
  readonly states: unknown;
}

export interface KeptPasts {
  /** The longest kept past with which the tokens begin and behind which they go on. */
  readonly longest: (tokens: readonly number[]) => Saved | undefined;
  /** How many of the tokens some that were kept begin with, and not with more of them; the most. */
  readonly shared: (tokens: readonly number[]) => number;
  /** Keeps one more; the one that was not of use for the longest time goes, if there are too many. */
  readonly keep: (saved: Saved) => void;
}

/** At most `limit` pasts, each as large as the states of a program. */
export function keptPasts(limit: number): KeptPasts {
  /** The one that was of use last is the last. */
  let kept: readonly Saved[] = [];
  const used = (saved: Saved): void => {
    kept = limit === 0 ? [] : [...kept.filter(({ tokens }) => !isSame(tokens, saved.tokens)), saved].slice(-limit);
  };
  return {
    longest: (wanted) => {
      const found = kept
        .filter(({ tokens }) => tokens.length < wanted.length && sharedBy(tokens, wanted) === tokens.length)
        .reduce<Saved | undefined>(
          (best, saved) => (best === undefined || saved.tokens.length > best.tokens.length ? saved : best),
          undefined,
        );
      if (found !== undefined) used(found);
      return found;
    },
    shared: (wanted) => Math.max(0, ...kept.map(({ tokens }) => sharedBy(tokens, wanted))),
    keep: used,
  };
}

const isSame = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && sharedBy(a, b) === a.length;

function sharedBy(a: readonly number[], b: readonly number[]): number {
  const parted = a.findIndex((token, at) => token !== b[at]);
  return parted < 0 ? a.length : parted;
}

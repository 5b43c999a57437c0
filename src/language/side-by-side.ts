/**
 * Sequences side by side: what the next run takes of each.
 *
 * A run takes as many tokens of every sequence that has begun, since a window moves on with it whether there is something to take
 * or not. One that has not begun may wait: what a run leaves in its past is hidden from it.
 */

/** A sequence that has tokens to take. */
export interface Asking {
  readonly left: number;
  /** Whether it has taken any before. */
  readonly isBegun: boolean;
}

/** How many tokens a run takes of those sequences that it takes. */
export interface NextRun {
  readonly count: number;
  /** By sequence. */
  readonly takes: readonly boolean[];
}

/**
 * The longest block of `sizes` (the longest first) that all have which have begun, or one token of each. One that begins waits for
 * a longer one, so that both have as many blocks left.
 */
export function nextRun(asking: readonly Asking[], sizes: readonly number[]): NextRun {
  const begun = asking.filter(({ isBegun }) => isBegun);
  for (const count of sizes) {
    const blocks = ({ left }: Asking): number => Math.floor(left / count);
    const most = Math.max(...(begun.length > 0 ? begun : asking).map(blocks));
    if (most === 0 || begun.some((one) => blocks(one) === 0)) continue;
    return { count, takes: asking.map((one) => one.isBegun || blocks(one) >= most) };
  }
  return { count: 1, takes: asking.map(() => true) };
}

/**
 * Passes of one task through the MXM, while it is being put together.
 *
 * A pass sends one half-vector of activations through one set of weights, so parts that read the same half share a pass.
 * They may not if they put computed weights into the same column, since loading a column replaces it whole: then the half
 * has a further turn. Passes are ordered by half and turn, whatever the order in which parts came.
 */

/** Parts by the key of their pass. */
export type Passes<T> = Map<number, T[]>;

/** More turns than any half has. */
const TURNS = 1024;

/** Adds a part that reads the half with this number (two to a panel), in the first turn in which it clashes with no other. */
export const addToPass = <T>(
  passes: Passes<T>,
  half: number,
  part: T,
  clashes: (other: T) => boolean = never,
): void => {
  let key = half * TURNS;
  while (passes.get(key)?.some(clashes)) key++;
  const parts = passes.get(key);
  if (parts === undefined) passes.set(key, [part]);
  else parts.push(part);
};

const never = (): boolean => false;

/** A half-vector of the activations, and the parts that share a pass over it. */
export interface HalfPass<T> {
  readonly panel: number;
  readonly half: 0 | 1;
  readonly parts: readonly T[];
}

export const passesInOrder = <T>(passes: ReadonlyMap<number, readonly T[]>): HalfPass<T>[] =>
  [...passes].sort(([a], [b]) => a - b).map(([key, parts]) => ({ ...halfAt(Math.floor(key / TURNS)), parts }));

/** Panel and half of the half-vector with this number. */
export const halfAt = (number: number): { readonly panel: number; readonly half: 0 | 1 } => ({
  panel: Math.floor(number / 2),
  half: number % 2 === 0 ? 0 : 1,
});

const NO_CUTS: ReadonlySet<number> = new Set();

/**
 * Neighbouring places, cut where they leave a half and before the numbers in `cuts`: `count` places from `at`, of which the
 * first is number `index`.
 */
export const neighbours = (
  places: readonly number[],
  half: number,
  cuts: ReadonlySet<number> = NO_CUTS,
): readonly { readonly index: number; readonly at: number; readonly count: number }[] => {
  const found: { index: number; at: number; count: number }[] = [];
  // Places are many, and this is done for every matmul.
  for (let index = 0; index < places.length; index++) {
    const at = places[index] as number;
    const last = found[found.length - 1];
    if (last !== undefined && at === last.at + last.count && at % half !== 0 && !cuts.has(index)) last.count++;
    else found.push({ index, at, count: 1 });
  }
  return found;
};

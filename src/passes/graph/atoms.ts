/**
 * Chains of reshapes and transposes as permutations of atoms: pieces of axes that no step of the chain cuts.
 *
 * A transpose permutes groups of atoms, a reshape regroups them, cutting an atom in two where an axis ends within it. What a
 * chain does is known from the order of atoms at its end, and written again in the fewest steps: nothing, one reshape, one
 * transpose, a reshape before or after a transpose, or reshape, transpose, reshape.
 */

import { at, sure } from "../../diagnostics.js";
import type { Shape } from "../../ir/graph.js";
import { equalShapes } from "../../ir/tensor.js";

/** Atoms of a chain: `extents` by number, `base` in the order of the operand, `dims` as grouped in the result. */
export interface Atoms {
  readonly extents: number[];
  base: number[];
  dims: number[][];
}

export function atomsOf(shape: Shape): Atoms {
  const extents = [...shape];
  const dims = shape.map((extent, atom) => (extent === 1 ? [] : [atom]));
  return { extents, base: dims.flat(), dims };
}

/** Cuts atom into an outer and an inner part. */
function splitAtom(atoms: Atoms, atom: number, outer: number): readonly [number, number] {
  const [first, second] = [atoms.extents.length, atoms.extents.length + 1];
  atoms.extents.push(outer, at(atoms.extents, atom, "extent") / outer);
  const replace = (list: readonly number[]): number[] =>
    list.flatMap((other) => (other === atom ? [first, second] : [other]));
  atoms.base = replace(atoms.base);
  atoms.dims = atoms.dims.map(replace);
  return [first, second];
}

/** Regroups atoms into the extents of a shape; false if an axis boundary cuts two atoms that do not divide. */
export function regroup(atoms: Atoms, shape: Shape): boolean {
  const queue = atoms.dims.flat();
  const dims: number[][] = [];
  for (const extent of shape) {
    const taken: number[] = [];
    let left = extent;
    while (left > 1) {
      const atom = queue.shift();
      if (atom === undefined) return false;
      const own = at(atoms.extents, atom, "extent");
      if (left % own === 0) {
        taken.push(atom);
        left /= own;
      } else if (own % left === 0) {
        const [outer, inner] = splitAtom(atoms, atom, left);
        taken.push(outer);
        queue.unshift(inner);
        left = 1;
      } else return false;
    }
    dims.push(taken);
  }
  atoms.dims = dims;
  return queue.length === 0;
}

export type Step = { readonly reshape: Shape } | { readonly transpose: readonly number[] };

export const isAscending = (list: readonly number[]): boolean => list.every((value, i) => value === i);

/** The fewest steps from a tensor of shape `from` to the atoms' dims. */
export function fewestSteps(atoms: Atoms, from: Shape): readonly Step[] {
  const product = (group: readonly number[]): number =>
    group.reduce((n, atom) => n * at(atoms.extents, atom, "extent"), 1);
  const to = atoms.dims.map(product);
  const order = atoms.dims.flat();
  const place = new Map(atoms.base.map((atom, i) => [atom, i]));
  const placeOf = (atom: number): number => sure(place.get(atom), "place of an atom");
  const places = order.map(placeOf);
  if (isAscending(places)) return equalShapes(from, to) ? [] : [{ reshape: to }];
  const contiguous = (group: readonly number[]): boolean =>
    group.every((atom, i) => i === 0 || placeOf(atom) === placeOf(at(group, i - 1, "atom")) + 1);
  if (atoms.dims.every(contiguous)) {
    // Result axes are whole pieces of the operand: cut, then permute. Axes of extent 1 keep their place before the next one.
    const first = (axis: number): number => {
      const next = atoms.dims.slice(axis).find((group) => group.length > 0);
      return next === undefined ? places.length : placeOf(at(next, 0, "atom"));
    };
    const axes = to.map((_, axis) => axis).sort((a, b) => first(a) - first(b) || a - b);
    const cut = axes.map((axis) => at(to, axis, "extent"));
    const perm = to.map((_, axis) => axes.indexOf(axis));
    const exact = unitPermutation(from, to, atoms, place);
    if (exact !== undefined) return [{ transpose: exact }];
    return [{ reshape: cut }, { transpose: perm }];
  }
  // Operand axes that stay whole: permute, then merge.
  const pieces = mergePieces(places);
  const wholes = wholeAxes(from, atoms, pieces);
  if (wholes !== undefined) {
    const moved = wholes.map((axis) => at(from, axis, "extent"));
    return equalShapes(moved, to) ? [{ transpose: wholes }] : [{ transpose: wholes }, { reshape: to }];
  }
  const sorted = [...pieces].sort((a, b) => a.start - b.start);
  const extent = (piece: AtomRun): number => product(atoms.base.slice(piece.start, piece.start + piece.length));
  return [
    { reshape: sorted.map(extent) },
    { transpose: pieces.map((piece) => sorted.indexOf(piece)) },
    { reshape: to },
  ];
}

/** A run of atoms that are neighbours in the operand and in the result. */
interface AtomRun {
  readonly start: number;
  readonly length: number;
}

function mergePieces(places: readonly number[]): AtomRun[] {
  const pieces: AtomRun[] = [];
  for (const start of places) {
    const last = pieces[pieces.length - 1];
    if (last !== undefined && last.start + last.length === start)
      pieces[pieces.length - 1] = { start: last.start, length: last.length + 1 };
    else pieces.push({ start, length: 1 });
  }
  return pieces;
}

/** The permutation that takes `from` to `to`, if each axis stays whole; axes of extent 1 are matched in order. */
function unitPermutation(
  from: Shape,
  to: Shape,
  atoms: Atoms,
  place: ReadonlyMap<number, number>,
): readonly number[] | undefined {
  if (from.length !== to.length) return undefined;
  const starts: number[] = [];
  let next = 0;
  const units: number[] = [];
  for (const [axis, extent] of from.entries()) {
    if (extent === 1) units.push(axis);
    starts.push(extent === 1 ? -1 : next);
    let left = extent;
    while (left > 1) left /= at(atoms.extents, at(atoms.base, next++, "atom"), "extent");
  }
  const perm = atoms.dims.map((group, axis) => {
    if (group.length === 0) return units.shift() ?? -1;
    const own = starts.indexOf(sure(place.get(at(group, 0, "atom")), "place of an atom"));
    return own >= 0 && from[own] === to[axis] ? own : -1;
  });
  return perm.includes(-1) ? undefined : perm;
}

/** Operand axes in the order of the result, if every piece is made of whole axes; axes of extent 1 come first. */
function wholeAxes(from: Shape, atoms: Atoms, pieces: readonly AtomRun[]): readonly number[] | undefined {
  const axisAt = new Map<number, number>();
  let next = 0;
  const ends = new Set<number>();
  for (const [axis, extent] of from.entries()) {
    if (extent === 1) continue;
    axisAt.set(next, axis);
    let left = extent;
    while (left > 1) left /= at(atoms.extents, at(atoms.base, next++, "atom"), "extent");
    ends.add(next);
  }
  const axes = from.flatMap((extent, axis) => (extent === 1 ? [axis] : []));
  for (const { start, length } of pieces) {
    if (!axisAt.has(start) || !ends.has(start + length)) return undefined;
    for (let atom = start; atom < start + length; atom += 1) {
      const axis = axisAt.get(atom);
      if (axis !== undefined) axes.push(axis);
    }
  }
  return axes;
}

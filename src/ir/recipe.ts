/**
 * Recipes: what the bits of a constant are, as data. A Plan holds no weights: its recipes name literals, by their keys.
 *
 * A recipe is a few numbers of a place, and equal recipes of equal literals give equal bits; contents.ts makes them.
 */

/**
 * A matrix [.., K, N] of fp16 or FP8 numbers, row-major: a literal, by its key, or ones, times a power of two. FP8 numbers are
 * as they are.
 */
export type Matrix = ({ readonly literal: string } | { readonly ones: readonly [number, number] }) & {
  readonly scale: number;
};

/** A block of a matrix: element (k, n) of the block is at `offset + (k0 + k) * width + n0 + n`, and goes to lane and column. */
export interface TileBlock {
  readonly offset: number;
  readonly k: number;
  readonly count: number;
  readonly lane: number;
  readonly n: number;
  readonly columns: number;
  readonly column: number;
}

/** Blocks of a matrix whose rows are `width` elements apart: [columns][halfLanes] of a weight tile, zero elsewhere. */
export interface BlocksRecipe {
  readonly kind: "blocks";
  readonly matrix: Matrix;
  readonly width: number;
  readonly blocks: readonly TileBlock[];
}

/** Places in vectors, in the vectors' order or not: which vector, which of its elements. */
export type Place = readonly [vector: number, element: number];

/** `vectors` of fp16 numbers that are `value` at the places and zero elsewhere. */
export interface PointsRecipe {
  readonly kind: "points";
  readonly vectors: number;
  readonly value: number;
  readonly places: readonly Place[];
}

/** One digit of a place: `extent` values, `to` apart in the vectors and `element` apart in the literal. */
export interface SpreadDigit {
  readonly extent: number;
  readonly to: number;
  readonly element: number;
}

/**
 * Elements of a literal, by its key, in `rows` vectors of each panel: the row by one list of digits, the column by another,
 * from `column` on; without `columns` each row is filled with one element.
 */
export interface SpreadRecipe {
  readonly kind: "spread";
  readonly literal: string;
  readonly rows: readonly SpreadDigit[];
  readonly columns?: readonly SpreadDigit[];
  readonly column: number;
}

/** What a weight tile is made of: vectors of halfLanes elements, one for each column. */
export type TileRecipe = BlocksRecipe | PointsRecipe;
/** What panels are made of: vectors of all lanes, the panels' vectors one after another. */
export type PanelRecipe = PointsRecipe | SpreadRecipe;

/** The literal that a recipe names, if it names one. */
export const literalOf = (recipe: TileRecipe | PanelRecipe): string | undefined => {
  if (recipe.kind === "points") return undefined;
  if (recipe.kind === "spread") return recipe.literal;
  return "literal" in recipe.matrix ? recipe.matrix.literal : undefined;
};

export const productOf = (digits: readonly SpreadDigit[]): number =>
  digits.reduce((product, { extent }) => product * extent, 1);

/** A block as it is written: `blockOf` reads it. */
export const blockNumbers = ({ offset, k, count, lane, n, columns, column }: TileBlock): readonly number[] => [
  offset,
  k,
  count,
  lane,
  n,
  columns,
  column,
];

export const blockOf = ([
  offset = 0,
  k = 0,
  count = 0,
  lane = 0,
  n = 0,
  columns = 0,
  column = 0,
]: readonly number[]): TileBlock => ({ offset, k, count, lane, n, columns, column });

/** A text that is equal for equal matrices. */
const matrixKey = (matrix: Matrix): string =>
  `${"ones" in matrix ? `ones ${matrix.ones.join("x")}` : matrix.literal}${matrix.scale === 1 ? "" : ` times ${matrix.scale}`}`;

/** A text that is equal for equal tiles: those are stored and loaded once. */
export const tileKey = (recipe: TileRecipe): string => {
  if (recipe.kind === "points")
    return `select ${recipe.value === 1 ? "" : `times ${recipe.value} `}${JSON.stringify(recipe.places)}`;
  return `${matrixKey(recipe.matrix)} ${JSON.stringify(recipe.blocks.map(blockNumbers))}`;
};

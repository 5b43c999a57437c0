/**
 * Parts of a graph become stages: consecutive ones together, so that the longest stage is as short as can be and each has room.
 */

/** A part, as one group of chips does it. */
export interface PartCost {
  readonly cycles: number;
  /** Bytes of each chip: weights and other constants, and states. */
  readonly constants: number;
  readonly states: number;
  /** Bytes of each chip while it is done: edges and results. */
  readonly results: number;
}

/** Parts from `first` up to, and without, `end`. */
export interface Span extends PartCost {
  readonly first: number;
  readonly end: number;
}

export const spanOf = (parts: readonly PartCost[], first: number, end: number): Span => {
  const own = parts.slice(first, end);
  const sum = (pick: (part: PartCost) => number): number => own.reduce((total, part) => total + pick(part), 0);
  return {
    first,
    end,
    cycles: sum(({ cycles }) => cycles),
    constants: sum(({ constants }) => constants),
    states: sum(({ states }) => states),
    results: Math.max(0, ...own.map(({ results }) => results)),
  };
};

/** Bytes of SRAM that a part takes of each chip. */
export const neededBytes = ({ constants, states, results }: PartCost): number => constants + states + results;

/**
 * At most so many stages, of no more than `capacity` bytes each: the longest of them as short as can be, then the fullest as
 * empty; undefined where so many do not hold the parts.
 */
export const stagesOf = (parts: readonly PartCost[], most: number, capacity: number): readonly Span[] | undefined => {
  const spans = parts.flatMap((_, first) => spansFrom(parts, first, capacity));
  const shortest = leastOf(spans, parts.length, most, ({ cycles }) => cycles);
  if (shortest === undefined) return undefined;
  const longest = Math.max(...shortest.map(({ cycles }) => cycles));
  const short = spans.filter(({ cycles }) => cycles <= longest);
  return leastOf(short, parts.length, most, neededBytes);
};

/** By a stage for each part, which never falls: so many stages; undefined where one has no part. */
export const stagesBy = (
  parts: readonly PartCost[],
  stageOf: readonly number[],
  count: number,
): readonly Span[] | undefined => {
  const spans = Array.from({ length: count }, (_, stage) =>
    spanOf(parts, stageOf.indexOf(stage), stageOf.lastIndexOf(stage) + 1),
  );
  return spans.every(({ first }) => first >= 0) ? spans : undefined;
};

/** The spans from a part on that have room. */
const spansFrom = (parts: readonly PartCost[], first: number, capacity: number): readonly Span[] => {
  const spans: Span[] = [];
  for (let end = first + 1; end <= parts.length; end += 1) {
    const span = spanOf(parts, first, end);
    if (neededBytes(span) > capacity) break;
    spans.push(span);
  }
  return spans;
};

/** At most so many spans, one behind the other, of which the greatest is as small as can be; of equal ones the fewest. */
const leastOf = (
  spans: readonly Span[],
  count: number,
  most: number,
  sizeOf: (span: Span) => number,
): readonly Span[] | undefined => {
  let best: (Chain | undefined)[] = [{ greatest: 0, before: undefined, span: undefined }];
  let found: Chain | undefined;
  for (let stage = 1; stage <= most && stage <= count; stage += 1) {
    const next = new Array<Chain | undefined>(count + 1).fill(undefined);
    for (const span of spans) {
      const before = best[span.first];
      if (before === undefined) continue;
      const greatest = Math.max(before.greatest, sizeOf(span));
      const known = next[span.end];
      if (known === undefined || greatest < known.greatest) next[span.end] = { greatest, before, span };
    }
    const whole = next[count];
    if (whole !== undefined && (found === undefined || whole.greatest < found.greatest)) found = whole;
    best = next;
  }
  const chain: Span[] = [];
  for (let one = found; one?.span !== undefined; one = one.before) chain.unshift(one.span);
  return found === undefined ? undefined : chain;
};

/** Spans up to a part. */
interface Chain {
  readonly greatest: number;
  readonly before: Chain | undefined;
  readonly span: Span | undefined;
}

/** The fewest stages that hold the parts; undefined where one part alone is too large. */
export const fewestStages = (parts: readonly PartCost[], capacity: number): number | undefined => {
  let [stages, first] = [1, 0];
  for (let end = 1; end <= parts.length; end += 1) {
    if (neededBytes(spanOf(parts, first, end)) <= capacity) continue;
    if (end - 1 === first) return undefined;
    first = end - 1;
    stages += 1;
    if (neededBytes(spanOf(parts, first, end)) > capacity) return undefined;
  }
  return stages;
};

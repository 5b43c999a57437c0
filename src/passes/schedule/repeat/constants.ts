/**
 * Constants of further instances of a repeat (repeats.ts): where those that were placed together have filled their rows, the next
 * ones get places that are read as those were, so that these instances are copies, too, and nothing is searched.
 *
 * Rows lie in the same pairs of slices, in the same bank or in the other one, or else in other pairs, which are read as many
 * cycles later as their vectors fly less. Ports are free if they were in an instance around which everything is placed: all
 * are alike. Where rows lie in no such place, nothing is placed here, and the scheduler searches, as for the first instances.
 */

import { at, sure } from "../../../diagnostics.js";
import { bankOf, type Half, memoriesOf, type Pair, pairAt, type PairGroup, type Side } from "../chip/machine.js";
import { type Bank, findUnused } from "../chip/memory.js";
import { spanOf } from "../chip/ports.js";
import { Figure } from "../chip/resources.js";
import { executionsOf } from "../figures.js";
import type { Copy } from "../place/chunk.js";
import { hold } from "../place/rows.js";
import { chunksOf, type Scheduler, storageOf } from "../state.js";
import { commit, rollback, START } from "../task/trial.js";
import { newTrial } from "../task/want.js";
import {
  type Instance,
  instancesBeside,
  isFreeAt,
  knownBefore,
  laterBy,
  laterTask,
  placeOf,
  tileOf,
} from "./instances.js";
import type { Dispatched, ReadSource, RowsSource, TileSource } from "./placed.js";

/** Rows of a constant that lie at the same address of some pairs, and the bursts of an instance that read them. */
interface Lying<S extends ReadSource = ReadSource> {
  readonly task: number;
  readonly source: S;
  readonly side: Side;
  readonly pairs: PairGroup;
  readonly address: number;
  readonly rows: number;
  readonly reads: Dispatched[];
}

/** Where its counterparts lie, one after another. */
interface Found {
  readonly pairs: PairGroup;
  readonly addresses: readonly number[];
}

interface Wanted {
  readonly s: Scheduler;
  readonly instance: Instance;
  /** The first of the instances to be placed, behind that one, and how many they are. */
  readonly later: number;
  readonly instances: number;
  /** So many cycles after that one comes one around which everything is placed. */
  readonly known: number;
  /** What they read elsewhere than that one, when the known one did. */
  readonly elsewhere: Figure;
}

/**
 * Places constants of the instance so many behind one, and of those beside it, where they can be read as those of that one are. Of
 * how many instances; of none, and nothing is changed, if there is no room.
 */
export const placeConstantsAgain = (s: Scheduler, instance: Instance, later: number): number => {
  const first = sure(laterTask(s, at(instance.placed, 0, "task").task, later), "instance");
  const known = knownBefore(instance, later);
  if (known === undefined) return 0;
  const lying = lyingOf(s, instance);
  for (let instances = instancesBeside(s, first); instances > 0; instances >>= 1) {
    s.trial = newTrial(s.trial.cursor);
    const elsewhere = new Figure();
    const fits = tryConstants({ s, instance, later, instances, known, elsewhere }, lying);
    elsewhere.clear();
    if (fits) {
      commit(s);
      return instances;
    }
    rollback(s, START);
  }
  return 0;
};

/** What an instance reads of constants that are its own. */
const lyingOf = (s: Scheduler, { placed }: Instance): readonly Lying[] => {
  const all = new Map<string, Lying>();
  for (const { task, dispatched } of placed)
    for (const read of dispatched) {
      const { source } = read;
      const key = source && ("storage" in source ? rowsKey(s, source) : tileKey(s, task, source));
      if (source === undefined || key === undefined) continue;
      const known = all.get(key);
      if (known !== undefined) known.reads.push(read);
      else
        all.set(key, {
          task,
          source,
          ...("storage" in source ? rowsAt(s, source) : tileAt(s, task, source)),
          reads: [read],
        });
    }
  return [...all.values()];
};

/** Undefined for what is no constant, or one of all instances. */
const rowsKey = (s: Scheduler, { storage, panel, chunk, copy }: RowsSource): string | undefined =>
  storageOf(s, storage).kind !== "constant" || s.repeat?.shared.has(storage)
    ? undefined
    : `rows ${storage} ${panel} ${chunk} ${copy}`;

const tileKey = (s: Scheduler, task: number, { side, pass, way }: TileSource): string | undefined => {
  const { key } = tileOf(s, task, pass);
  return key === tileOf(s, laterTask(s, task, 1) ?? task, pass).key ? undefined : `tile ${side} ${way} ${key}`;
};

type Place = Pick<Lying, "side" | "pairs" | "address" | "rows">;

const rowsAt = (s: Scheduler, source: RowsSource): Place => {
  const { rows, copies } = at(chunksOf(s, source), source.chunk, "chunk");
  const { side, pairs, addresses } = at(copies, source.copy, "copy");
  return { side, pairs, address: at(addresses, 0, "address"), rows };
};

const tileAt = (s: Scheduler, task: number, { side, pass, way }: TileSource): Place => {
  const tile = tileOf(s, task, pass);
  const { pairs, addresses } = sure(s.tiles[side].get(tile.key), "tile");
  return {
    side,
    pairs: [at(pairs, way, "pair")],
    address: at(addresses, way, "address"),
    rows: executionsOf(tile, pairs.length),
  };
};

const tryConstants = (wanted: Wanted, all: readonly Lying[]): boolean => {
  const { s } = wanted;
  // What must stay in its bank goes first.
  const isBound = (one: Lying): boolean => banksFor(wanted, one, one.pairs).length === 1;
  const order = [...all.filter(isBound), ...all.filter((one) => !isBound(one))];
  const found = new Map<Lying, Found>();
  for (const one of order) {
    const place = tryRows(wanted, one);
    if (place === undefined) return false;
    found.set(one, place);
  }
  const copies = all.filter(isRows).sort((a, b) => a.source.copy - b.source.copy);
  const tiles = new Map<string, Lying<TileSource>[]>();
  for (const one of all.filter(isTileWay)) {
    const key = `${one.side} ${tileOf(s, one.task, one.source.pass).key}`;
    tiles.set(key, [...(tiles.get(key) ?? []), one]);
  }
  return (
    copies.every((one) => wantCopies(wanted, one, sure(found.get(one), "place"))) &&
    [...tiles.values()].every((ways) => wantTiles(wanted, ways, found))
  );
};

const isRows = (one: Lying): one is Lying<RowsSource> => "storage" in one.source;
const isTileWay = (one: Lying): one is Lying<TileSource> => "way" in one.source;

/** False if counterparts have other copies than the constant. */
const wantCopies = ({ s, later }: Wanted, { source, side, rows }: Lying<RowsSource>, found: Found): boolean => {
  const { storage, panel, chunk } = source;
  const by = sure(s.repeat, "repeat").storages;
  return found.addresses.every((address, i) => {
    const { copies } = at(chunksOf(s, { storage: storage + (later + i) * by, panel }), chunk, "chunk");
    if (copies.length !== source.copy) return false;
    const { pairs } = found;
    const copy: Copy = { side, pairs, ways: 1, addresses: pairs.map(() => address), before: 0, lastRead: 0 };
    copies.push(copy);
    s.trial.wants.push({ kind: "copy", copies, copy, rows });
    return true;
  });
};

/** False if counterparts have a place already. */
const wantTiles = (
  { s, later, instances }: Wanted,
  ways: readonly Lying<TileSource>[],
  found: ReadonlyMap<Lying, Found>,
): boolean => {
  const { task, side, source } = at(ways, 0, "way");
  const places = [...ways].sort((a, b) => a.source.way - b.source.way).map((one) => sure(found.get(one), "place"));
  const pairs = places.flatMap((place) => place.pairs);
  for (let i = 0; i < instances; i++) {
    const tile = tileOf(s, sure(laterTask(s, task, later + i), "instance"), source.pass);
    if (s.tiles[side].has(tile.key)) return false;
    const addresses = places.map((place) => at(place.addresses, i, "address"));
    s.trial.wants.push({ kind: "tile", tile, side, place: { pairs, addresses } });
    s.trial.wants.push({ kind: "promise", tile, side, instances: -1 });
  }
  return true;
};

/** Rows for counterparts, held: in the same pairs and bank if there are such, else where they can be read when those of the model are. */
const tryRows = (wanted: Wanted, lying: Lying): Found | undefined => {
  const { s, instances, elsewhere } = wanted;
  const half = s.halves[lying.side];
  for (const pairs of [lying.pairs, ...othersFor(half, lying.pairs)]) {
    const memories = memoriesOf(half, pairs);
    const addresses = findUnused(s.target, memories, lying.rows, instances, { banks: banksFor(wanted, lying, pairs) });
    if (addresses.length === 0) continue;
    for (const address of addresses) hold(s, memories, address, lying.rows);
    if (pairs !== lying.pairs)
      for (const { pair, cycle, read } of readsIn(wanted, lying, pairs)) {
        elsewhere.add(pair.read, cycle, spanOf(read.instruction));
        elsewhere.add(pair.issue, cycle, 1);
      }
    return { pairs, addresses };
  }
  return undefined;
};

/** Other pairs in which rows may lie, the emptiest first. */
const othersFor = (half: Half, pairs: PairGroup): PairGroup[] => {
  const touched = (group: PairGroup): number => Math.max(...memoriesOf(half, group).map((memory) => memory.touched));
  return (pairs.length === 1 ? half.singles : half.couples)
    .filter((group) => group[0] !== pairs[0])
    .sort((a, b) => touched(a) - touched(b));
};

/** Banks of some pairs in which rows can be read as the model's are; the bank of those first. */
const banksFor = (wanted: Wanted, lying: Lying, pairs: PairGroup): readonly Bank[] => {
  const own = bankOf(wanted.s.target, lying.address);
  const stays = pairs === lying.pairs;
  const reads = readsIn(wanted, lying, pairs);
  if (!stays && !reads.every((one) => isPortFree(wanted, one))) return [];
  const banks: readonly Bank[] = own === 0 ? [0, 1] : [1, 0];
  return banks.filter(
    (bank) =>
      (stays && bank === own) ||
      reads.every(({ pair, cycle, read }) => isFreeAt(pair.writeBank[bank], cycle, spanOf(read.instruction))),
  );
};

interface Read {
  readonly read: Dispatched;
  readonly pair: Pair;
  /** When the known instance would have read there. */
  readonly cycle: number;
}

/** Reads of rows as if they lay in some pairs. */
const readsIn = ({ s, known }: Wanted, { side, pairs, reads }: Lying, to: PairGroup): Read[] =>
  reads.map((read) => {
    const { pair } = placeOf(s, read);
    const other = at(to, pairs.indexOf(pair), "pair");
    const cycle = read.instruction.cycle + known + laterBy(s, read, other - pair);
    return { read, pair: pairAt(s.halves[side], other), cycle };
  });

/** Whether a pair reads nothing else and its queue is free, of what instances before did and these ones do, in any of those at work. */
const isPortFree = ({ instance: { cycles, overlap }, elsewhere }: Wanted, { pair, cycle, read }: Read): boolean => {
  for (let turn = -overlap; turn <= overlap; turn++) {
    const then = cycle + turn * cycles;
    if (!elsewhere.free(pair.read, then, spanOf(read.instruction)) || !elsewhere.free(pair.issue, then, 1))
      return false;
  }
  return true;
};

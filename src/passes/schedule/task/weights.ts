/**
 * Weights: loads a pass's weights into the buffer of an array as late as they may be, before the IW that installs them,
 * while the array still computes the pass before.
 *
 * A constant tile lies in several pairs, placed at its first use in a hemisphere, and loads on as many pairs of streams; in an
 * entry that keeps fewer for weights than the one that placed it on as many as it keeps, and reads its pairs in turns, unless
 * that took longer than the rows do that meet it. A load that takes all streams goes on around what flies (stretches.ts).
 * Weights that are computed are loads.ts.
 */

import { at } from "../../../diagnostics.js";
import { halfLanes } from "../../../ir/target.js";
import {
  isTile,
  type PackedTile,
  type Pass,
  type Task,
  TILE_COLUMNS,
  TILE_TYPES,
  type WeightLoad,
} from "../../../ir/plan.js";
import { mxmQueue } from "../../../ir/program.js";
import { findUnused } from "../chip/memory.js";
import { fitBefore, lastEndBefore, NEVER, type Timeline } from "../chip/resources.js";
import { type Load, loadsOf, tryLoads } from "./loads.js";
import { bankOf, type Half, memoriesOf, pairAt } from "../chip/machine.js";
import { hold, pairsOf } from "../place/rows.js";
import { executionsOf, rowsOfTile, tileWays } from "../figures.js";
import { bookRead, dispatchOf, type Flight, type PairBurst, spanOf } from "../chip/ports.js";
import { tilesAhead, tilesAlike } from "../repeat/instances.js";
import { noRoom } from "../place/room.js";
import type { TilePlace } from "../place/chunk.js";
import type { Scheduler } from "../state.js";
import { inOne, isLoadFree, latestStretches, pickLoadStreams, type Stretch } from "./stretches.js";
import { emit, markOf, rollback } from "./trial.js";

/** Start cycles that are tried for a tile. */
const TILE_TRIES = 40;
/** And choices of cycles for one that loads in stretches. */
const APART_TRIES = 8;

/** Loads the weights of a pass for the IW at `load.install`. Returns 0 or a delay. */
export const tryWeights = (s: Scheduler, task: Task, pass: Pass, load: Load): number => {
  const { buffer } = load.half;
  const covered = s.trial.figure.fit(buffer, load.install, 1) - load.install;
  if (covered > 0) return covered;
  const earliest = Math.max(lastEndBefore(buffer, load.install), s.target.timing.barrier);
  const { weights } = pass;
  if (!isTile(weights)) return tryLoads(s, weights, load, earliest);
  const index = task.passes.indexOf(pass);
  const { rows } = task;
  return tryTile(s, weights, { ...load, pass: index, rows, neighbours: neighboursOf(task, pass) }, earliest);
};

/**
 * Cycles from the install of a pass's weights to its first activation: as few as there must be, or, where the next tile takes
 * all streams, as many as it loads in, so that activations fly behind it, in the cycle in which its install is dispatched.
 */
export const installLead = (s: Scheduler, task: Task, pass: Pass, half: Half): number => {
  const { mxmInstall, mxmActivationSkew, mxmWeightSkew } = s.target.timing;
  const { weights } = task.passes.at(task.passes.indexOf(pass) + 1) ?? pass;
  const all = half.outward.length;
  if (s.mostPairs < all) return mxmInstall;
  const next = isTile(weights)
    ? { width: widthOfTile(s, weights, half, task.rows), executions: executionsOf(weights, all) }
    : shortLoads(s, weights, half);
  if (next.width < all) return mxmInstall;
  return Math.max(mxmInstall, next.executions + 1 + mxmWeightSkew - mxmActivationSkew);
};

/** What takes longer than a tile goes on behind the activations that fly when one would be loaded. */
const shortLoads = (s: Scheduler, loads: readonly WeightLoad[], half: Half): ReturnType<typeof loadsOf> => {
  const { width, executions } = loadsOf(s, loads, half);
  return { width, executions: Math.min(executions, s.tileCycles) };
};

/** A pass and the one that, most likely, computes while its weights load: neither's activations should lie with the weights. */
const neighboursOf = (task: Task, pass: Pass): Pass[] => {
  const before = task.passes.at(task.passes.indexOf(pass) - 1);
  return before === undefined ? [pass] : [pass, before];
};

interface TileLoad extends Load {
  /** Number of the pass in its task. */
  readonly pass: number;
  /** Rows that meet it. */
  readonly rows: number;
  readonly neighbours: readonly Pass[];
}

/** Pairs in which a tile comes to lie that has no place yet: so many that it loads while `rows` pass that meet it. */
const pairsForTile = (s: Scheduler, tile: PackedTile, rows: number): number => asFewAs(s, tile, rows, s.mostPairs);

/** Pairs of streams on which a tile loads: of those in which it lies as few as it loads on while the rows pass that meet it. */
const widthOfTile = (s: Scheduler, tile: PackedTile, { side }: Half, rows: number): number =>
  asFewAs(s, tile, rows, s.tiles[side].get(tile.key)?.pairs.length ?? s.mostPairs);

/** As many pairs as the plan has for a tile, or twice as many and so on, up to `most`. */
const asFewAs = (s: Scheduler, tile: PackedTile, rows: number, most: number): number => {
  let pairs = Math.min(s.tilePairs, most);
  while (pairs < most && executionsOf(tile, pairs) > rows) pairs *= 2;
  return pairs;
};

const tryTile = (s: Scheduler, tile: PackedTile, load: TileLoad, earliest: number): number => {
  const executions = executionsOf(tile, widthOfTile(s, tile, load.half, load.rows));
  const latest = load.install - s.target.timing.mxmLoad - executions + 1;
  if (latest < earliest) return earliest - latest;
  const rooms = s.tiles[load.half.side].has(tile.key) ? undefined : roomsFor(s, tile, load);
  for (let start = latest, tries = 0; start >= earliest && tries < TILE_TRIES; tries++) {
    const lead = tryTileAt(s, tile, load, start, inOne(executions), rooms);
    if (lead === 0) return 0;
    start -= lead;
  }
  return tryTileApart(s, tile, load, earliest, rooms) ? 0 : 2;
};

/** Loads a tile that takes all streams in several stretches, around what flies on them. Whether it does. */
const tryTileApart = (
  s: Scheduler,
  tile: PackedTile,
  load: TileLoad,
  earliest: number,
  rooms: Rooms | undefined,
): boolean => {
  const { half, install } = load;
  const width = widthOfTile(s, tile, half, load.rows);
  const place = s.tiles[half.side].get(tile.key);
  if (width < half.outward.length || (place !== undefined && place.pairs.length > width)) return false;
  const count = executionsOf(tile, width);
  for (let last = install - s.target.timing.mxmLoad, tries = 0; tries < APART_TRIES; last--, tries++) {
    const found = latestStretches({ first: earliest, last, count }, (cycle) => isLoadFree(s, half, cycle, place));
    if (found === undefined) return false;
    if (tryTileAt(s, tile, load, found.start, found.stretches, rooms) === 0) return true;
    last = found.last;
  }
  return false;
};

/** Loads a tile from `start` on. Returns 0, or by how many cycles to start earlier. */
const tryTileAt = (
  s: Scheduler,
  tile: PackedTile,
  load: TileLoad,
  start: number,
  stretches: readonly Stretch[],
  rooms: Rooms | undefined,
): number => {
  const { half } = load;
  const width = widthOfTile(s, tile, half, load.rows);
  const executions = executionsOf(tile, width);
  const diagonal = start + s.target.timing.mxmWeightSkew - s.target.mxm;
  const mark = markOf(s);
  const stream = pickLoadStreams(s, half, width, diagonal, stretches);
  const flight: Flight = { half, inward: false, diagonal, stream, origin: load.origin };
  const known = s.tiles[half.side].get(tile.key);
  const placed = stream < 0 || rooms === undefined ? undefined : newTilePlace(s, tile, load, flight, stretches, rooms);
  const place = stream < 0 ? undefined : (known ?? placed?.[0]?.place);
  if (place === undefined) {
    rollback(s, mark);
    return 2;
  }
  const bursts = burstsOfTile(place, width, stretches);
  const lead = leadOf(s, bursts, flight);
  if (lead > 0) {
    rollback(s, mark);
    return known === undefined ? 1 : lead;
  }
  if (placed !== undefined && rooms !== undefined) {
    holdTile(s, executions, placed, half);
    s.trial.wants.push({ kind: "promise", tile, side: half.side, instances: rooms.behind });
  }
  for (const burst of bursts) {
    const cycle = dispatchOf(s, pairAt(half, burst.pair), flight) + burst.delay;
    bookRead(s, burst, cycle, flight, { side: half.side, pass: load.pass, way: burst.way });
  }
  emitTile(s, tile, width, start, stretches, stream, load);
  return 0;
};

/** What a pair of a tile reads: it is number `way` of the tile's. */
interface TileBurst extends PairBurst {
  readonly way: number;
}

/** What each pair of a tile reads: `width` pairs at a time, in turns if it lies in more. */
const burstsOfTile = (
  { pairs, addresses }: TilePlace,
  width: number,
  stretches: readonly Stretch[],
): readonly TileBurst[] => {
  const turns = pairs.length / width;
  return pairs.flatMap((pair, way) =>
    stretches.flatMap(({ delay: behind, done, count: executions }): readonly TileBurst[] => {
      const turn = Math.floor(way / width);
      const count = Math.ceil((executions - turn) / turns);
      if (count <= 0) return [];
      const address = at(addresses, way, "address") + done;
      return [{ pair, way, address, delay: behind + turn, count, interval: turns, step: 1, stream: way % width }];
    }),
  );
};

/** By how many cycles a tile must be read earlier, so that all its ports are free. */
const leadOf = (s: Scheduler, bursts: readonly PairBurst[], flight: Flight): number => {
  let worst = 0;
  for (const burst of bursts) {
    const pair = pairAt(flight.half, burst.pair);
    const cycle = dispatchOf(s, pair, flight) + burst.delay;
    if (cycle < s.target.timing.barrier) return NEVER;
    const span = spanOf(burst);
    worst = Math.max(
      worst,
      cycle - fitBefore(pair.read, cycle, span),
      cycle - fitBefore(pair.writeBank[bankOf(s.target, burst.address)], cycle, span),
      cycle - fitBefore(pair.issue, cycle, 1),
      s.trial.figure.free(pair.read, cycle, span) && s.trial.figure.free(pair.issue, cycle, 1) ? 0 : 1,
    );
  }
  return worst;
};

/** A tile with the place that it gets. */
interface PlacedTile {
  readonly tile: PackedTile;
  readonly place: TilePlace;
}

/** Where a tile may lie that is used for the first time in a hemisphere; the same whenever it is loaded. */
interface Rooms {
  /** The tile, and those of later instances that have no place yet: one whose turn came first has its own already. */
  readonly alike: readonly PackedTile[];
  /** How many instances come behind those. */
  readonly behind: number;
  /** By pair: rows for each of these; none if there is no room for all. */
  readonly rowsIn: (pair: number) => readonly number[];
}

const roomsFor = (s: Scheduler, tile: PackedTile, { half, pass, rows }: TileLoad): Rooms => {
  const executions = executionsOf(tile, pairsForTile(s, tile, rows));
  const placed = tilesAlike(s, tile, pass);
  const alike = placed.filter((one) => !s.tiles[half.side].has(one.key));
  const behind = tilesAhead(s, tile, pass).length - placed.length;
  const found: (readonly number[] | undefined)[] = [];
  const rowsIn = (pair: number): readonly number[] => {
    found[pair] ??= findUnused(s.target, [pairAt(half, pair).memory], executions, alike.length);
    return found[pair];
  };
  return { alike, behind, rowsIn };
};

/** Pairs for a tile that is used for the first time in this hemisphere: those whose ports are free, the emptiest ones. */
const newTilePlace = (
  s: Scheduler,
  tile: PackedTile,
  load: TileLoad,
  flight: Flight,
  stretches: readonly Stretch[],
  { alike, rowsIn }: Rooms,
): PlacedTile[] | undefined => {
  const { half } = load;
  const wanted = pairsForTile(s, tile, load.rows);
  const pairs: number[] = [];
  const addresses: (readonly number[])[] = [];
  for (const index of emptiestFirst(s, load)) {
    const pair = pairAt(half, index);
    const dispatch = dispatchOf(s, pair, flight);
    const isFree = (line: Timeline, length?: number): boolean =>
      stretches.every(({ delay, count }) => s.trial.figure.free(line, dispatch + delay, length ?? count));
    if (!isFree(pair.read) || !isFree(pair.issue, 1)) continue;
    const rows = rowsIn(index);
    const [address] = rows;
    if (address === undefined) continue;
    if (!isFree(pair.writeBank[bankOf(s.target, address)])) continue;
    pairs.push(index);
    addresses.push(rows);
    if (pairs.length === wanted)
      return alike.map((each, later) => ({
        tile: each,
        place: { pairs, addresses: addresses.map((list) => at(list, later, "address")) },
      }));
  }
  const room = half.pairs.filter((_, index) => rowsIn(index).length > 0).length;
  if (room < wanted) noRoom(s, originName(s, load.origin), 2 * rowsOfTile(tile, wanted));
  return undefined;
};

const originName = (s: Scheduler, origin: number): string => at(s.plan.origins, origin, "origin");

/** Pairs in which no activations lie that are read meanwhile, then by how much lies in them. */
const emptiestFirst = (s: Scheduler, { half, neighbours }: TileLoad): number[] => {
  const busy = new Set(neighbours.flatMap((pass) => pairsOf(s, pass, half)));
  const rank = half.pairs.map(({ memory }, index) => ({
    index,
    busy: Number(busy.has(index)),
    touched: memory.touched,
  }));
  rank.sort((a, b) => a.busy - b.busy || a.touched - b.touched || b.index - a.index);
  return rank.map(({ index }) => index);
};

const holdTile = (s: Scheduler, executions: number, placed: readonly PlacedTile[], half: Half): void => {
  for (const { tile, place } of placed) {
    for (const [way, pair] of place.pairs.entries())
      hold(s, memoriesOf(half, [pair]), at(place.addresses, way, "address"), executions);
    s.trial.wants.push({ kind: "tile", tile, side: half.side, place });
  }
};

const emitTile = (
  s: Scheduler,
  tile: PackedTile,
  width: number,
  start: number,
  stretches: readonly Stretch[],
  stream: number,
  load: TileLoad,
): void => {
  const { half, install, origin } = load;
  const { mode } = TILE_TYPES[tile.dtype];
  s.trial.figure.add(half.buffer, start, install + 1 - start);
  const queue = mxmQueue(s.target, half.hemisphere, 0, 0);
  const ways = tileWays(tile, width);
  for (const { delay, done, count } of stretches) {
    const place = { column: tile.column + TILE_COLUMNS * ways * done, first: 0, lanes: halfLanes(s.target) };
    const fields = { stream, mode, ways, ...place, clear: done === 0 ? 1 : 0 };
    emit(s, queue, start + delay, { op: "lw", fields, origin, count });
  }
  emit(s, queue, install, { op: "iw", fields: {}, origin });
};

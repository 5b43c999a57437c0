/**
 * Fourth step of linking: the MXM. Which weights every activation meets, which accumulation takes every product.
 *
 * Each install makes a version of the array that never changes again: a version has its own memory, so loading the next one
 * while the array computes needs no care. An ABC burst is cut where it meets another version, and paired with the ACC
 * executions that are dispatched when its products arrive; the pieces are the matrix products to run. Streams past the
 * buffer (iwStream) make a version that starts as a copy of the one before. The rules are those of `semantics-mxm.ts`.
 */

import { at } from "../../diagnostics.js";
import { ARRAYS, arrayDepth, type Mnemonic, modeOf } from "../../ir/isa.js";
import { isWestward, queuePlace } from "../../ir/program.js";
import { addBurstNode, addEdge, addNode, NODE_KINDS, type Nodes } from "./nodes.js";
import type { Tables } from "./tables.js";
import {
  kindOf,
  nextChange,
  opOf,
  type PlaneHistory,
  planeOf,
  planesFor,
  replayWeights,
  type Version,
  versionAt,
} from "./weights.js";

/** Executions of an ACC burst and the ABC executions whose products they take. */
export interface ProductPiece {
  readonly acc: number;
  readonly first: number;
  count: number;
  readonly abc: number;
  readonly abcFirst: number;
  readonly abcStep: number;
  readonly version: number;
}

export interface MxmFindings {
  readonly versions: readonly Version[];
  readonly pieces: readonly ProductPiece[];
  /** Version that a loading burst belongs to; -1 if what it loads is never used. */
  readonly versionOf: ReadonlyMap<number, number>;
}

export function linkMxm(tables: Tables, nodes: Nodes): MxmFindings {
  const { target, program } = tables;
  const findings: MxmFindings & { versions: Version[]; pieces: ProductPiece[]; versionOf: Map<number, number> } = {
    versions: [],
    pieces: [],
    versionOf: new Map(),
  };
  program.chips.forEach((_, chip) => {
    for (let hemisphere = 0; hemisphere < 2; hemisphere++) {
      const queue = (plane: number, part: number): readonly number[] =>
        at(
          at(tables.byQueue, chip, "chip"),
          2 * target.slices + target.alus + (hemisphere * target.planes + plane) * 3 + part,
          "queue",
        );
      const planes = replayWeights(tables, findings, queue);
      const products = planes.map((_, plane) =>
        pairProducts(tables, findings, planes, queue(plane, 1), queue(plane, 2)),
      );
      orderAccumulators(tables, nodes, findings, products);
    }
  });
  for (const [index, version] of findings.versions.entries()) {
    // Loads have nodes already; what multiplies depends on them through orderAccumulators' pieces.
    version.prepare = addNode(
      nodes,
      NODE_KINDS.prepare,
      version.loads[0] ?? 0,
      0,
      1,
      prepareKey(tables, version),
      index,
    );
    const base = findings.versions[version.base];
    if (base !== undefined) {
      base.copied = true;
      addVersionEdges(nodes, version.prepare, base);
    }
    version.loads.forEach((burst, order) => {
      const node = nodes.ofBurst[burst] as number;
      addEdge(nodes, node, version.prepare);
      const before = version.loads[order - 1];
      if (before !== undefined) addEdge(nodes, node, nodes.ofBurst[before] as number);
    });
  }
  for (const { version, count } of findings.pieces) {
    const met = findings.versions[version];
    if (met !== undefined) met.rows += count;
  }
  for (let node = 0; node < nodes.kind.length; node++) {
    if (nodes.kind.at(node) !== NODE_KINDS.product) continue;
    const version = findings.versions[findings.pieces[nodes.detail.at(node)]?.version ?? -1];
    if (version !== undefined) addVersionEdges(nodes, node, version);
  }
  return findings;
}

function addVersionEdges(nodes: Nodes, node: number, version: Version): void {
  addEdge(nodes, node, version.prepare);
  for (const burst of version.loads) addEdge(nodes, node, nodes.ofBurst[burst] as number);
}

/** A preparation goes just before the version's first load has its operands, and so after all loads of an earlier version. */
const prepareKey = (tables: Tables, { loads }: Version): number =>
  loads.length === 0 ? 0 : tables.cycle.at(at(loads, 0, "load")) + tables.target.timing.mxmWeightSkew;

/** Pairs products with accumulations of one plane's queues, execution by execution, and cuts them into pieces. */
function pairProducts(
  tables: Tables,
  findings: MxmFindings & { pieces: ProductPiece[] },
  planes: readonly PlaneHistory[],
  abcs: readonly number[],
  accs: readonly number[],
): number[] {
  const { faults } = tables;
  const { mxmMultiply } = tables.target.timing;
  const own: number[] = [];
  const products = cursor(tables, ofOp(tables, abcs, "abc"), mxmMultiply);
  const sums = cursor(tables, ofOp(tables, accs, "acc"), 0);
  let piece: ProductPiece | undefined;
  let version = -1;
  // The version is looked up again at each new burst, and when the next install takes effect.
  let versionUntil = Number.NEGATIVE_INFINITY;
  while (products.burst >= 0 || sums.burst >= 0) {
    if (products.burst < 0 || (sums.burst >= 0 && sums.cycle < products.cycle)) {
      faults.report("LPU4012", sums.burst, sums.cycle, "no product arrives in this cycle");
      sums.advance(1);
      continue;
    }
    if (sums.burst < 0 || products.cycle < sums.cycle) {
      metVersion(tables, findings, planes, products.burst, products.cycle - mxmMultiply);
      faults.report("LPU4012", products.burst, products.cycle, "no acc takes the product of this instruction");
      products.advance(1);
      continue;
    }
    const dispatch = products.cycle - mxmMultiply;
    if (products.index === 0 || dispatch >= versionUntil) {
      version = metVersion(tables, findings, planes, products.burst, dispatch);
      versionUntil = nextChange(planes, dispatch);
    }
    // As many executions as stay in step and meet the same version.
    const pace = tables.interval.at(products.burst);
    const together =
      pace === tables.interval.at(sums.burst)
        ? Math.min(products.left(), sums.left(), Math.ceil((versionUntil - dispatch) / pace))
        : 1;
    const abcStep = tables.interval.at(sums.burst) / pace;
    const next: ProductPiece = {
      acc: sums.burst,
      first: sums.index,
      count: together,
      abc: products.burst,
      abcFirst: products.index,
      abcStep: Number.isInteger(abcStep) ? abcStep : 1,
      version,
    };
    if (piece !== undefined && continues(piece, next)) piece.count += together;
    else {
      piece = next;
      own.push(findings.pieces.push(piece) - 1);
    }
    products.advance(together);
    sums.advance(together);
  }
  countProducts(tables, abcs);
  return own;
}

const ofOp = (tables: Tables, bursts: readonly number[], op: Mnemonic): number[] =>
  bursts.filter((burst) => opOf(tables, burst) === op);

/** Whether a piece goes on where another ends. */
const continues = ({ acc, first, count, abc, abcFirst, abcStep, version }: ProductPiece, next: ProductPiece): boolean =>
  acc === next.acc &&
  abc === next.abc &&
  version === next.version &&
  next.first === first + count &&
  next.abcFirst === abcFirst + count * abcStep;

const countProducts = (tables: Tables, abcs: readonly number[]): void => {
  const { target } = tables;
  for (const burst of ofOp(tables, abcs, "abc")) {
    const depth = arrayDepth(target, kindOf(tables, burst));
    at(tables.counters, tables.chip.at(burst), "counters").macs += tables.count.at(burst) * depth * target.lanes;
  }
};

/** Goes through the executions of a queue's bursts; `burst` is -1 at the end. */
interface Cursor {
  burst: number;
  index: number;
  cycle: number;
  readonly left: () => number;
  readonly advance: (executions: number) => void;
}

function cursor(tables: Tables, bursts: readonly number[], delay: number): Cursor {
  let next = 0;
  let count = 0;
  let interval = 0;
  const place: Cursor = {
    burst: -1,
    index: 0,
    cycle: 0,
    left: () => count - place.index,
    advance: (executions) => {
      place.index += executions;
      place.cycle += executions * interval;
      if (place.index >= count) open();
    },
  };
  const open = (): void => {
    place.burst = bursts[next++] ?? -1;
    place.index = 0;
    if (place.burst < 0) return;
    place.cycle = tables.cycle.at(place.burst) + delay;
    count = tables.count.at(place.burst);
    interval = tables.interval.at(place.burst);
  };
  open();
  return place;
}

function metVersion(
  tables: Tables,
  findings: MxmFindings,
  planes: readonly PlaneHistory[],
  burst: number,
  cycle: number,
): number {
  const kind = kindOf(tables, burst);
  const met = planesFor(tables, planes, burst, kind).map((plane) => versionAt(tables, plane, burst, cycle));
  const version = met[0] ?? -1;
  if (findings.versions[version]?.kind === kind && met.every((other) => other === version)) return version;
  tables.faults.report("LPU4011", burst, cycle, "weights are not installed");
  return -1;
}

/** Orders the pieces of all planes of a hemisphere by cycle over the accumulator rows that they share. */
function orderAccumulators(tables: Tables, nodes: Nodes, findings: MxmFindings, products: readonly number[][]): void {
  const rows = tables.target.accumulatorRows * tables.target.planes;
  const state: SumRows = {
    writer: new Int32Array(rows).fill(-1),
    kinds: Array.from({ length: rows }, () => undefined),
  };
  const places = products.map((own): PiecePlace => ({ own, next: 0, index: 0, node: -1 }));
  const cycleOf = ({ own, next, index }: PiecePlace): number => {
    const piece = findings.pieces[own[next] ?? -1];
    if (piece === undefined) return Number.POSITIVE_INFINITY;
    return tables.cycle.at(piece.acc) + (piece.first + index) * tables.interval.at(piece.acc);
  };
  for (;;) {
    const [chosen, other] = [...places].sort((a, b) => cycleOf(a) - cycleOf(b));
    if (chosen === undefined || cycleOf(chosen) === Number.POSITIVE_INFINITY) return;
    accumulate(tables, nodes, findings, state, chosen, other === undefined ? Number.POSITIVE_INFINITY : cycleOf(other));
  }
}

/** What each accumulator row holds, and the node that has set it. */
interface SumRows {
  readonly writer: Int32Array;
  readonly kinds: (Version["kind"] | undefined)[];
}

/** How far the pieces of one plane have gone. */
interface PiecePlace {
  readonly own: readonly number[];
  next: number;
  index: number;
  node: number;
}

/** Executes a piece up to a cycle: at least one execution, at most to its end. */
function accumulate(
  tables: Tables,
  nodes: Nodes,
  findings: MxmFindings,
  { writer, kinds }: SumRows,
  place: PiecePlace,
  until: number,
): void {
  const { target, faults } = tables;
  const number = place.own[place.next] ?? -1;
  const piece = findings.pieces[number];
  const instruction = tables.instructions[piece?.acc ?? -1];
  if (piece === undefined || instruction === undefined) return;
  const { acc, abc, first, count } = piece;
  const interval = tables.interval.at(acc);
  let cycle = tables.cycle.at(acc) + (first + place.index) * interval;
  if (place.index === 0) place.node = addBurstNode(nodes, NODE_KINDS.product, acc, first, count, cycle, number);
  const kind = kindOf(tables, abc);
  const { joined } = ARRAYS[kind];
  const base = joined ? 0 : planeOf(tables, acc) * target.accumulatorRows;
  const limit = target.accumulatorRows * (joined ? target.planes : 1);
  const adds = modeOf(instruction) === "add";
  const give = Number(instruction.fields["give"]);
  const west = queuePlace(target, tables.queue.at(acc)).hemisphere === "W";
  if (give >= 0 && west === isWestward(target, give))
    faults.report("LPU4008", acc, cycle, "sums are given inward only");
  const start = Number(instruction.fields["row"]) + first;
  let last = -1;
  do {
    const row = start + place.index;
    if (row >= limit) faults.report("LPU4008", acc, cycle, `expected an accumulator row below ${limit}, got ${row}`);
    if (adds && kinds[base + row] !== kind)
      faults.report("LPU4013", acc, cycle, `row ${row} holds no sums of this kind`);
    const before = writer[base + row] as number;
    if (before >= 0 && before !== place.node && before !== last) {
      addEdge(nodes, place.node, before);
      last = before;
    }
    writer[base + row] = place.node;
    kinds[base + row] = kind;
    place.index++;
    cycle += interval;
  } while (place.index < count && cycle < until);
  if (place.index < count) return;
  place.index = 0;
  place.next++;
}

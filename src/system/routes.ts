/**
 * Ways through a system: distances by graphlib, and lines of chips. Topology alone, without a program.
 */

import { alg, Graph } from "graphlib";
import { at, fail, sure } from "../diagnostics.js";
import type { System } from "../ir/system.js";

/** What is known of systems: ways are asked for from many chips of one. */
const graphs = new WeakMap<System, Graph>();

/** Chips and wires as a graph; several wires between two chips are one edge. */
const graphOf = (system: System): Graph => {
  const graph = graphs.get(system) ?? made(system);
  graphs.set(system, graph);
  return graph;
};

const made = ({ chips, links }: System): Graph => {
  const graph = new Graph({ directed: false });
  for (let chip = 0; chip < chips; chip++) graph.setNode(String(chip));
  for (const { fromChip, toChip } of links) graph.setEdge(String(fromChip), String(toChip));
  return graph;
};

/** By chip: how many wires a vector takes to it from another on the shortest way. */
export const hopsFrom = (system: System, chip: number): readonly number[] => {
  const found = waysFrom(system, chip);
  return Array.from({ length: system.chips }, (_, other) => sure(found[String(other)], "chip").distance);
};

/** Shortest ways from a chip. dijkstra asks for edges that lead from a node; these go both ways. */
const waysFrom = (system: System, chip: number) => {
  const graph = graphOf(system);
  return alg.dijkstra(graph, String(chip), undefined, (node) => graph.nodeEdges(node) ?? []);
};

/** Nodes that a search for a line goes into at most, so that it ends where there is none. */
const MOST_TRIED = 1000;

/**
 * So many chips, each joined to the next, each once: for a pipeline. A node is gone through from the chip where the one before
 * leads to that from which a wire leads to the next, the first that has not been gone through and from which a line as long goes on.
 * LPU2007 if the system has fewer, or no such line is found.
 */
export const chipsInLine = (system: System, count: number): readonly number[] => {
  const { links, nodes } = system;
  const living = nodes.flat().length;
  if (count > living)
    fail("LPU2007", {
      message: `expected at most ${living} stages on system '${system.name}', got ${count}`,
      hint: "give a larger system, or none: then it is the smallest that has as many chips (lpu systems)",
    });
  const joined = new Map(nodes.flat().map((chip) => [chip, new Set<number>()]));
  for (const { fromChip, toChip } of links) joined.get(fromChip)?.add(toChip);
  const nodeOf = new Map(nodes.flatMap((chips, node) => chips.map((chip) => [chip, node] as const)));
  let longest: readonly number[] = [];
  let tried = 0;
  /** A line that goes on at a chip, or anywhere in a node. */
  const goOn = (line: readonly number[], node: number, entry: number | undefined): readonly number[] | undefined => {
    tried++;
    const own = at(nodes, node, "node");
    const wanted = Math.min(count - line.length, own.length);
    const end = [...line, ...pathThrough(own, joined, wanted, entry, undefined)];
    if (end.length > longest.length) longest = end;
    if (end.length === count) return end;
    const gone = new Set([...line.map((chip) => nodeOf.get(chip)), node]);
    const ways = own
      .filter((chip) => chip !== entry || own.length === 1)
      .flatMap((from) =>
        [...sure(joined.get(from), "chip")].map((to) => ({ from, to, next: sure(nodeOf.get(to), "node") })),
      )
      .filter(({ next }) => !gone.has(next))
      .sort((a, b) => a.next - b.next);
    for (const { from, to, next } of ways) {
      if (tried >= MOST_TRIED) break;
      const through = pathThrough(own, joined, own.length, entry, from);
      const found = goOn([...line, ...through], next, to);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const found = goOn(
    [],
    nodes.findIndex((chips) => chips.length > 0),
    undefined,
  );
  if (found !== undefined) return found;
  return fail("LPU2007", {
    message: `expected a wire from each node of system '${system.name}' to the next for ${count} stages, found that they end after ${longest.length}${tried < MOST_TRIED ? "" : ", where the search was given up"}`,
    hint:
      tried < MOST_TRIED
        ? "choose a system whose nodes are joined in their order, like a rack or a line"
        : "use fewer stages",
  });
};

/** A way of so many chips of a node, or as many as there are on one, each joined to the next, from one and to one if these are given. */
const pathThrough = (
  chips: readonly number[],
  joined: ReadonlyMap<number, ReadonlySet<number>>,
  length: number,
  from: number | undefined,
  to: number | undefined,
): readonly number[] => {
  const goOn = (path: readonly number[], rest: number): readonly number[] | undefined => {
    if (rest === 0) return to === undefined || path.at(-1) === to ? path : undefined;
    for (const chip of chips) {
      const last = path.at(-1);
      const isNext = last === undefined ? from === undefined || chip === from : joined.get(last)?.has(chip) === true;
      if (!isNext || path.includes(chip) || (chip === to && rest > 1)) continue;
      const found = goOn([...path, chip], rest - 1);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  for (let most = length; most > 0; most--) {
    const path = goOn([], most);
    if (path !== undefined) return path;
  }
  return [];
};

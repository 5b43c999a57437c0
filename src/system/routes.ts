/**
 * Ways through a system, by graphlib: topology alone, without a program.
 */

import { alg, Graph } from "graphlib";
import { at, fail, sure } from "../diagnostics.js";
import type { System } from "../ir/system.js";

/** Chips and wires as a graph; several wires between two chips are one edge. */
const graphOf = ({ chips, links }: System): Graph => {
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

/** The chips of a shortest way from one to another, both among them. */
export const routeOf = (system: System, from: number, to: number): readonly number[] => {
  const found = waysFrom(system, from);
  const route = [to];
  while (at(route, 0, "chip") !== from)
    route.unshift(Number(sure(found[String(at(route, 0, "chip"))]?.predecessor, "way")));
  return route;
};

/** Shortest ways from a chip. dijkstra asks for edges that lead from a node; these go both ways. */
const waysFrom = (system: System, chip: number) => {
  const graph = graphOf(system);
  return alg.dijkstra(graph, String(chip), undefined, (node) => graph.nodeEdges(node) ?? []);
};

/**
 * So many chips, each joined to the next, each once: for a pipeline. A node is gone through from the chip where the one before
 * leads to that from which a wire leads to the next node. LPU2007 if the system has fewer.
 */
export const chipsInLine = (system: System, count: number): readonly number[] => {
  const { chips, nodeChips, links } = system;
  if (count > chips)
    fail("LPU2007", {
      message: `expected at most ${chips} stages on system '${system.name}', got ${count}`,
      hint: "give a larger system, or none: then it is the smallest that has as many chips (lpu systems)",
    });
  const line: number[] = [];
  let entry: number | undefined;
  for (let first = 0; line.length < count; first += nodeChips) {
    const own = Array.from({ length: nodeChips }, (_, chip) => first + chip);
    const isIn = (chip: number, node: number): boolean => chip >= node && chip < node + nodeChips;
    const ahead = links.find(
      ({ fromChip, toChip }) => isIn(fromChip, first) && isIn(toChip, first + nodeChips) && fromChip !== entry,
    );
    const ends = [entry, ahead?.fromChip];
    const between = own.filter((chip) => !ends.includes(chip));
    line.push(...(entry === undefined ? [] : [entry]), ...between, ...(ahead === undefined ? [] : [ahead.fromChip]));
    if (ahead === undefined) break;
    entry = ahead.toChip;
  }
  if (line.length < count)
    fail("LPU2007", {
      message: `expected a wire from each node of system '${system.name}' to the next for ${count} stages, found that they end after ${line.length}`,
      hint: "choose a system whose nodes are joined in their order, like a rack or a line",
    });
  return line.slice(0, count);
};

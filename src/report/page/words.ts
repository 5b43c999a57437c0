/** What the page says in words: of a burst, of what lies in SRAM, and numbers as people read them. Runs in the browser. */

import { type Contents, rowOfBurst } from "./contents.js";

export function countText(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

export function vectorsText({ data }: Contents, vectors: number): string {
  return `${countText((vectors * data.lanes) / 1024)} KiB`;
}

export function instructionText({ data, columns }: Contents, burst: number): string {
  const { text, address } = columns;
  return (data.texts[text[burst] as number] ?? "").replace("@", String(address[burst]));
}

export function burstLines(page: Contents, burst: number): readonly string[] {
  const { rows, nodes } = page.data;
  const { cycle, last, node, energy } = page.columns;
  return [
    `${rows[rowOfBurst(page, burst)]?.name}  ${instructionText(page, burst)}`,
    `cycles ${countText(cycle[burst] as number)} to ${countText(last[burst] as number)}`,
    nodes[node[burst] as number] || "(no node)",
    `${countText((energy[burst] as number) / 1e6)} nJ by the model`,
  ];
}

/** What lies in SRAM at the start of a bin, the most first. */
export function heldLines(page: Contents, bin: number): readonly string[] {
  const { heldBin, heldNode, heldRows } = page.columns;
  const here = Array.from(heldBin.keys()).filter((at) => heldBin[at] === bin);
  here.sort((a, b) => (heldRows[b] as number) - (heldRows[a] as number));
  const lineOf = (at: number): string =>
    `${vectorsText(page, heldRows[at] as number)}  ${page.data.nodes[heldNode[at] as number] ?? "from the host"}`;
  return [
    `in SRAM at cycle ${countText(bin * page.data.grid)}, beside constants:`,
    ...here.slice(0, 8).map((at) => lineOf(at)),
  ];
}

/** A burst that gives to the selected one, or takes from it, and what flies between them. */
export function partnerText(page: Contents, burst: number, selected: number): string {
  const { cycle, flightFrom, flightTo, flightStreams, flightVectors } = page.columns;
  const flight = flightFrom.findIndex(
    (from, at) => (from === burst && flightTo[at] === selected) || (from === selected && flightTo[at] === burst),
  );
  const streams = page.data.streams[flightStreams[flight] as number];
  const way = streams === "" ? "" : ` on ${streams}`;
  const name = page.data.rows[rowOfBurst(page, burst)]?.name;
  return `${name} at ${countText(cycle[burst] as number)}: ${instructionText(page, burst)} (${flightVectors[flight]} byte vectors${way})`;
}

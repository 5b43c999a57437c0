/**
 * Import rules of windows and filter banks of signal processing: constants, since their sizes are static.
 */

import type { NodeId } from "../../ir/graph.js";
import { flag, int, iota, numberOf, operand, reject, type Rule, type RuleContext } from "../rule.js";
import { elementType } from "../tensors.js";

/** Coefficients of cosines of 0, 1, 2 periods. */
const WINDOWS: Readonly<Record<string, readonly number[]>> = {
  HannWindow: [0.5, -0.5],
  HammingWindow: [25 / 46, -21 / 46],
  BlackmanWindow: [0.42, -0.5, 0.08],
};

function window(c: RuleContext, coefficients: readonly number[]): NodeId {
  const size = numberOf(c, operand(c, 0), "size");
  const { dtype } = elementType(int(c, "output_datatype", 1), c.label);
  const period = flag(c, "periodic", true) ? size : size - 1;
  const at = (place: number): number =>
    coefficients.reduce((sum, factor, k) => sum + factor * Math.cos((2 * Math.PI * k * place) / period), 0);
  return c.graph.numbers(dtype, [size], iota(size).map(at));
}

const toMel = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700);
const toHertz = (mel: number): number => 700 * (10 ** (mel / 2595) - 1);

/** Triangles over the bins of a spectrum [bins, filters], whose edges are even on the mel scale. */
function melWeights(c: RuleContext): NodeId {
  const names = ["num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz"];
  const [filters = 0, length = 0, rate = 1, lowest = 0, highest = 0] = names.map((name, i) =>
    numberOf(c, operand(c, i), name),
  );
  const { dtype } = elementType(int(c, "output_datatype", 1), c.label);
  const bins = Math.floor(length / 2) + 1;
  const step = (toMel(highest) - toMel(lowest)) / (filters + 2);
  const edges = iota(filters + 2).map((i) => Math.floor(((length + 1) * toHertz(toMel(lowest) + i * step)) / rate));
  if (edges.some((edge) => !(edge >= 0 && edge < bins)))
    reject(c, "LPU1012", `expected edges within ${bins} bins of a spectrum, got ${Math.max(...edges)}`);
  const weight = (bin: number, filter: number): number => {
    const [low = 0, center = 0, high = 0] = edges.slice(filter, filter + 3);
    if (bin >= center && bin < high) return (high - bin) / (high - center);
    if (bin >= low && bin <= center) return center === low ? 1 : (bin - low) / (center - low);
    return 0;
  };
  return c.graph.numbers(
    dtype,
    [bins, filters],
    iota(bins * filters).map((i) => weight(Math.floor(i / filters), i % filters)),
  );
}

export const SIGNAL: readonly Rule[] = [
  ...Object.entries(WINDOWS).map(([name, coefficients]) => ({
    op: name,
    doc: "A constant.",
    build: (c: RuleContext) => window(c, coefficients),
  })),
  { op: "MelWeightMatrix", doc: "A constant.", build: melWeights },
];

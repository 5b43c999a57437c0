/**
 * What is known about a build: how busy the matrix arrays of its schedule are and what they wait for, what it keeps in
 * four bytes, what it loses in FP8, and how it is shared out among chips.
 *
 * The checker finds these facts while it proves that a program is legal, and reports show them. An array is busy in a cycle
 * in which an ABC is dispatched for it; every other cycle of the program lies in a gap, and a gap belongs to the ONNX node
 * whose pass ends it.
 */

import type { Shape } from "./graph.js";
import type { Hemisphere } from "./target.js";

export interface Gap {
  readonly from: number;
  readonly cycles: number;
  /** ONNX node of the pass that ends the gap; empty for the time after the last pass. */
  readonly origin: string;
}

/** Gaps of at least so many cycles, and fewer than the next class. */
export interface GapClass {
  readonly atLeast: number;
  readonly gaps: number;
  readonly cycles: number;
}

/** All waiting for the passes of one ONNX node. */
export interface Wait {
  readonly origin: string;
  readonly gaps: number;
  readonly cycles: number;
}

export interface ArrayFacts {
  readonly chip: number;
  readonly hemisphere: Hemisphere;
  readonly busy: number;
  readonly idle: number;
  readonly classes: readonly GapClass[];
  /** The longest gaps, longest first. */
  readonly longest: readonly Gap[];
  /** The nodes that the array waits for most, most first. */
  readonly waits: readonly Wait[];
}

export interface ScheduleFacts {
  /** Two of each chip: W, then E. */
  readonly arrays: readonly ArrayFacts[];
  /** Cycles from the begin of an inference to that of the next. */
  readonly interval: number;
}

/** Values that are kept in four bytes for one reason. */
export interface Kept {
  readonly dtype: "f32" | "i32";
  /** A name of the precision pass. */
  readonly reason: string;
  readonly doc: string;
  /** Tensors that are computed or given, views aside, and their elements in all. */
  readonly tensors: number;
  readonly values: number;
  /** ONNX nodes and inputs that they come from: the first few. */
  readonly origins: readonly string[];
}

/** How far numbers are from what they were, after they were narrowed. */
export interface NarrowingError {
  /** Signal over noise, in dB; null where nothing is lost. */
  readonly decibels: number | null;
  /** The same of the column that loses most. */
  readonly weakest: number | null;
  readonly cosine: number;
  /** The greatest difference. */
  readonly greatest: number;
  /** Numbers that became the greatest of the format. */
  readonly saturated: number;
}

/** A constant weight of a product, by the ONNX nodes that multiply by it. */
export interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
}

/** Weights of one type of eight bits or fewer, as a file has them. */
export interface FewBits {
  readonly dtype: string;
  readonly values: number;
}

/**
 * Weights in FP8: those that the compiler narrowed, the worst first, those that the model has so, those that were to stay fp16,
 * and those that fp16 takes the place of.
 */
export interface WeightFacts {
  readonly narrowed: readonly (Weight & NarrowingError)[];
  readonly given: readonly Weight[];
  readonly kept: readonly Weight[];
  /**
   * Those of few bits that the model has, and that do not lie in them: as fp16, exactly where products are of integers and
   * rounded with their scales elsewhere.
   */
  readonly widened: readonly FewBits[];
}

/** Where the result of an ONNX node is to lie: whole on each chip of a group, or in pieces along an axis. */
export interface PlacedResult {
  readonly node: string;
  readonly tensor: string;
  readonly shape: Shape;
  readonly placement: "whole" | number;
}

/** Where the result of an ONNX node lies, by the node's name and its shape; undefined if it is no value of the graph. */
export type PlacementOf = (node: string, shape: Shape) => PlacedResult["placement"] | undefined;

/** Part of one chip's cycles that several have to save by a schedule, or the work stays on the one: a hundredth. */
export const LEAST_GAIN = 0.01;

/** So many chips that share products, in each of so many stages, and what they take for it. */
export interface Taken {
  readonly chips: number;
  readonly stages: number;
  readonly cycles: number;
  /** Of each chip. */
  readonly constantBytes: number;
}

/** How a graph is shared out among chips: one does the work where more would not be faster, or by less than `LEAST_GAIN`. */
export interface Sharding extends Taken {
  /** The most chips that were to share products. */
  readonly asked: number;
  /** What figures of cycles are: an estimate, in which nothing overlaps, or the sum over entries by a schedule of each way. */
  readonly by: "estimate" | "schedule";
  /** Operations at which chips exchange, and how many. */
  readonly exchanges: readonly { readonly op: string; readonly count: number }[];
  /** Of the model's annotations for devices: results that lie as it says, and those that the graph does not have as values of their own. */
  readonly annotated: { readonly held: number; readonly open: readonly string[] };
  /** The best of the others. */
  readonly runnerUp: Taken;
}

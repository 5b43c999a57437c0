/**
 * Deployments: so many chips that share each product, in so many stages. What is not asked for is chosen: the fewest chips that hold
 * the model, and of as many chips the deployment whose schedule is the shortest.
 */

import { at, CompileError, fail, sure } from "./diagnostics.js";
import { chipsIn, deadOf, DEGREES, isJoinable, livingChips, NODES, sharingChips, systemWith } from "./ir/system.js";
import type { Target } from "./ir/target.js";
import type { OptionsWithDevices } from "./options.js";
import { type Pipeline, pipelineOf, type Stages } from "./pipeline.js";

export interface Deployment {
  /** Chips that share each product. */
  readonly members: number;
  /** Numbers of stages, of which the first that has room is taken. */
  readonly stages: readonly number[];
  readonly pipelineOf: (stages: number) => Pipeline;
}

type Asked = Pick<OptionsWithDevices, "system" | "chips" | "dead" | "stages" | "tensor" | "stageOf">;

/** Chips of the largest node. */
const LARGEST = chipsIn(at(NODES, NODES.length - 1, "node"));

/**
 * Sets of deployments: of the first set that has room the fastest is taken. Chips that share products stand beside as many stages of
 * one chip; where neither is asked for, all that can be made of the chips. LPU2007 if there is no such system.
 */
export const deploymentsOf = (asked: Asked, target: Target): readonly (readonly Deployment[])[] => {
  const { tensor, stages, system, chips } = asked;
  expectChips(asked);
  const isBounded = system !== undefined || chips !== undefined;
  if (tensor !== undefined || stages !== undefined) {
    const wanted = stages ?? (isBounded ? "auto" : 1);
    return [[...new Set([tensor ?? 1, 1])].map((members) => deploymentOf(asked, target, members, wanted))];
  }
  if (isBounded) return [possibleOn(asked, target, 0)];
  const sizes = NODES.filter((name) => isJoinable(name, target)).map(chipsIn);
  const below = [0, ...sizes];
  return sizes.map((size, index) => possibleOn({ ...asked, chips: size }, target, at(below, index, "size")));
};

/** All deployments of more than `above` chips. */
const possibleOn = (asked: Asked, target: Target, above: number): readonly Deployment[] => {
  const most = mostOf(asked);
  const system = asked.system ?? systemWith(most);
  const shares = chipsIn(system) > LARGEST ? [] : sharingChips(target);
  return DEGREES.filter((members) => members === 1 || (members <= most && shares.includes(members))).map((members) =>
    deploymentOf({ ...asked, system }, target, members, "auto", above),
  );
};

/** `above`: with "auto", more chips than these. */
const deploymentOf = (asked: Asked, target: Target, members: number, wanted: Stages, above = 0): Deployment => {
  const made = (stages: number): Pipeline => pipelineOf({ ...asked, tensor: members, stages }, target);
  if (wanted !== "auto") {
    const pipeline = made(wanted);
    return { members, stages: [wanted], pipelineOf: () => pipeline };
  }
  const most = Math.floor(mostOf(asked) / members);
  // What is wrong with the chips themselves is said at once.
  if (asked.system !== undefined || most === 0) made(1);
  const isJoined = (stages: number): boolean => stages === 1 || isJoinable(systemWith(stages * members), target);
  const counts = Array.from({ length: most }, (_, index) => index + 1).filter((stages) => stages * members > above);
  return { members, stages: asked.system === undefined ? counts.filter(isJoined) : counts, pipelineOf: made };
};

/** Chips that may be taken: as many as are asked for, or all that work. */
const mostOf = (asked: Asked): number => asked.chips ?? livingOf(asked) ?? LARGEST;

/** Chips that work of the system that is asked for, if one is. */
const livingOf = (asked: Asked): number | undefined => asked.system && livingChips(asked.system, deadOf(asked)).length;

/** LPU2007 if more chips are asked for than there are, or less than stages and groups take. */
const expectChips = (asked: Asked): void => {
  const { chips, system, tensor = 1, stages } = asked;
  if (chips === undefined) return;
  const living = livingOf(asked) ?? chips;
  if (chips > living)
    fail("LPU2007", {
      message: `expected at most ${living} chips, those of system '${system}' that work, got ${chips}`,
      hint: "leave out --chips, or choose a larger system (lpu systems)",
    });
  const needed = tensor * (typeof stages === "number" ? stages : 1);
  if (needed > chips)
    fail("LPU2007", {
      message: `${typeof stages === "number" ? `${stages} stages of ` : ""}${tensor} ${tensor === 1 ? "chip" : "chips"} are more than the ${chips} of --chips`,
      hint: "leave out --chips, or --tensor and --stages: then the compiler chooses",
    });
};

/**
 * What a step makes with the first number of stages that has room for it; where none has, what was in the way with the last
 * that could be.
 */
export const firstWithRoom = <T>({ stages, pipelineOf: made }: Deployment, step: (pipeline: Pipeline) => T): T => {
  let full: CompileError | undefined;
  for (const count of stages)
    try {
      return step(made(count));
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      if (error.code !== "LPU2001") throw error.code === "LPU2006" ? (full ?? error) : error;
      full = error;
    }
  throw sure(full, "number of stages");
};

/**
 * Chips that work one behind the other: a plan is cut into stages, and each is scheduled as the program of a chip.
 *
 * A stage has a clock of its own, which begins when the first vector comes in, and knows when each of the others can be
 * there: what the stage before sends has its cycle by then. In the end all are on the clock of the first.
 */

import { CompileError, sure } from "./diagnostics.js";
import type { Plan } from "./ir/plan.js";
import type { Link, Program } from "./ir/program.js";
import { chipsIn, isJoinable, linksBetween, type SystemName, systemOf, systemWith } from "./ir/system.js";
import { linkDelay, type Target } from "./ir/target.js";
import { type Scheduled, schedule } from "./passes/schedule/schedule.js";
import { chipsInLine } from "./system/routes.js";
import { cutPlan, type Hop } from "./passes/stages/cut.js";
import { joinStages, type Stage, type StagedEntry } from "./passes/stages/join.js";

export interface Pipeline {
  readonly target: Target;
  /** What leads from each chip to the next. */
  readonly hops: readonly Hop[];
  /** All links between the chips. */
  readonly links: readonly Link[];
}

/** How many chips work one behind the other; "auto": as few as hold the model. */
export type Stages = number | "auto";

const LARGEST: SystemName = "node8";

interface PipelineOptions {
  readonly system?: SystemName | undefined;
  readonly stages?: Stages | undefined;
}

/** What a build tries, one after the other, until there is room: one pipeline, or with "auto" longer and longer ones. */
export const pipelinesOf = (options: PipelineOptions, target: Target): readonly Pipeline[] => {
  const { system, stages } = options;
  if (stages !== "auto") return [pipelineOf({ ...options, stages }, target)];
  const most = chipsIn(system ?? LARGEST);
  const isJoined = (count: number): boolean => count === 1 || isJoinable(system ?? systemWith(count), target);
  const counts = Array.from({ length: most }, (_, index) => index + 1).filter(isJoined);
  return counts.map((count) => pipelineOf({ ...options, stages: count }, target));
};

/** What a step makes on the first pipeline that has room for it; where none has, what was in the way on the last that could be. */
export const firstWithRoom = <T>(pipelines: readonly Pipeline[], step: (pipeline: Pipeline) => T): T => {
  let full: CompileError | undefined;
  for (const pipeline of pipelines)
    try {
      return step(pipeline);
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      if (error.code !== "LPU2001") throw error.code === "LPU2006" ? (full ?? error) : error;
      full = error;
    }
  throw sure(full, "pipeline");
};

/** LPU2007 if the system has fewer chips than there are stages, or its chips too few links. */
export const pipelineOf = (
  { system, stages }: PipelineOptions & { readonly stages?: number | undefined },
  target: Target,
): Pipeline => {
  const name = system ?? systemWith(stages ?? 1);
  const count = stages ?? chipsIn(name);
  const whole = systemOf(name, target);
  const line = chipsInLine(whole, count);
  const numbers = new Map(line.map((chip, stage) => [chip, stage]));
  const links = whole.links.flatMap((link): Link[] => {
    const [fromChip, toChip] = [numbers.get(link.fromChip), numbers.get(link.toChip)];
    return fromChip === undefined || toChip === undefined ? [] : [{ ...link, fromChip, toChip }];
  });
  const hops = Array.from({ length: count - 1 }, (_, chip): Hop => {
    const joined = linksBetween({ links }, chip, chip + 1);
    return { from: joined.map(({ fromLink }) => fromLink), to: joined.map(({ toLink }) => toLink) };
  });
  return { target, hops, links };
};

/** A plan, and the entry that it becomes. */
export interface NamedPlan {
  readonly name: string;
  readonly plan: Plan;
}

export interface PipelineProgram {
  readonly program: Program;
  /** By entry: the plan of each chip, as it was scheduled. */
  readonly plans: readonly (readonly Plan[])[];
}

/**
 * Entries one after another, each around what those before it have on every chip: their states, and weights where both are cut
 * alike. `onPlan`: called with the plan of each chip before it is scheduled.
 */
export const pipelineProgram = (
  entries: readonly NamedPlan[],
  { target, hops, links }: Pipeline,
  onPlan: (plan: Plan, chip: number) => void = () => undefined,
): PipelineProgram => {
  const homes = new Map<string, number>();
  const staged: StagedEntry[] = [];
  let chips: readonly Scheduled[] = [];
  const plans: (readonly Plan[])[] = [];
  for (const { name, plan: whole } of entries) {
    const done: Scheduled[] = [];
    const stages: Stage[] = [];
    for (const [chip, plan] of cutPlan(whole, target, hops, homes).entries()) {
      for (const state of plan.states) homes.set(state.name, chip);
      onPlan(plan, chip);
      const { start, arrivals } = arrivalsFrom(target, done.at(-1), stages.at(-1));
      const scheduled = schedule(plan, target, { name, earlier: chips[chip], arrivals });
      done.push(scheduled);
      stages.push({ plan, program: scheduled.program, start });
    }
    staged.push({ whole, stages });
    plans.push(done.map(({ plan }) => plan));
    chips = done;
  }
  return { program: joinStages(staged, links), plans };
};

/** When a stage begins, and from which of its cycles on it can receive what the one before sends. */
const arrivalsFrom = (target: Target, before: Scheduled | undefined, stage: Stage | undefined) => {
  const delay = (stage?.start ?? 0) + linkDelay(target);
  const all = [...(before?.sent ?? [])].map(([name, cycle]) => [name, cycle + delay] as const);
  const first = Math.min(...all.map(([, cycle]) => cycle));
  const start = all.length === 0 ? 0 : Math.max(0, first - target.timing.barrier);
  return { start, arrivals: new Map(all.map(([name, cycle]) => [name, cycle - start])) };
};

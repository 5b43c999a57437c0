/**
 * All that is known of one entry of a program: its activity, and the figures that every view shows.
 */

import type { EntryProgram } from "../ir/program.js";
import { type Activity, activityOf } from "./activity.js";
import { type Stretches, stretchesOf } from "./bounds.js";
import { criticalPath, type PathStep } from "./critical.js";
import { type Overview, overviewOf } from "./overview.js";
import { type Power, powerOf } from "./power.js";

export interface Analysis {
  readonly activity: Activity;
  readonly stretches: Stretches;
  readonly power: Power;
  readonly path: readonly PathStep[];
  readonly overview: Overview;
}

/** `grid`: cycles of a bin of power over time; about a thousandth of the program if not given. */
export function analysisOf(program: EntryProgram, grid?: number): Analysis {
  const activity = activityOf(program);
  const stretches = stretchesOf(activity);
  const power = powerOf(activity, grid);
  const path = criticalPath(activity);
  return { activity, stretches, power, path, overview: overviewOf(activity, stretches, power, path) };
}

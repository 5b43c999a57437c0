/** What a job on its thread is given. */

import type { TaskEvent } from "../show/stages.js";

/** What a job on its thread says while it works. */
export interface JobContext<Part> {
  readonly task: (event: TaskEvent) => void;
  /** Text for stderr. */
  readonly note: (text: string) => void;
  readonly part: (part: Part) => void;
}

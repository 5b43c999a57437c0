/** What a job on its thread is given, and how it tells of a step that it times. */

import type { TaskEvent } from "../show/stages.js";
import { clock } from "../show/terminal.js";

/** What a job on its thread says while it works. */
export interface JobContext<Part> {
  readonly task: (event: TaskEvent) => void;
  /** Text for stderr. */
  readonly note: (text: string) => void;
  readonly part: (part: Part) => void;
  /** Asks for what comes next: a line of the user, or undefined at the end. An interrupt while a question is open ends the job gently. */
  readonly ask: () => Promise<string | undefined>;
}

/** Does work as a task with a title. */
export async function timed<Value>(
  context: Pick<JobContext<never>, "task">,
  title: string,
  work: () => Value | Promise<Value>,
): Promise<{ readonly value: Value; readonly seconds: number }> {
  const start = clock();
  context.task({ title, status: "start", at: start });
  try {
    const value = await work();
    const end = clock();
    context.task({ title, status: "done", at: end });
    return { value, seconds: (end - start) / 1000 };
  } catch (error) {
    context.task({ title, status: "failed", at: clock() });
    throw error;
  }
}

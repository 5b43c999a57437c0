/**
 * Shows what is going on, one task at a time: a title while it runs, a tick or cross with its time when it ends.
 *
 * On a terminal the current task is one line that is redrawn in place; finished tasks stay above it and nothing is ever
 * cleared. In a pipe a finished task is one plain line, and a task that runs for longer than a second says so first.
 * Times are the caller's: events carry the moment in milliseconds, so that they are right wherever the work runs.
 */

import { formatSeconds, formatShare } from "../../src/report/units.js";
import { type Colors, printable } from "./problems.js";

/** Where the lines go: the part of a stream that is needed, so that tests can listen. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export interface TaskEvent {
  readonly title: string;
  /** `gone` ends a task without a line: its result is shown otherwise. */
  readonly status: "start" | "progress" | "done" | "failed" | "gone";
  readonly detail?: string;
  readonly fraction?: number;
  /** Milliseconds on the clock of all events. */
  readonly at: number;
}

export interface TaskReporter {
  event(event: TaskEvent): void;
  /** Ends what still runs, as failed. */
  close(): void;
}

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"] as const;
const REDRAW_MS = 100;
const FIRST_NOTICE_MS = 1000;
const NEXT_NOTICE_MS = 10_000;

/** `now` is the clock of the events. */
export function taskReporter(output: Output, colors: Colors, now: () => number): TaskReporter {
  let current: { readonly start: number; readonly latest: TaskEvent } | undefined;
  let timer: NodeJS.Timeout | undefined;
  let frame = 0;

  const seconds = (until: number): string => formatSeconds((until - (current?.start ?? until)) / 1000);
  const stop = (): void => {
    if (timer !== undefined) clearInterval(timer);
    timer = undefined;
  };
  const redraw = (): void => {
    if (current === undefined) return;
    frame = (frame + 1) % FRAMES.length;
    const { title, detail, fraction } = current.latest;
    const parts = [title, detail, fraction === undefined ? undefined : formatShare(fraction), seconds(now())];
    const text = printable(parts.filter((part) => part !== undefined).join("  "));
    output.write(
      `\r\x1b[K${colors.cyan(FRAMES[frame] ?? "")} ${text.slice(0, Math.max(0, (output.columns || 80) - 3))}`,
    );
  };
  const notice = (): void => {
    if (current === undefined) return;
    const { title, fraction } = current.latest;
    output.write(
      `- ${printable(title)}${fraction === undefined ? "" : ` (${formatShare(fraction)})`} ... ${seconds(now())}\n`,
    );
    timer = setTimeout(notice, NEXT_NOTICE_MS);
  };
  const start = (event: TaskEvent): void => {
    current = { start: event.at, latest: event };
    if (output.isTTY === true) {
      redraw();
      timer = setInterval(redraw, REDRAW_MS);
    } else timer = setTimeout(notice, FIRST_NOTICE_MS);
  };
  const end = (event: TaskEvent): void => {
    stop();
    if (event.status === "gone") {
      if (output.isTTY === true) output.write("\r\x1b[K");
      current = undefined;
      return;
    }
    const mark = event.status === "done" ? colors.green("✔") : colors.red("✖");
    const detail = event.detail === undefined ? "" : ` ${colors.dim(`(${printable(event.detail)})`)}`;
    output.write(
      `${output.isTTY === true ? "\r\x1b[K" : ""}${mark} ${printable(event.title)}${detail}  ${seconds(event.at)}\n`,
    );
    current = undefined;
  };

  return {
    event(event) {
      if (event.status === "start") start(event);
      else if (event.status === "progress")
        current = current === undefined ? undefined : { ...current, latest: { ...current.latest, ...event } };
      else end(event);
    },
    close() {
      if (current !== undefined) end({ title: current.latest.title, status: "failed", at: now() });
      stop();
    },
  };
}

/** One chip, as many requests at a time as it takes sequences side by side: the others wait in the order in which they came. */

import { fail } from "../diagnostics.js";

export interface Turns {
  /**
   * Does work when so much before it is done that it has its turn.
   *
   * @throws LPU5205 if too many wait.
   */
  readonly next: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /** When all that was asked before is done. */
  readonly done: () => Promise<void>;
}

/** `most` may wait while `together` are at work. */
export function turns(most: number, together: number): Turns {
  const waiting: (() => void)[] = [];
  const resting: (() => void)[] = [];
  let working = 0;
  return {
    next: async (work) => {
      if (waiting.length >= most && working === together) fail("LPU5205", { message: `${most} requests wait already` });
      if (working === together) await new Promise<void>((resolve) => waiting.push(resolve));
      else working += 1;
      try {
        return await work();
      } finally {
        // Whoever waits longest takes the place over.
        const next = waiting.shift();
        if (next !== undefined) next();
        else {
          working -= 1;
          if (working === 0) for (const rest of resting.splice(0)) rest();
        }
      }
    },
    done: async () => {
      if (working > 0) await new Promise<void>((resolve) => resting.push(resolve));
    },
  };
}

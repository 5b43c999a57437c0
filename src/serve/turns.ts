/** One chip, one request at a time: the others wait in the order in which they came. */

import { fail } from "../diagnostics.js";

export interface Turns {
  /**
   * Does work when all before it is done.
   *
   * @throws LPU5205 if too many wait.
   */
  readonly next: <Result>(work: () => Promise<Result>) => Promise<Result>;
}

export function turns(most: number): Turns {
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return {
    next: (work) => {
      if (waiting > most) fail("LPU5205", { message: `${most} requests wait already` });
      waiting += 1;
      // What went wrong before is that request's own.
      const own = last.then(work, work).finally(() => {
        waiting -= 1;
      });
      last = own.catch(() => undefined);
      return own;
    },
  };
}

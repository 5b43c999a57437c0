/**
 * How many users, times how long a past, SRAM would hold: the states of one sequence against what is left of SRAM beside them.
 *
 * States grow with users and with their past alike, so one number says both. It is what weights and results leave, in whole
 * bytes: what is lost at the ends of banks, and results of more users at once, are not in it.
 */

import { formatBytes, formatCount } from "./units.js";

export interface StateRoom {
  /** Bytes of the states of one sequence, or of as many as are taken side by side. */
  readonly bytes: number;
  /** Bytes that nothing takes. */
  readonly free: number;
  /** Sequences whose states would fit, the one that is there among them. */
  readonly sequences: number;
}

/** Null where nothing stays from run to run. All are bytes: of the states, of all that lies in SRAM with them, of SRAM. */
export const stateRoom = (states: number, taken: number, capacity: number): StateRoom | null => {
  if (states === 0) return null;
  const free = Math.max(0, capacity - taken);
  return { bytes: states, free, sequences: 1 + Math.floor(free / states) };
};

export const stateRoomText = ({ bytes, free, sequences }: StateRoom): string =>
  `${formatBytes(bytes)}; with ${formatBytes(free)} that are free, SRAM holds ${formatCount(sequences)} such, or one with ${formatCount(sequences)} times the past`;

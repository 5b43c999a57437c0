/**
 * What the text of a program weighs: how many instruction records its queues hold, and how many bytes they take encoded.
 */

import type { Program } from "../ir/program.js";
import { encodeChip } from "./encode.js";

export interface TextSize {
  readonly instructions: number;
  readonly bytes: number;
}

export const measureText = ({ target, chips }: Program): TextSize => ({
  instructions: chips.reduce((sum, chip) => sum + chip.queues.reduce((n, queue) => n + queue.length, 0), 0),
  bytes: chips.reduce((sum, chip) => sum + encodeChip(target, chip).reduce((n, text) => n + text.length, 0), 0),
});

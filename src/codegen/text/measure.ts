/**
 * What the text of a program weighs: how many instruction records its queues hold, and how many bytes they take encoded.
 */

import type { Program } from "../../ir/program.js";
import type { ProgramTexts } from "./encode.js";

export interface TextSize {
  readonly instructions: number;
  readonly bytes: number;
}

export const measureText = ({ chips }: Program, texts: ProgramTexts): TextSize => ({
  instructions: chips.reduce((sum, chip) => sum + chip.queues.reduce((n, queue) => n + queue.length, 0), 0),
  bytes: texts.reduce((sum, queues) => sum + queues.reduce((n, text) => n + text.length, 0), 0),
});

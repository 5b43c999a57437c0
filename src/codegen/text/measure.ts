/**
 * What the text of an entry weighs: how many instruction records its queues hold, and how many bytes they take encoded.
 */

import type { EntryPoint } from "../../ir/program.js";
import type { ChipTexts } from "./encode.js";

export interface TextSize {
  readonly instructions: number;
  readonly bytes: number;
}

/** `texts` are those of the entry, by chip. */
export const measureText = ({ queues }: EntryPoint, texts: readonly ChipTexts[]): TextSize => ({
  instructions: queues.flat().reduce((sum, queue) => sum + queue.length, 0),
  bytes: texts.flat().reduce((sum, text) => sum + text.length, 0),
});

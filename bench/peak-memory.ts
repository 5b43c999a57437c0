/**
 * Preloaded (`node --import`) into a command whose memory is measured: on exit it writes the process's peak resident
 * bytes, worker threads included, to the file named in PEAK_MEMORY_FILE.
 */

import { writeFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";

const file = process.env["PEAK_MEMORY_FILE"];
if (isMainThread && file !== undefined) {
  process.on("exit", () => writeFileSync(file, String(process.resourceUsage().maxRSS * 1024)));
}

/** Differences of two texts as a unified diff, the form in which people read them; empty if there are none. */

const CONTEXT = 3;

interface Line {
  readonly sign: " " | "-" | "+";
  readonly text: string;
}

export function unifiedDiff(before: string, after: string, beforeName: string, afterName: string): string {
  const lines = difference(before.split("\n"), after.split("\n"));
  const near = lines.map((_, at) =>
    lines.slice(Math.max(0, at - CONTEXT), at + CONTEXT + 1).some(({ sign }) => sign !== " "),
  );
  const text: string[] = [];
  const count = { " ": 0, "-": 0, "+": 0 };
  for (const [at, { sign, text: line }] of lines.entries()) {
    if (near[at] && !near[at - 1]) text.push(`@@ line ${count[" "] + count["-"] + 1} @@`);
    if (near[at]) text.push(`${sign}${line}`);
    count[sign]++;
  }
  return text.length === 0 ? "" : [`--- ${beforeName}`, `+++ ${afterName}`, ...text].join("\n");
}

/** By the longest common subsequence of what lies between the common beginning and the common end. */
function difference(before: readonly string[], after: readonly string[]): Line[] {
  let start = 0;
  while (start < Math.min(before.length, after.length) && before[start] === after[start]) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const [a, b] = [before.slice(start, before.length - end), after.slice(start, after.length - end)];
  const common = commonLengths(a, b);
  const middle: Line[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && a[i] === b[j]) {
      middle.push({ sign: " ", text: a[i++] ?? "" });
      j++;
    } else if (j >= b.length || (i < a.length && length(common, i + 1, j) >= length(common, i, j + 1))) {
      middle.push({ sign: "-", text: a[i++] ?? "" });
    } else {
      middle.push({ sign: "+", text: b[j++] ?? "" });
    }
  }
  const kept = (text: string): Line => ({ sign: " ", text });
  return [...before.slice(0, start).map(kept), ...middle, ...before.slice(before.length - end).map(kept)];
}

const length = (table: readonly Int32Array[], i: number, j: number): number => table[i]?.[j] ?? 0;

/** Entry [i][j]: how many lines a from i on and b from j on have in common, in order. */
function commonLengths(a: readonly string[], b: readonly string[]): Int32Array[] {
  const table = Array.from({ length: a.length + 1 }, () => new Int32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      (table[i] ?? new Int32Array(0))[j] =
        a[i] === b[j] ? length(table, i + 1, j + 1) + 1 : Math.max(length(table, i + 1, j), length(table, i, j + 1));
  return table;
}

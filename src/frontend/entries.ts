/**
 * Graphs of the entries of a model. Where it takes the sizes of some and not of others, as an exported decoder may take several tokens
 * only where none came before, an error says which.
 */

import { CompileError } from "../diagnostics.js";
import type { Graph } from "../ir/graph.js";

export function importedEntries(names: readonly string[], importEntry: (index: number) => Graph): readonly Graph[] {
  const graphs: Graph[] = [];
  const [taken, refused]: [string[], string[]] = [[], []];
  const errors: CompileError[] = [];
  for (const [index, name] of names.entries())
    try {
      graphs.push(importEntry(index));
      taken.push(`'${name}'`);
    } catch (error) {
      if (!(error instanceof CompileError)) throw error;
      errors.push(error);
      refused.push(`'${name}'`);
    }
  const [first] = errors;
  if (first === undefined) return graphs;
  if (taken.length === 0) throw first;
  const { code, details, others } = first;
  const sizes = `the model takes the sizes of ${taken.join(", ")} and not those of ${refused.join(", ")}`;
  const hint = `build it without ${refused.join(", ")} (--prefill, --entry)`;
  throw new CompileError(code, { ...details, notes: [...(details.notes ?? []), sizes], hint }, others);
}

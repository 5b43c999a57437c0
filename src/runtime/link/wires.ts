/**
 * Links between chips: which Send every Receive gets its vector from, and proof that it has arrived.
 *
 * A link is a queue: vectors come out in the order in which they were sent, `linkDelay` cycles after at the latest. So the
 * n-th execution of Receive on one end belongs to the n-th execution of Send on the other. What an outer wire brings is sent by
 * no burst here.
 */

import { at, sure } from "../../diagnostics.js";
import { arrivalOf } from "../disturb.js";
import type { WireSegment } from "../emit/layout.js";
import { addEdge, type Nodes } from "./nodes.js";
import type { Tables } from "./tables.js";

interface Passage {
  /** That sends or receives; `outerSend` where what is sent comes in on an outer wire. */
  readonly burst: number;
  readonly index: number;
  readonly cycle: number;
  /** From which cycle on what is sent can be received. */
  readonly arrival: number;
}

export interface WireFindings {
  /** By Receive burst. */
  readonly segments: ReadonlyMap<number, readonly WireSegment[]>;
  /** By outer wire: for each vector what sends it. */
  readonly outer: readonly (readonly Pick<Passage, "burst" | "index">[])[];
}

const passagesOf = (table: Map<string, Passage[]>, name: string): Passage[] => {
  const list = table.get(name) ?? [];
  table.set(name, list);
  return list;
};

/** Stands for the burst that sends what comes in on an outer wire. */
const outerSend = (wire: number): number => -1 - wire;

export function linkWires(tables: Tables, nodes: Nodes): WireFindings {
  const passages = passagesIn(tables);
  checkIntervals(tables, passages);
  return { segments: segmentsOf(tables, nodes, passages), outer: outerSendsOf(tables, passages) };
}

/** What goes into wires and comes out of them, by the link at which it comes out, each in order of cycles. */
interface Passages {
  readonly sends: ReadonlyMap<string, readonly Passage[]>;
  readonly receives: ReadonlyMap<string, readonly Passage[]>;
}

const passagesIn = (tables: Tables): Passages => {
  const { program, target, faults } = tables;
  const { outer = [], disturbed = {} } = program;
  const arrives = (chip: number, link: number, cycle: number): number =>
    arrivalOf(target, disturbed.jitter, chip, link, cycle);
  const sends = new Map<string, Passage[]>();
  const receives = new Map<string, Passage[]>();
  const wires = new Map(
    program.links.map(({ fromChip, fromLink, toChip, toLink }) => [`${fromChip}:${fromLink}`, `${toChip}:${toLink}`]),
  );
  for (const [number, { kind, vectors }] of outer.entries())
    for (const [index, { chip, link, cycle }] of vectors.entries()) {
      const name = `${chip}:${link}`;
      if (kind === "send") wires.set(name, outwardFrom(chip, link));
      else
        passagesOf(sends, name).push({ burst: outerSend(number), index, cycle, arrival: arrives(chip, link, cycle) });
    }
  for (const [burst, { op, fields }] of tables.instructions.entries()) {
    if (op !== "send" && op !== "receive") continue;
    const [chip, link] = [tables.chip.at(burst), Number(fields["link"])];
    const own = `${chip}:${link}`;
    const name = op === "receive" ? own : wires.get(own);
    if (name === undefined) {
      faults.report("LPU4015", burst, tables.cycle.at(burst), `link ${link} is not connected`);
      continue;
    }
    const list = passagesOf(op === "send" ? sends : receives, name);
    for (let index = 0; index < tables.count.at(burst); index++) {
      const cycle = tables.cycle.at(burst) + index * tables.interval.at(burst);
      list.push({ burst, index, cycle, arrival: arrives(chip, link, cycle) });
    }
  }
  for (const list of [...sends.values(), ...receives.values()]) list.sort((a, b) => a.cycle - b.cycle);
  return { sends, receives };
};

/** What a wire is called that leads out of the program from a link. */
const outwardFrom = (chip: number, link: number): string => `from ${chip}:${link}`;

/** A link takes a vector when it is through with the one before. */
const checkIntervals = ({ target, faults }: Tables, { sends }: Passages): void => {
  for (const list of sends.values())
    list.forEach(({ burst, cycle }, index) => {
      const free = (list[index - 1]?.cycle ?? Number.NEGATIVE_INFINITY) + target.timing.linkInterval;
      if (burst >= 0 && cycle < free)
        faults.report("LPU4015", burst, cycle, `the link takes the next vector at cycle ${free}`);
    });
};

/** By Receive burst, what it gets; each comes after the Sends that give it, and after they have arrived. */
const segmentsOf = ({ faults }: Tables, nodes: Nodes, { sends, receives }: Passages): WireFindings["segments"] => {
  const segments = new Map<number, { first: number; count: number; send: number; vector: number }[]>();
  for (const [name, list] of receives) {
    let missed = 0;
    list.forEach(({ burst, index, cycle }, order) => {
      const send = sends.get(name)?.[order - missed];
      if (send === undefined || send.arrival > cycle) {
        faults.report("LPU4015", burst, cycle, "nothing has arrived on the link");
        missed++;
        return;
      }
      if (send.burst >= 0) addEdge(nodes, nodes.ofBurst[burst] as number, nodes.ofBurst[send.burst] as number);
      const own = segments.get(burst) ?? [];
      segments.set(burst, own);
      const last = own.at(-1);
      if (
        last !== undefined &&
        last.send === send.burst &&
        last.first + last.count === index &&
        last.vector + last.count === send.index
      )
        last.count++;
      else own.push({ first: index, count: 1, send: send.burst, vector: send.index });
    });
  }
  return segments;
};

const outerSendsOf = ({ program: { outer = [] } }: Tables, { sends }: Passages): WireFindings["outer"] => {
  const taken = new Map<string, number>();
  const nextOn = (name: string): Passage => {
    const index = taken.get(name) ?? 0;
    taken.set(name, index + 1);
    return at(sure(sends.get(name), "link"), index, "vector");
  };
  return outer.map(({ kind, vectors }, wire) =>
    vectors.map(({ chip, link }, index) =>
      kind === "send" ? nextOn(outwardFrom(chip, link)) : { burst: outerSend(wire), index },
    ),
  );
};

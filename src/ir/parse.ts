/**
 * Reads the text form of a Graph that `print.ts` writes: `parseGraph(printGraph(g))` equals g.
 *
 * Node numbers in the text are only names: they may have gaps, and the graph is numbered anew in order. Types are written,
 * and checked against what the operation infers. A constant given by its key is looked up in `constants`.
 */

import { CompileError, fail } from "../diagnostics.js";
import { GraphBuilder } from "./builder.js";
import type { EdgeDType } from "./dtype.js";
import { type AttrValue, elementCount, type Graph, type Literal, type NodeId, type TensorType } from "./graph.js";
import { isDType, isEdgeDType } from "./ops/attributes.js";
import { equalTypes, formatType, literalOf, tensorOf } from "./tensor.js";
import { type Token, TokenReader } from "./text.js";

export interface ParseOptions {
  /** Named in errors. */
  readonly file?: string;
  readonly constants?: ReadonlyMap<string, Literal>;
}

/** A constant as written, before its type is known. */
interface Written {
  readonly at: Token;
  readonly contents: { readonly values: readonly number[] } | { readonly splat: number } | { readonly key: string };
}
const isWritten = (value: AttrValue | Written): value is Written => typeof value === "object" && "contents" in value;

interface Reading {
  readonly reader: TokenReader;
  readonly builder: GraphBuilder;
  readonly ids: Map<string, NodeId>;
  readonly constants: ReadonlyMap<string, Literal>;
}

export function parseGraph(text: string, options: ParseOptions = {}): Graph {
  const reader = new TokenReader(text, options.file ?? "graph");
  reader.expect("graph");
  const builder = new GraphBuilder(parseGraphName(reader));
  const reading: Reading = { reader, builder, ids: new Map(), constants: options.constants ?? new Map() };
  const parameters = reader.list("(", ")", () => parseParameter(reading));
  reader.expect("{");
  while (!reader.sees("return")) parseNode(reading);
  reader.expect("return");
  parseResults(reading);
  reader.expect("}");
  reader.take("end", "the end of the text");
  return builder.finish(parameters.map((token) => known(reading, token)));
}

function parseGraphName(reader: TokenReader): string {
  reader.expect("@");
  const token = reader.next();
  return token.kind === "word" || token.kind === "string"
    ? token.text
    : reader.complain(`expected a graph name, got '${token.text}'`, token);
}

/** The number token of `%3`. */
function parseId({ reader }: Reading): Token {
  reader.expect("%");
  return reader.take("number", "the number of a node");
}

function known({ reader, ids }: Reading, token: Token): NodeId {
  return ids.get(token.text) ?? reader.complain(`expected a node that comes before, got '%${token.text}'`, token);
}

function define({ reader, ids }: Reading, token: Token, id: NodeId): void {
  if (ids.has(token.text)) reader.complain(`'%${token.text}' is defined twice`, token);
  ids.set(token.text, id);
}

/** Declares an input, or only names one that is a node of the body. */
function parseParameter(reading: Reading): Token {
  const { reader, builder } = reading;
  const token = parseId(reading);
  if (!reader.sees(":") && reader.peek().kind !== "string") return token;
  const name = reader.peek().kind === "string" ? reader.next().text : String(builder.size);
  reader.expect(":");
  const type = parseType(reader);
  const declared = parseDeclared(reader, type);
  define(reading, token, builder.input(name, type, declared, parseOrigin(reader, name)));
  return token;
}

function parseNode(reading: Reading): void {
  const { reader, builder } = reading;
  const token = parseId(reading);
  reader.expect("=");
  const op = reader.take("word", "an operation");
  const operands = reader.list("(", ")", () => known(reading, parseId(reading)));
  const written = reader.sees("{") ? reader.list("{", "}", () => parseAttr(reader)) : [];
  reader.expect(":");
  const type = parseType(reader);
  const attrs = Object.fromEntries(
    written.map(([name, value]) => [name, isWritten(value) ? resolve(reading, value, type) : value]),
  );
  const origin = parseOrigin(reader, `%${builder.size}`);
  define(
    reading,
    token,
    locate(reader, op, () => addNode(builder, { op: op.text, operands, attrs, type, origin })),
  );
}

interface ParsedNode {
  readonly op: string;
  readonly operands: readonly NodeId[];
  readonly attrs: Readonly<Record<string, AttrValue>>;
  readonly type: TensorType;
  readonly origin: readonly string[];
}

function addNode(builder: GraphBuilder, { op, operands, attrs, type, origin }: ParsedNode): NodeId {
  if (op === "input") {
    const { name, declared } = attrs;
    if (operands.length > 0 || typeof name !== "string" || !isEdgeDType(declared))
      return fail("LPU2011", { message: "input: expected no operands, a name and a declared element type" });
    return builder.input(name, type, declared, origin);
  }
  const id = builder.add(op, operands, attrs, origin);
  if (!equalTypes(builder.type(id), type))
    fail("LPU2010", { message: `${op}: expected ${formatType(builder.type(id))}, got ${formatType(type)}` });
  return id;
}

/** Gives an error about the node its place in the text. */
function locate<Result>(reader: TokenReader, token: Token, make: () => Result): Result {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    throw new CompileError(error.code, { ...error.details, at: reader.where(token) });
  }
}

function parseType(reader: TokenReader): TensorType {
  const token = reader.take("word", "an element type");
  if (!isDType(token.text)) return reader.complain(`expected an element type, got '${token.text}'`, token);
  return { dtype: token.text, shape: reader.list("[", "]", () => reader.integer("an extent")) };
}

function parseDeclared(reader: TokenReader, type: TensorType): EdgeDType {
  if (!reader.accept("as")) return type.dtype;
  const token = reader.take("word", "an element type");
  return isEdgeDType(token.text) ? token.text : reader.complain(`expected an element type, got '${token.text}'`, token);
}

function parseOrigin(reader: TokenReader, implied: string): readonly string[] {
  if (!reader.accept("from")) return [implied];
  const names = [reader.take("string", "the name of an origin").text];
  while (reader.sees(",") && reader.peek(1).kind === "string") {
    reader.next();
    names.push(reader.next().text);
  }
  return names;
}

function parseAttr(reader: TokenReader): readonly [string, AttrValue | Written] {
  const name = reader.take("word", "the name of an attribute").text;
  reader.expect("=");
  return [name, parseValue(reader)];
}

function parseValue(reader: TokenReader): AttrValue | Written {
  const token = reader.peek();
  if (token.kind === "string") return reader.next().text;
  if (token.kind === "number") return reader.number();
  if (reader.sees("[")) return reader.list("[", "]", () => reader.number());
  if (reader.accept("true")) return true;
  if (reader.accept("false")) return false;
  if (!reader.accept("dense")) return reader.complain(`expected the value of an attribute, got '${token.text}'`, token);
  reader.expect("<");
  const contents = parseContents(reader);
  reader.expect(">");
  return { at: token, contents };
}

function parseContents(reader: TokenReader): Written["contents"] {
  if (reader.peek().kind === "string") return { key: reader.next().text };
  if (reader.accept("zeros")) return { splat: 0 };
  if (!reader.accept("splat")) return { values: reader.list("[", "]", () => reader.number()) };
  const [splat = 0] = reader.list("(", ")", () => reader.number());
  return { splat };
}

function resolve({ reader, constants }: Reading, { at, contents }: Written, type: TensorType): Literal {
  const count = elementCount(type.shape);
  if ("key" in contents) {
    const literal = constants.get(contents.key);
    return (
      literal ??
      fail("LPU3011", {
        message: `expected a constant with key ${JSON.stringify(contents.key)}, of ${constants.size} that are known`,
        at: reader.where(at),
      })
    );
  }
  const values = "splat" in contents ? new Array<number>(count).fill(contents.splat) : contents.values;
  if (values.length !== count)
    return reader.complain(`expected ${count} elements for ${formatType(type)}, got ${values.length}`, at);
  return literalOf(tensorOf(type.dtype, type.shape, values));
}

function parseResults(reading: Reading): void {
  const { reader, builder } = reading;
  for (let place = 0; reader.sees("%") || place > 0; place += 1) {
    const node = known(reading, parseId(reading));
    const name = reader.peek().kind === "string" ? reader.next().text : String(place);
    builder.output(name, node, parseDeclared(reader, builder.type(node)));
    if (!reader.accept(",")) return;
  }
}

/**
 * ONNX to Graph: binds dimensions, then walks the nodes in order and builds each by its rule.
 *
 * A node that cannot be built is noted and the walk goes on; what depends on it is passed over in silence, so that one import
 * reports every cause and no consequence. Operators without any rule are reported even where their operands are not known.
 * Functions of the model are imported in place of their calls, subgraphs of `If` where they stand. Declared output shapes are
 * not trusted: the shapes of the Graph are inferred.
 */

import { at, CompileError, fail, isUnsupported, sure } from "../diagnostics.js";
import type { EdgeDType } from "../ir/dtype.js";
import type { Graph, GraphOutput, NodeId, Shape, Tensor, TensorType } from "../ir/graph.js";
import { isWideTensor, type WideTensor } from "../ir/tensor.js";
import { type BoundShapes, type ImportOptions, bindInputs, failUnbound } from "./bind.js";
import { type Appender, appender } from "./builder.js";
import { fixedTensors } from "./fix.js";
import { inOrder, nameOfNode, neededFor } from "./order.js";
import {
  countsByOperator,
  labelOf,
  missingResult,
  PASSED_OVER,
  passOver,
  problemOf,
  refuse,
  unknownOperator,
} from "./problems.js";
import { type Made, type Rule, type RuleContext, unsupported, type Wide } from "./rule.js";
import {
  define,
  find,
  isAbsent,
  isSequence,
  isWide,
  lookUp,
  NO_SEQUENCES,
  type Scope,
  type Value,
  valueNamed,
} from "./scope.js";
import { wideOf } from "./wide.js";
import { witness } from "./witness.js";
import { domainOf, findRule, operatorKey } from "./rules/table.js";
import {
  type AttributeProto,
  type FunctionProto,
  type GraphProto,
  int64ToNumber,
  type NodeProto,
  type OperatorSetIdProto,
  type SparseTensorProto,
  type TensorProto,
  type ValueInfoProto,
} from "./schema.js";
import {
  type GraphRecord,
  type ModelRecord,
  type ModelSource,
  readModel,
  recordOf,
  type TensorRecord,
} from "./source.js";
import { denseTensor, ELEMENT_TYPES, elementType, literalOfRecord, wordsOfRecord } from "./tensors.js";

export type { ImportOptions } from "./bind.js";

export const OLDEST_OPSET = 7;
export const NEWEST_OPSET = 26;
const DEEPEST = 64;
/** Nodes, with those of functions in place of their calls: a few functions that call each other twice are more than any model. */
const MOST_NODES = 1 << 20;

/** What nodes mean at a place in the model: in the main graph, or in the body of a function. */
interface Frame {
  readonly opsets: ReadonlyMap<string, number>;
  /** Attributes of the call, for the body of a function. */
  readonly attributes: ReadonlyMap<string, AttributeProto>;
  /** Before the names of nodes of a function. */
  readonly prefix: string;
  readonly depth: number;
}

interface Importer {
  readonly source: ModelSource;
  readonly functions: ReadonlyMap<string, FunctionProto>;
  readonly graph: Appender;
  readonly declared: BoundShapes["declared"];
  readonly problems: Set<CompileError>;
  readonly onValue: ImportOptions["onValue"];
  /** Nodes that were imported so far. */
  readonly imported: { count: number };
  /** Values that nodes which could not be made would read. */
  readonly cut: Set<NodeId>;
}

export interface SupportReport {
  /** Nodes of the main graph, in order. */
  readonly nodes: readonly { readonly name: string; readonly op: string }[];
  readonly problems: readonly CompileError[];
  /** Dimensions without a size; while there are any, only the names of operators are checked, and there is no graph. */
  readonly unbound: readonly string[];
  /** What could be imported; where something could not, what it would read is an output. */
  readonly graph: Graph | undefined;
}

/** `model`: what the file has, where it was read before. */
export function importModel(source: ModelSource, options: ImportOptions, model = readModel(source)): Graph {
  const { unbound, run } = prepare(source, model, options);
  if (unbound.length > 0) failUnbound(unbound);
  const { importer, finish } = run();
  const problems = [...importer.problems];
  const [first] = problems;
  if (first === undefined) return finish();
  if (problems.length === 1) throw first;
  throw new CompileError(
    "LPU1013",
    {
      message: `${problems.length} of ${model.graph.nodes.length} nodes are not supported`,
      notes: countsByOperator(problems),
      hint: "lpu check lists them; lpu ops lists what is supported",
    },
    problems,
  );
}

/** What of a model can be imported. Throws only where the file itself, or a binding, is wrong. */
export function checkSupport(source: ModelSource, options: ImportOptions, model = readModel(source)): SupportReport {
  const nodes = model.graph.nodes.map((node) => ({
    name: nameOfNode(node),
    op: operatorKey(node.domain, node.opType),
  }));
  const { unbound, run } = prepare(source, model, options);
  if (unbound.length > 0) return { nodes, problems: unknownOperators(model), unbound, graph: undefined };
  const { importer, finish } = run();
  const { graph, cut } = importer;
  const outputs = [...cut].map((id) => ({ name: `cut ${id}`, node: id, declared: graph.type(id).dtype }));
  return { nodes, problems: [...importer.problems], unbound, graph: finish(outputs) };
}

/** Everything before the nodes: the operator set, the true inputs and their shapes. */
function prepare(source: ModelSource, model: ModelRecord, options: ImportOptions) {
  const frame = rootFrame(model);
  const inputs = trueInputs(model.graph);
  const { shapes, unbound, declared } = bindInputs(inputs, model.graph.outputs, options);
  const fixed = unbound.length > 0 ? new Map() : fixedTensors(inputs, shapes, options.fix ?? {});
  return { unbound, run: () => importGraph(source, model, frame, inputs, shapes, fixed, declared, options) };
}

/** Inputs that have an initializer are constants (a habit of old exporters). */
function trueInputs(graph: GraphRecord): ValueInfoProto[] {
  const constants = new Set(graph.initializers.map((record) => record.proto.name));
  return graph.inputs.filter((input) => !constants.has(input.name));
}

const functionKey = (domain: string, name: string, overload: string): string =>
  `${operatorKey(domain, name)}:${overload}`;

function opsetsOf(imports: readonly OperatorSetIdProto[]): Map<string, number> {
  return new Map(imports.map(({ domain, version }) => [domainOf(domain), int64ToNumber(version)]));
}

function rootFrame(model: ModelRecord): Frame {
  const opsets = opsetsOf(model.opsets);
  const version = opsets.get("") ?? (opsets.size === 0 ? 1 : undefined);
  if (version !== undefined && (version < OLDEST_OPSET || version > NEWEST_OPSET)) {
    fail("LPU1010", {
      message: `expected an operator set from ${OLDEST_OPSET} to ${NEWEST_OPSET}, got ${version}`,
      hint: "convert the model with onnx.version_converter, or export it with another opset_version",
    });
  }
  return { opsets, attributes: new Map(), prefix: "", depth: 0 };
}

function importGraph(
  source: ModelSource,
  model: ModelRecord,
  frame: Frame,
  inputs: readonly ValueInfoProto[],
  shapes: ReadonlyMap<string, Shape>,
  fixed: ReadonlyMap<string, Tensor | WideTensor>,
  declared: BoundShapes["declared"],
  { onValue, last = [] }: ImportOptions,
) {
  const functions = new Map(model.functions.map((body) => [functionKey(body.domain, body.name, body.overload), body]));
  const graph = appender(model.graph.name === "" ? source.name : model.graph.name);
  const [problems, cut, imported] = [new Set<CompileError>(), new Set<NodeId>(), { count: 0 }];
  const importer: Importer = { source, functions, graph, declared, onValue, problems, cut, imported };
  const scope: Scope = { values: new Map() };
  for (const input of inputs) {
    const type = inputType(input, shapes);
    const given = fixed.get(input.name);
    graph.origin = [input.name];
    define(
      scope,
      input.name,
      given === undefined ? graph.input(input.name, type, type.edge) : fixedValue(graph, given),
    );
  }
  importBody(importer, model.graph, scope, frame);
  // A name that is listed again is the same output.
  const names = model.graph.outputs.map(({ name }) => name);
  const listed = model.graph.outputs.filter(({ name }, index) => names.indexOf(name) === index);
  const outputs = listed.map(({ name, type }) => {
    const node = lookUp(importer, scope, name, `output '${name}'`);
    return node === undefined
      ? undefined
      : {
          name,
          node: last.includes(name) ? lastRow(graph, node, name) : node,
          declared: declaredType(graph.type(node), type?.tensorType?.elemType ?? 0),
        };
  });
  const made = outputs.filter((output) => output !== undefined);
  return { importer, finish: (more: readonly GraphOutput[] = []) => graph.finish([...made, ...more]) };
}

/** Of a value with rows, along the axis before the last, the last one: what `last` asks for. */
function lastRow(graph: Appender, node: NodeId, name: string): NodeId {
  const { shape } = graph.type(node);
  const rows = shape.length - 2;
  if (rows < 0 || shape[rows] === 0) return node;
  graph.origin = [name];
  const starts = shape.map((extent, axis) => (axis === rows ? extent - 1 : 0));
  const sizes = shape.map((extent, axis) => (axis === rows ? 1 : extent));
  return graph.add("slice", [node], { starts, sizes, strides: shape.map(() => 1) });
}

const fixedValue = (graph: Appender, given: Tensor | WideTensor): NodeId | Wide =>
  isWideTensor(given) ? wideOf(graph, given.shape, given.words, given.unsigned, given.problem) : graph.tensor(given);

function inputType(
  { name, type }: ValueInfoProto,
  shapes: ReadonlyMap<string, Shape>,
): TensorType & { readonly edge: EdgeDType } {
  const tensor = type?.tensorType;
  if (!tensor)
    return fail("LPU1009", {
      message: `input '${name}' is not a tensor`,
      hint: "sequences, maps and optional values are not supported",
    });
  const { dtype, edge } = elementType(tensor.elemType, `input '${name}'`);
  return { dtype, shape: sure(shapes.get(name), "shape"), edge };
}

/** The element type that the file declares, unless inference says otherwise. */
function declaredType(inferred: TensorType, declared: number): EdgeDType {
  const row = ELEMENT_TYPES[declared];
  return row !== undefined && row.dtype === inferred.dtype ? row.edge : inferred.dtype;
}

function importBody(importer: Importer, body: GraphRecord, scope: Scope, frame: Frame): void {
  for (const sparse of body.sparse) {
    const name = sparse.values?.name ?? "";
    importer.graph.origin = [name];
    scope.values.set(name, importer.graph.tensor(denseTensor(sparse, importer.source)));
  }
  for (const record of body.initializers) {
    // Of an input with the same name this is the value.
    scope.values.set(record.proto.name, importInitializer(importer, record));
  }
  importNodes(
    importer,
    body.nodes,
    body.outputs.map(({ name }) => name),
    scope,
    frame,
  );
}

/** What nobody reads may be of operators that are not supported. */
function importNodes(
  importer: Importer,
  nodes: readonly NodeProto[],
  wanted: readonly string[],
  scope: Scope,
  frame: Frame,
): void {
  const needed = neededFor(nodes, wanted);
  for (const node of inOrder(nodes)) importNode(importer, node, scope, frame, needed.has(node));
}

/** An element type that is not supported only matters if somebody uses the tensor. */
function importInitializer(importer: Importer, record: TensorRecord): Value {
  importer.graph.origin = [record.proto.name];
  try {
    return importConstant(importer, record);
  } catch (error) {
    if (error instanceof CompileError && error.code === "LPU1009") return error;
    throw error;
  }
}

function importConstant({ graph, source }: Importer, record: TensorRecord): NodeId | Wide {
  try {
    return graph.literal(literalOfRecord(record, source));
  } catch (error) {
    if (!(error instanceof CompileError) || error.code !== "LPU2003") throw error;
    const { words, unsigned } = wordsOfRecord(record, source);
    return wideOf(graph, record.proto.dims.map(int64ToNumber), words, unsigned, error);
  }
}

function importNode(importer: Importer, node: NodeProto, scope: Scope, frame: Frame, isNeeded: boolean): void {
  const origin = `${frame.prefix}${nameOfNode(node)}`;
  const label = labelOf(node, frame.prefix);
  let made: readonly (Made | undefined)[] | undefined;
  try {
    wantFew(importer);
    made = buildNode(importer, node, scope, frame, origin, label);
  } catch (error) {
    const problem = problemOf(error, label);
    if (error !== PASSED_OVER && (isNeeded || !isUnsupported(problem.code))) importer.problems.add(problem);
  }
  if (made === undefined && isNeeded) for (const id of readBy(importer, scope, node)) importer.cut.add(id);
  node.output.forEach((name, i) => {
    const value = made === undefined ? "failed" : (made[i] ?? missingResult(i, name, label));
    if (name !== "") define(scope, name, value);
    if (typeof value === "number") importer.onValue?.(name, importer.graph.type(value).shape);
  });
}

/** Says once that there are too many nodes; those beyond are passed over, so that the walk ends. */
function wantFew({ imported }: Importer): void {
  imported.count += 1;
  if (imported.count === MOST_NODES + 1)
    fail("LPU1008", { message: `functions call each other so often that there are more than ${MOST_NODES} nodes` });
  if (imported.count > MOST_NODES) passOver();
}

/** Values that a node reads, as far as they were made and are computed. */
const readBy = ({ graph }: Importer, scope: Scope, node: NodeProto): NodeId[] =>
  node.input.flatMap((name) => {
    const value = valueNamed(scope, name);
    return typeof value === "number" && graph.constant(value) === undefined ? [value] : [];
  });

/** Results of a node; undefined where an operand is missing for a reason that is noted already. */
function buildNode(
  importer: Importer,
  node: NodeProto,
  scope: Scope,
  frame: Frame,
  origin: string,
  label: string,
): readonly (Made | undefined)[] | undefined {
  const domain = domainOf(node.domain);
  const opset = frame.opsets.get(domain) ?? 1;
  const body = importer.functions.get(functionKey(domain, node.opType, node.overload));
  const rule = body === undefined ? findRule(domain, node.opType, opset) : undefined;
  if (body === undefined && rule === undefined) throw unknownOperator(node, label);
  const values = node.input.map((name) => (name === "" ? undefined : find(importer, scope, name, label)));
  if (values.some((value, i) => value === undefined && !isAbsent(scope, at(node.input, i, "input")))) return undefined;
  const attributes = resolveAttributes(node, frame);
  importer.graph.origin = [origin];
  if (body !== undefined) return callFunction(importer, body, values, attributes, origin, label, frame);
  if (rule === undefined) return [];
  const sequences = new Map(
    values.flatMap((value, i) => (value !== undefined && isSequence(value) ? [[i, value]] : [])),
  );
  const context = {
    opType: node.opType,
    label,
    opset,
    sequences,
    results: node.output,
    declared: (result: number) =>
      frame.depth === 0 ? importer.declared.get(at(node.output, result, "result")) : undefined,
    graph: importer.graph,
    branch: (graph: GraphProto) => importBranch(importer, graph, scope, frame),
    literal: (tensor: TensorProto) => importer.graph.literal(literalOfRecord({ proto: tensor }, importer.source)),
    constant: (tensor: TensorProto) => importConstant(importer, { proto: tensor }),
    dense: (tensor: SparseTensorProto) => denseTensor(tensor, importer.source),
  };
  if (sequences.size > 0 && rule.sequences !== true)
    fail("LPU1009", { message: `operand ${[...sequences.keys()][0]} is a sequence`, hint: NO_SEQUENCES });
  const operands = values.map((value) => (isWide(value) ? value.held : typeof value === "number" ? value : undefined));
  const build = (given: readonly (NodeId | undefined)[]): readonly Made[] =>
    buildByRule(rule, context, attributes, given);
  const wide = values.map((value) => (isWide(value) ? value : undefined));
  const first = wide.find((value) => value !== undefined);
  if (first === undefined) return build(operands);
  const read = { ...context, attributes, operands };
  const made = rule.wide?.({ context: read, operands, wide, build });
  return made ?? refuse(first, label);
}

/** What a rule makes of operands; an error where it does not read all that it is given. */
function buildByRule(
  rule: Rule,
  rest: Omit<RuleContext, "attributes" | "operands">,
  attributes: ReadonlyMap<string, AttributeProto>,
  operands: readonly (NodeId | undefined)[],
): readonly Made[] {
  const { unread, ...given } = witness(attributes, operands);
  const context: RuleContext = { ...rest, ...given };
  const made = rule.build(context);
  const dropped = unread(rule);
  if (dropped.length > 0)
    unsupported(
      context,
      `${dropped.join(" and ")} would change the result and ${dropped.length === 1 ? "is" : "are"} not supported`,
      "export the model without it, or write it out in other operators",
    );
  return typeof made === "number" || !("length" in made) ? [made] : made;
}

/** In the body of a function an attribute may stand for one of the call. */
function resolveAttributes(node: NodeProto, frame: Frame): ReadonlyMap<string, AttributeProto> {
  const resolved = new Map<string, AttributeProto>();
  for (const attribute of node.attribute) {
    const given = attribute.refAttrName === "" ? attribute : frame.attributes.get(attribute.refAttrName);
    if (given !== undefined) resolved.set(attribute.name, given);
  }
  return resolved;
}

function callFunction(
  importer: Importer,
  body: FunctionProto,
  operands: readonly (Made | undefined)[],
  given: ReadonlyMap<string, AttributeProto>,
  origin: string,
  label: string,
  caller: Frame,
): readonly (Made | undefined)[] {
  if (caller.depth >= DEEPEST)
    fail("LPU1008", { message: `functions call each other more than ${DEEPEST} deep`, node: label });
  const attributes = new Map([...body.attributeProto.map((row) => [row.name, row] as const), ...given]);
  const opsets = body.opsetImport.length > 0 ? opsetsOf(body.opsetImport) : caller.opsets;
  const frame: Frame = { opsets, attributes, prefix: `${origin}/`, depth: caller.depth + 1 };
  const scope: Scope = { values: new Map() };
  body.input.forEach((name, i) => {
    const value = operands[i];
    // An optional operand that is not given is an empty name in the body's nodes, which is what an undefined one becomes.
    scope.values.set(name, value ?? "absent");
  });
  importNodes(importer, body.node, body.output, scope, frame);
  return body.output.map((name) => find(importer, scope, name, label) ?? passOver());
}

function outputsOf(importer: Importer, scope: Scope, names: readonly string[], user: string): readonly NodeId[] {
  return names.map((name) => {
    const id = lookUp(importer, scope, name, user);
    return id ?? passOver();
  });
}

function importBranch(importer: Importer, graph: GraphProto, parent: Scope, frame: Frame): readonly NodeId[] {
  const { origin } = importer.graph;
  const scope: Scope = { values: new Map(), parent };
  importBody(importer, recordOf(graph), scope, frame);
  importer.graph.origin = origin;
  return outputsOf(
    importer,
    scope,
    graph.output.map((output) => output.name),
    `subgraph '${graph.name}'`,
  );
}

/** Operators that have no rule, in the whole model, from names alone. */
function unknownOperators(model: ModelRecord): CompileError[] {
  const functions = new Set(model.functions.map((body) => functionKey(body.domain, body.name, body.overload)));
  const { opsets } = rootFrame(model);
  const found: CompileError[] = [];
  const visit = (nodes: readonly NodeProto[]): void => {
    for (const node of nodes) {
      const domain = domainOf(node.domain);
      const known =
        functions.has(functionKey(domain, node.opType, node.overload)) ||
        findRule(domain, node.opType, opsets.get(domain) ?? 1) !== undefined;
      if (!known) found.push(unknownOperator(node, labelOf(node)));
      for (const attribute of node.attribute) if (attribute.g) visit(attribute.g.node);
    }
  };
  visit(model.graph.nodes);
  for (const body of model.functions) visit(body.node);
  return found;
}

/**
 * Writes a plan into the graph: QuantizeLinear and DequantizeLinear around the float operators, weights and biases as
 * integer constants behind a DequantizeLinear. Names follow ONNX Runtime's quantizer, which other tools look for.
 */
import { Q8Error } from '../errors';
import { type Graph, type Node, Value } from '../graph/graph';
import type { TensorReport } from '../report/quantize-report';
import { type CodeDType, codeRange, type DType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { activationScale, type FormatOptions, Formats } from './formats';
import { type ConstantOptions, ConstantInserter } from './insert-constants';
import type { QuantPlan } from './plan';
import type { Representation } from './representation';
import type { Range, ScaleAndZeroPoint } from './scale';

export type InsertOptions = FormatOptions & ConstantOptions & Pick<Representation, 'pairPerConsumer'>;

/**
 * Changes `graph` according to `plan`, which was made for it. `observed` holds the calibrated range of each of
 * `plan.observed`. Inputs and outputs of the graph keep their names and float types. Returns what became of each tensor.
 */
export function insertQdq(
  graph: Graph,
  plan: QuantPlan,
  observed: ReadonlyMap<Value, Range>,
  options: InsertOptions,
): TensorReport[] {
  return new Inserter(graph, plan, observed, options).insert();
}

/** Scale and zero point as they stand in the model. */
interface Params extends ScaleAndZeroPoint {
  /** Name of the tensor that the scale was made for. */
  name: string;
  dtype: CodeDType;
  scaleValue: Value;
  zeroPointValue: Value;
}

/** An activation that becomes codes, and who reads it. */
interface Activation {
  value: Value;
  name: string;
  head: Value;
  isOutput: boolean;
  readers: Node[];
}

class Inserter {
  readonly #graph: Graph;
  readonly #plan: QuantPlan;
  readonly #observed: ReadonlyMap<Value, Range>;
  readonly #options: InsertOptions;
  readonly #formats: Formats;
  readonly #domain: string;
  /** By head of a group, and by activation whose codes are converted. */
  readonly #params = new Map<Value, Params>();
  readonly #converted = new Map<Value, Params>();
  readonly #constants: ConstantInserter;
  readonly #report: TensorReport[] = [];

  constructor(graph: Graph, plan: QuantPlan, observed: ReadonlyMap<Value, Range>, options: InsertOptions) {
    this.#graph = graph;
    this.#plan = plan;
    this.#observed = observed;
    this.#options = options;
    this.#formats = new Formats(options);
    this.#domain = options.pairDomain === 'ai.onnx' ? '' : options.pairDomain;
    const scales = {
      ofInput: (node: Node) => this.#scaleFor(node.requiredInput(0), node),
      of: (value: Value) => this.#paramsOf(plan.activations.get(value)!),
    };
    this.#constants = new ConstantInserter(graph, this.#formats, options, scales, this.#report);
  }

  insert(): TensorReport[] {
    const activations = this.#activations();
    // Constants first: they need the original inputs.
    for (const [node, plan] of this.#plan.nodes) this.#constants.insert(node, plan);
    for (const activation of activations) this.#insertPairs(activation);
    this.#constants.redirectFloatReaders(this.#plan.refused);
    return this.#report;
  }

  /**
   * Once its producer is an integer operator the float value is gone, so every reader takes the dequantized one. A value
   * that a float node makes stays available, and float readers keep it.
   */
  #activations(): Activation[] {
    const produced = new Set<Value>();
    const readers = new Map<Value, Set<Node>>();
    for (const [node, { inputs, outputs }] of this.#plan.nodes) {
      for (const value of outputs) produced.add(value);
      for (const [index, { kind }] of inputs) {
        if (kind !== 'activation') continue;
        const value = node.requiredInput(index);
        const nodes = readers.get(value) ?? new Set();
        readers.set(value, nodes.add(node));
      }
    }
    return [...this.#plan.activations].map(([value, head]) => ({
      value,
      name: value.name,
      head,
      isOutput: produced.has(value) && this.#graph.isOutput(value),
      readers: produced.has(value) ? value.consumers : [...(readers.get(value) ?? [])],
    }));
  }

  #insertPairs(activation: Activation): void {
    const { value, name, head, isOutput, readers } = activation;
    const graph = this.#graph;
    const params = this.#paramsOf(head);
    if (isOutput) value.name = graph.uniqueName(`${name}_QuantizeLinear_Input`);
    this.#push(name, params, this.#rangeOf(head));
    const conversion = this.#formats.converted(name);
    if (conversion) {
      this.#insertConversion(activation, params, conversion.receivers);
      return;
    }
    const ends = isOutput ? [null, ...readers] : readers;
    if (this.#options.pairPerConsumer && ends.length > 1) {
      for (const [i, reader] of ends.entries()) {
        const suffix = reader === null ? '' : `_${isOutput ? i : i + 1}`;
        this.#attach(value, this.#pair(value, name, suffix, params, reader === null), reader ? [reader] : [], !reader);
      }
      return;
    }
    this.#attach(value, this.#pair(value, name, '', params, isOutput), readers, isOutput);
  }

  /** Q - DQ for readers of the first type; Q - DQ - Q - DQ for those of the second, which the output has when all do. */
  #insertConversion(
    { value, name, isOutput, readers }: Activation,
    first: Params,
    receivers: ReadonlySet<string> | undefined,
  ): void {
    const converts = (node: Node) => receivers === undefined || receivers.has(node.name);
    const [others, converted] = [readers.filter((node) => !converts(node)), readers.filter(converts)];
    const isOutputConverted = isOutput && others.length === 0;
    const second = this.#convertedParams(value, name);
    this.#push(name, second, undefined, converted);
    const codes = this.#quantize(value, name, '', first);
    const real = this.#dequantize(codes, value, name, '', first, isOutput && !isOutputConverted);
    this.#attach(value, real, others, isOutput && !isOutputConverted);
    // A DQ of its own, so that runtimes can fuse it with the Q behind it.
    const between = others.length === 0 ? real : this.#dequantize(codes, value, name, '_convert_clone', first, false);
    const pair = this.#pair(between, name, '_convert', second, isOutputConverted);
    this.#attach(value, pair, converted, isOutputConverted);
  }

  /** Q and DQ behind `value`; returns the dequantized value. */
  #pair(value: Value, name: string, suffix: string, params: Params, isOutput: boolean): Value {
    return this.#dequantize(this.#quantize(value, name, suffix, params), value, name, suffix, params, isOutput);
  }

  #quantize(value: Value, name: string, suffix: string, params: Params): Value {
    const graph = this.#graph;
    const { dtype } = params;
    const codes = graph.newValue(`${name}_QuantizeLinear_Output${suffix}`, { dtype, shape: value.type?.shape });
    this.#addNode(`${name}_QuantizeLinear${suffix}`, 'QuantizeLinear', value, params, codes);
    return codes;
  }

  #dequantize(codes: Value, { type }: Value, name: string, suffix: string, params: Params, isOutput: boolean): Value {
    const graph = this.#graph;
    const real = { dtype: 'float32', shape: type?.shape } as const;
    const output = isOutput ? new Value(name, real) : graph.newValue(`${name}_DequantizeLinear_Output${suffix}`, real);
    this.#addNode(`${name}_DequantizeLinear${suffix}`, 'DequantizeLinear', codes, params, output);
    return output;
  }

  #addNode(name: string, op: string, input: Value, { scaleValue, zeroPointValue }: Params, output: Value): void {
    const graph = this.#graph;
    const inputs = [input, scaleValue, zeroPointValue];
    graph.addNode({ name: graph.uniqueName(name), op, domain: this.#domain, inputs, outputs: [output] });
  }

  /** Readers take the dequantized value instead of the float one. */
  #attach(value: Value, real: Value, readers: readonly Node[], isOutput: boolean): void {
    for (const node of readers) {
      for (let i = 0; i < node.inputs.length; i++) if (node.input(i) === value) node.setInput(i, real);
    }
    if (!isOutput) return;
    this.#graph.outputs.forEach((output, i) => {
      if (output === value) this.#graph.outputs[i] = real;
    });
  }

  /** The range that the codes of a group have to cover. */
  #rangeOf(head: Value): Range | undefined {
    const ranges = (this.#plan.unions.get(head) ?? [head]).flatMap(
      (value) => this.#plan.knownRanges.get(value) ?? this.#observed.get(value) ?? [],
    );
    if (ranges.length === 0) return undefined;
    return { min: Math.min(...ranges.map(({ min }) => min)), max: Math.max(...ranges.map(({ max }) => max)) };
  }

  #paramsOf(head: Value): Params {
    let params = this.#params.get(head);
    if (!params && head.constant) {
      const { dtype, scale, zeroPoint, scales, zeroPoints } = this.#constants.operandParams(head);
      const values = { scaleValue: scale, zeroPointValue: zeroPoint };
      params = { name: head.name, dtype, scale: scales[0], zeroPoint: zeroPoints[0], ...values };
      this.#params.set(head, params);
    }
    if (!params) {
      const { name } = head;
      const format = this.#formats.activation(name);
      const known = this.#formats.takesKnownScale(name) ? this.#plan.knownScales.get(head) : undefined;
      const scale =
        known !== undefined
          ? { scale: known, zeroPoint: codeRange(format.dtype)[0] }
          : activationScale(format, this.#rangeOf(head));
      if (!scale) throw new Q8Error('ERR_Q8_INTERNAL', `No range was observed for tensor "${name}".`);
      params = this.#makeParams(name, '', format.dtype, scale);
      this.#params.set(head, params);
    }
    return params;
  }

  #convertedParams(value: Value, name: string): Params {
    let params = this.#converted.get(value);
    if (!params) {
      const { format } = this.#formats.converted(name)!;
      const scale = activationScale(format, this.#rangeOf(this.#plan.activations.get(value)!));
      if (!scale) throw new Q8Error('ERR_Q8_INTERNAL', `No range was observed for tensor "${name}".`);
      params = this.#makeParams(name, '_convert', format.dtype, scale);
      this.#converted.set(value, params);
    }
    return params;
  }

  #makeParams(name: string, suffix: string, dtype: CodeDType, { scale, zeroPoint }: ScaleAndZeroPoint): Params {
    const graph = this.#graph;
    return {
      name,
      dtype,
      scale,
      zeroPoint,
      scaleValue: graph.newConstant(`${name}_scale${suffix}`, new Tensor('float32', [scale], [])),
      zeroPointValue: graph.newConstant(`${name}_zero_point${suffix}`, new Tensor<DType>(dtype, [zeroPoint], [])),
    };
  }

  /** The scale of an activation as `node` reads it. */
  #scaleFor(value: Value, node: Node): number {
    const conversion = this.#formats.converted(value.name);
    const isConverted = conversion && (conversion.receivers?.has(node.name) ?? true);
    if (isConverted) return this.#convertedParams(value, value.name).scale;
    return this.#paramsOf(this.#plan.activations.get(value)!).scale;
  }

  #push(
    name: string,
    { name: head, dtype, scale, zeroPoint }: Params,
    range: Range | undefined,
    receivers?: Node[],
  ): void {
    this.#report.push({
      name,
      kind: 'activation',
      type: dtype,
      scale: [scale],
      zeroPoint: [zeroPoint],
      ...(range ? { range: [range.min, range.max] } : {}),
      ...(head === name ? {} : { sharesScaleWith: head }),
      ...(receivers ? { receivers: receivers.map((node) => node.name) } : {}),
    });
  }
}

/**
 * Writes a plan into the graph: QuantizeLinear and DequantizeLinear around the float operators, weights and biases as
 * integer constants behind a DequantizeLinear. Names follow ONNX Runtime's quantizer, which other tools look for.
 */
import { Q8Error } from '../errors';
import { type Graph, type Node, Value } from '../graph/graph';
import { quantizeTensor } from '../ops/families/quantization';
import { quantizeBias } from '../passes/qdq-pairs';
import type { TensorReport } from '../report/quantize-report';
import type { QuantizedDType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import type { NodePlan, QuantPlan } from './plan';
import {
  type Codes,
  guardBiasRange,
  quantizeWeight,
  type Range,
  rangeOf,
  type ScaleAndZeroPoint,
  type ScaleOptions,
  scaleOfRange,
  weightScales,
} from './scale';

export interface InsertOptions {
  activationType: QuantizedDType;
  weightType: QuantizedDType;
  activationSymmetric: boolean;
  weightSymmetric: boolean;
  reduceRange: boolean;
  minRealRange?: number;
}

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

/** Scale and zero point as they stand in the model, made once per group of activations. */
interface Params extends ScaleAndZeroPoint {
  scaleValue: Value;
  zeroPointValue: Value;
  range?: Range;
}

class Inserter {
  readonly #graph: Graph;
  readonly #plan: QuantPlan;
  readonly #observed: ReadonlyMap<Value, Range>;
  readonly #options: InsertOptions;
  readonly #activationScale: ScaleOptions;
  readonly #weightScale: ScaleOptions;
  readonly #params = new Map<Value, Params>();
  /** Dequantized twins of constants, by constant and role, so that tied weights stay one tensor. */
  readonly #constants = new Map<Value, Map<string, Value>>();
  readonly #report: TensorReport[] = [];

  constructor(graph: Graph, plan: QuantPlan, observed: ReadonlyMap<Value, Range>, options: InsertOptions) {
    this.#graph = graph;
    this.#plan = plan;
    this.#observed = observed;
    this.#options = options;
    const { minRealRange, reduceRange } = options;
    this.#activationScale = { dtype: options.activationType, symmetric: options.activationSymmetric, minRealRange };
    this.#weightScale = { dtype: options.weightType, symmetric: options.weightSymmetric, reduceRange, minRealRange };
  }

  insert(): TensorReport[] {
    const dequantized = new Map<Value, Value>();
    const names = new Map<Value, string>();
    for (const value of this.#plan.activations.keys()) names.set(value, value.name);
    // Constants first: they need the original inputs.
    for (const [node, plan] of this.#plan.nodes) this.#insertConstants(node, plan);
    const produced = new Set<Value>();
    for (const { outputs } of this.#plan.nodes.values()) for (const value of outputs) produced.add(value);
    for (const [value, head] of this.#plan.activations) {
      dequantized.set(value, this.#insertPair(value, head, produced.has(value), names.get(value)!));
    }
    for (const [node, { inputs }] of this.#plan.nodes) {
      for (const [index, { kind }] of inputs) {
        const twin = kind === 'activation' ? dequantized.get(node.requiredInput(index)) : undefined;
        if (twin) node.setInput(index, twin);
      }
    }
    return this.#report;
  }

  /** Q and DQ behind `value`; returns the dequantized value. */
  #insertPair(value: Value, head: Value, produced: boolean, name: string): Value {
    const graph = this.#graph;
    const params = this.#paramsOf(head);
    const { activationType } = this.#options;
    const shape = value.type?.shape;
    const consumers = produced ? value.consumers : [];
    const isOutput = produced && graph.isOutput(value);
    if (isOutput) value.name = graph.uniqueName(`${name}_QuantizeLinear_Input`);
    const codes = graph.newValue(`${name}_QuantizeLinear_Output`, { dtype: activationType, shape });
    const real = isOutput
      ? new Value(name, { dtype: 'float32', shape })
      : graph.newValue(`${name}_DequantizeLinear_Output`, { dtype: 'float32', shape });
    graph.addNode({
      name: graph.uniqueName(`${name}_QuantizeLinear`),
      op: 'QuantizeLinear',
      inputs: [value, params.scaleValue, params.zeroPointValue],
      outputs: [codes],
    });
    graph.addNode({
      name: graph.uniqueName(`${name}_DequantizeLinear`),
      op: 'DequantizeLinear',
      inputs: [codes, params.scaleValue, params.zeroPointValue],
      outputs: [real],
    });
    // Once its producer is an integer operator the float value is gone, so every reader takes the dequantized one. A value
    // that a float node makes stays available, and float readers keep it.
    for (const node of consumers) {
      for (let i = 0; i < node.inputs.length; i++) if (node.input(i) === value) node.setInput(i, real);
    }
    if (isOutput)
      graph.outputs.forEach((output, i) => {
        if (output === value) graph.outputs[i] = real;
      });
    this.#report.push({
      name,
      kind: 'activation',
      type: activationType,
      scale: [params.scale],
      zeroPoint: [params.zeroPoint],
      ...(params.range ? { range: [params.range.min, params.range.max] } : {}),
    });
    return real;
  }

  #paramsOf(head: Value): Params {
    let params = this.#params.get(head);
    if (!params) {
      const range = this.#plan.knownRanges.get(head) ?? this.#observed.get(head);
      const fixed = this.#plan.knownScales.get(head);
      if (!fixed && !range) throw new Q8Error('ERR_Q8_INTERNAL', `No range was observed for tensor "${head.name}".`);
      const { scale, zeroPoint } = fixed ?? scaleOfRange(range!, this.#activationScale);
      params = { scale, zeroPoint, range, ...this.#paramValues(head.name, scale, zeroPoint) };
      this.#params.set(head, params);
    }
    return params;
  }

  #paramValues(name: string, scale: number, zeroPoint: number) {
    const { activationType } = this.#options;
    return {
      scaleValue: this.#graph.newConstant(`${name}_scale`, new Tensor('float32', [scale], [])),
      zeroPointValue: this.#graph.newConstant(`${name}_zero_point`, new Tensor(activationType, [zeroPoint], [])),
    };
  }

  #insertConstants(node: Node, { inputs }: NodePlan): void {
    for (const [index, role] of inputs) {
      if (role.kind === 'constant') node.setInput(index, this.#constantOperand(node.requiredInput(index)));
    }
    for (const [index, role] of inputs) {
      if (role.kind !== 'weight') continue;
      const bias = [...inputs].find(([, { kind }]) => kind === 'bias')?.[0];
      this.#insertWeight(node, index, role.axis, bias);
    }
  }

  /** A constant operand of an elementwise node, with scale and type of an activation. */
  #constantOperand(value: Value): Value {
    return this.#once(value, 'operand', () => {
      const tensor = value.constant! as Tensor<'float32'>;
      const range = rangeOf(tensor.data);
      const params = scaleOfRange(range, this.#activationScale);
      const { activationType } = this.#options;
      const codes = quantizeTensor(tensor.data, tensor.dims, { ...params, dtype: activationType });
      const { scaleValue, zeroPointValue } = this.#paramValues(value.name, params.scale, params.zeroPoint);
      this.#report.push({
        name: value.name,
        kind: 'weight',
        type: activationType,
        scale: [params.scale],
        zeroPoint: [params.zeroPoint],
        range: [range.min, range.max],
      });
      return this.#dequantize(value.name, codes, scaleValue, zeroPointValue);
    });
  }

  #insertWeight(node: Node, index: number, axis: number | undefined, biasIndex: number | undefined): void {
    const value = node.requiredInput(index);
    const tensor = value.constant! as Tensor<'float32'>;
    const { dims } = tensor;
    // y = alpha A B + beta C: with both factors inside the constants, integer and float form agree, and every runtime's
    // fusion of the pattern is right.
    const alpha = takeFactor(node, 'alpha');
    const data = alpha === 1 ? tensor.data : tensor.data.map((w) => w * alpha);
    const granularity = axis === undefined ? undefined : { axis };
    const { scale, zeroPoint } = weightScales(data, dims, granularity, this.#weightScale);
    const bias = biasIndex === undefined ? undefined : node.requiredInput(biasIndex);
    if (!bias) {
      node.setInput(index, this.#weight(value, data, axis, scale, zeroPoint, alpha === 1));
      return;
    }
    const beta = takeFactor(node, 'beta');
    const biasTensor = bias.constant! as Tensor<'float32'>;
    const channels = axis === undefined ? biasTensor.size : dims[axis];
    const biasData = Float32Array.from(
      { length: channels },
      (_, c) => biasTensor.data[biasTensor.size === 1 ? 0 : c] * beta,
    );
    const inputScale = this.#paramsOf(this.#plan.activations.get(node.requiredInput(0))!).scale;
    const guarded = guardBiasRange(scale, inputScale, biasData);
    const shareable = alpha === 1 && guarded === scale;
    node.setInput(index, this.#weight(value, data, axis, guarded, zeroPoint, shareable));
    node.setInput(biasIndex!, this.#bias(bias, biasData, inputScale, guarded, axis !== undefined));
  }

  #weight(
    value: Value,
    data: Float32Array,
    axis: number | undefined,
    scale: Float32Array,
    zeroPoint: Codes,
    shareable: boolean,
  ): Value {
    const { dims } = value.constant!;
    const make = () => {
      const { weightType } = this.#options;
      const granularity = axis === undefined ? undefined : { axis };
      const codes = quantizeWeight(data, dims, granularity, { scale, zeroPoint, dtype: weightType });
      const shape = axis === undefined ? [] : [scale.length];
      const range = rangeOf(data);
      this.#report.push({
        name: value.name,
        kind: 'weight',
        type: weightType,
        scale: [...scale],
        zeroPoint: [...zeroPoint],
        ...(axis === undefined ? {} : { axis }),
        range: [range.min, range.max],
      });
      return this.#dequantize(
        value.name,
        new Tensor(weightType, codes as Uint8Array, dims),
        this.#graph.newConstant(`${value.name}_scale`, new Tensor('float32', scale, shape)),
        this.#graph.newConstant(`${value.name}_zero_point`, new Tensor(weightType, zeroPoint as Uint8Array, shape)),
        axis,
      );
    };
    return shareable ? this.#once(value, `weight ${axis}`, make) : make();
  }

  /** Never shared: every node has its own scale. */
  #bias(value: Value, data: Float32Array, inputScale: number, weightScale: Float32Array, perChannel: boolean): Value {
    const { codes, scale } = quantizeBias(data, inputScale, weightScale);
    const shape = perChannel ? [scale.length] : [];
    this.#report.push({ name: value.name, kind: 'bias', type: 'int32', scale: [...scale], zeroPoint: [0] });
    return this.#dequantize(
      value.name,
      new Tensor('int32', codes, [data.length]),
      this.#graph.newConstant(`${value.name}_quantized_scale`, new Tensor('float32', scale, shape)),
      this.#graph.newConstant(
        `${value.name}_quantized_zero_point`,
        new Tensor('int32', new Int32Array(scale.length), shape),
      ),
      perChannel ? 0 : undefined,
    );
  }

  #dequantize(name: string, codes: Tensor, scale: Value, zeroPoint: Value, axis?: number): Value {
    const graph = this.#graph;
    const output = graph.newValue(`${name}_DequantizeLinear_Output`, { dtype: 'float32', shape: codes.dims });
    graph.addNode({
      name: graph.uniqueName(`${name}_DequantizeLinear`),
      op: 'DequantizeLinear',
      inputs: [graph.newConstant(`${name}_quantized`, codes), scale, zeroPoint],
      outputs: [output],
      attributes: axis === undefined ? {} : { axis: { kind: 'int', value: axis } },
    });
    return output;
  }

  #once(value: Value, role: string, make: () => Value): Value {
    const twins = this.#constants.get(value) ?? new Map<string, Value>();
    this.#constants.set(value, twins);
    const twin = twins.get(role) ?? make();
    twins.set(role, twin);
    return twin;
  }
}

/** The value of a Gemm's factor; the attribute is removed, which leaves its default of 1. */
function takeFactor(node: Node, name: 'alpha' | 'beta'): number {
  if (node.op !== 'Gemm') return 1;
  const factor = node.attributes.float(name, 1);
  node.attributes.delete(name);
  return factor;
}

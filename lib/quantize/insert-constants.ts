/** Weights, biases and constant operands of quantized nodes: codes behind a DequantizeLinear, or floats behind a pair. */
import { type AttributeInit, Attributes } from '../graph/attributes';
import type { Graph, Node, Value } from '../graph/graph';
import { quantizeBias } from '../passes/qdq-pairs';
import type { TensorReport } from '../report/quantize-report';
import type { CodeDType, DType } from '../tensor/dtype';
import { sizeOf } from '../tensor/shape';
import { Tensor } from '../tensor/tensor';
import { onnxruntimeGuards } from './compat';
import type { Formats, WeightFormat } from './formats';
import type { InputRole, NodePlan } from './plan';
import type { Representation } from './representation';
import {
  type Codes,
  guardBiasRange,
  quantizeWeight,
  rangeOf,
  type ScaleAndZeroPoint,
  scaleDims,
  weightScales,
} from './scale';

export type ConstantOptions = Pick<
  Representation,
  'format' | 'weightType' | 'guardBias' | 'quantizeBias' | 'weightPairs' | 'pairDomain' | 'compat'
>;

/** As they stand in the model. */
interface ConstantParams {
  scale: Value;
  zeroPoint: Value;
  /** Name of the activation that has them, too. */
  sharedWith?: string;
}

/** A constant as codes. */
interface Coded extends WeightFormat {
  scale: Float32Array;
  zeroPoint: Codes;
}

interface ScaleAndZeroPoints {
  dtype: CodeDType;
  scales: Float32Array;
  zeroPoints: Codes;
}

/** Scales of activations, which biases and some operands follow. */
export interface ActivationScales {
  /** Of what a node reads as its input 0. */
  ofInput(node: Node): number;
  /** Scale and zero point of an activation, as they stand in the model. */
  of(value: Value): ScaleAndZeroPoint & { name: string; dtype: CodeDType; scaleValue: Value; zeroPointValue: Value };
}

export class ConstantInserter {
  readonly #graph: Graph;
  readonly #formats: Formats;
  readonly #options: ConstantOptions;
  readonly #domain: string;
  readonly #scales: ActivationScales;
  readonly #report: TensorReport[];
  /** Scale and zero point of constants that are operands, by constant. */
  readonly #operands = new Map<Value, { coded: Coded; params: ConstantParams }>();
  /** Dequantized twins of constants, by constant and use, so that tied weights stay one tensor. */
  readonly #twins = new Map<Value, Map<string, Value>>();

  constructor(
    graph: Graph,
    formats: Formats,
    options: ConstantOptions,
    scales: ActivationScales,
    report: TensorReport[],
  ) {
    this.#graph = graph;
    this.#formats = formats;
    this.#options = options;
    this.#domain = options.pairDomain === 'ai.onnx' ? '' : options.pairDomain;
    this.#scales = scales;
    this.#report = report;
  }

  /** Points the constant inputs of a node at their dequantized twins. */
  insert(node: Node, { inputs }: NodePlan): void {
    for (const [index, role] of inputs) {
      if (role.kind === 'constant') node.setInput(index, this.#operand(node.requiredInput(index), role.like));
      if (role.kind === 'table') this.#insertTable(node, index, role.axis);
    }
    for (const [index, role] of inputs) {
      if (role.kind !== 'weight') continue;
      const bias = [...inputs].find(([, { kind }]) => kind === 'bias')?.[0];
      this.#insertWeight(node, index, role, bias);
    }
  }

  /** Scale and zero point of a constant that is an operand with one scale, which others may share. */
  operandParams(value: Value): ConstantParams & ScaleAndZeroPoints {
    const { coded, params } = this.#operandOf(value);
    return { ...params, dtype: coded.dtype, scales: coded.scale, zeroPoints: coded.zeroPoint };
  }

  #operandOf(value: Value): { coded: Coded; params: ConstantParams } {
    let operand = this.#operands.get(value);
    if (!operand) {
      const { data, dims } = value.constant! as Tensor<'float32'>;
      const coded = this.#code(data, dims, this.#formats.operand(value.name, dims.length));
      operand = { coded, params: this.#params(value, coded) };
      this.#operands.set(value, operand);
    }
    return operand;
  }

  /** A weight is stored once: float nodes read its codes dequantized, unless they were asked to stay as they are. */
  redirectFloatReaders(refused: ReadonlySet<Node>): void {
    for (const [value, twins] of this.#twins) {
      const [twin] = twins.values();
      for (const node of value.consumers) {
        if (refused.has(node) || node.op === 'QuantizeLinear' || !this.#graph.nodes.has(node)) continue;
        for (let i = 0; i < node.inputs.length; i++) if (node.input(i) === value) node.setInput(i, twin);
      }
    }
  }

  /** A constant operand of an elementwise node, with the type of an activation, and with the scale of one if given. */
  #operand(value: Value, like: Value | undefined): Value {
    const { data } = value.constant! as Tensor<'float32'>;
    if (!like) {
      return this.#once(value, 'operand', () => {
        const { coded, params } = this.#operandOf(value);
        return this.#dequantized(value, data, coded, params);
      });
    }
    const { name, dtype, scale, zeroPoint, scaleValue, zeroPointValue } = this.#scales.of(like);
    return this.#once(value, `operand like ${name}`, () => {
      const coded: Coded = {
        dtype,
        granularity: undefined,
        scale: Float32Array.of(scale),
        zeroPoint: new Tensor<DType>(dtype, [zeroPoint]).data as Codes,
      };
      return this.#dequantized(value, data, coded, { scale: scaleValue, zeroPoint: zeroPointValue, sharedWith: name });
    });
  }

  /** Makes the node take elements from codes. Scales per column stay with the last axis of what it takes. */
  #insertTable(node: Node, index: number, axis: number | undefined): void {
    const value = node.requiredInput(index);
    const { data, dims } = value.constant! as Tensor<'float32'>;
    const format = this.#formats.weight(value.name, dims.length, node.op, { axis });
    const { granularity, dtype } = format;
    const make = () => this.#dequantized(value, data, this.#code(data, dims, format));
    const twin = this.#once(value, `weight ${granularity?.axis} ${granularity?.block}`, make);
    const moves = !granularity || (granularity.axis === 1 && dims.length === 2 && !granularity.block);
    if (!moves || (dtype !== 'uint8' && dtype !== 'int8') || this.#options.weightPairs) {
      node.setInput(index, twin);
      return;
    }
    const [codes, scale, zeroPoint] = twin.producer!.inputs as Value[];
    const { name, op, output, attributes } = node;
    const graph = this.#graph;
    const taken = graph.newValue(`${output.name}_codes`, { dtype, shape: output.type?.shape });
    const inputs = node.inputs.map((input, i) => (i === index ? codes : input));
    graph.removeNode(node);
    graph.addNode({ name, op, inputs, outputs: [taken], attributes: new Attributes(name, attributes.entries()) });
    this.#addNode('DequantizeLinear', output.name, {
      inputs: [taken, scale, zeroPoint],
      output,
      attributes: granularity ? { axis: { kind: 'int', value: -1 } } : {},
    });
  }

  #insertWeight(
    node: Node,
    index: number,
    role: Extract<InputRole, { kind: 'weight' }>,
    biasIndex: number | undefined,
  ): void {
    const value = node.requiredInput(index);
    const tensor = value.constant! as Tensor<'float32'>;
    const { dims } = tensor;
    // y = alpha A B + beta C: with both factors inside the constants, integer and float form agree, and every runtime's
    // fusion of the pattern is right.
    const alpha = this.#takeFactor(node, 'alpha');
    const data = alpha === 1 ? tensor.data : tensor.data.map((w) => w * alpha);
    const format = this.#formats.weight(value.name, dims.length, node.op, role);
    const coded = this.#code(data, dims, format);
    const guarded = biasIndex === undefined ? coded : this.#insertBias(node, biasIndex, coded, role.outputAxis, dims);
    const { granularity } = format;
    const make = () => this.#dequantized(value, data, guarded);
    const isShareable = alpha === 1 && guarded.scale === coded.scale;
    const twin = isShareable ? this.#once(value, `weight ${granularity?.axis} ${granularity?.block}`, make) : make();
    node.setInput(index, twin);
  }

  /** Quantizes the bias of a node; returns the weight, whose scales may have to grow for it. */
  #insertBias(
    node: Node,
    index: number,
    weight: Coded,
    outputAxis: number | undefined,
    dims: readonly number[],
  ): Coded {
    const value = node.requiredInput(index);
    const tensor = value.constant! as Tensor<'float32'>;
    const beta = this.#takeFactor(node, 'beta');
    if (this.#formats.hasOverride(value.name)) {
      const data = beta === 1 ? tensor.data : tensor.data.map((b) => b * beta);
      const format = this.#formats.weight(value.name, tensor.dims.length, node.op, {});
      node.setInput(index, this.#dequantized(value, data, this.#code(data, tensor.dims, format)));
      return weight;
    }
    const { quantizeBias } = this.#options;
    const { granularity } = weight;
    // An int32 bias has one scale for each output channel at most.
    const hasForm = !granularity || (!granularity.block && granularity.axis === outputAxis);
    if (!hasForm || (!quantizeBias && !this.#options.compat)) {
      if (beta !== 1) node.attributes.set('beta', { kind: 'float', value: beta });
      return weight;
    }
    const isScalar = tensor.size === 1;
    const biasDims = isScalar && granularity ? [dims[granularity.axis]] : tensor.dims;
    const data = Float32Array.from({ length: sizeOf(biasDims) }, (_, c) => tensor.data[isScalar ? 0 : c] * beta);
    const bias = new Tensor('float32', data, biasDims);
    const inputScale = this.#scales.ofInput(node);
    const scale = this.#guards(weight) ? guardBiasRange(weight.scale, inputScale, data) : weight.scale;
    if (quantizeBias) node.setInput(index, this.#bias(value, bias, inputScale, scale, granularity !== undefined));
    return { ...weight, scale };
  }

  /** Never shared: every node has its own scale. */
  #bias(
    value: Value,
    { data, dims }: Tensor<'float32'>,
    inputScale: number,
    weightScale: Float32Array,
    perChannel: boolean,
  ): Value {
    // Groups of a transposed convolution share the scales of their channels.
    const scales = perChannel ? Float32Array.from(data, (_, c) => weightScale[c % weightScale.length]) : weightScale;
    const { codes, scale } = quantizeBias(data, inputScale, scales);
    const shape = perChannel ? [scale.length] : [];
    const zeros = new Tensor('int32', new Int32Array(scale.length), shape);
    this.#report.push({ name: value.name, kind: 'bias', type: 'int32', scale: [...scale], zeroPoint: [0] });
    const output = this.#output(value.name, dims);
    this.#addNode('DequantizeLinear', value.name, {
      inputs: [
        this.#graph.newConstant(`${value.name}_quantized`, new Tensor('int32', codes, dims)),
        this.#graph.newConstant(`${value.name}_quantized_scale`, new Tensor('float32', scale, shape)),
        this.#graph.newConstant(`${value.name}_quantized_zero_point`, zeros),
      ],
      output,
      attributes: perChannel ? { axis: { kind: 'int', value: 0 } } : {},
    });
    return output;
  }

  #code(data: Float32Array, dims: readonly number[], format: WeightFormat): Coded {
    const { granularity, fixed } = format;
    if (!fixed) {
      const zeroChannelsApart = this.#options.compat !== undefined;
      return { ...format, ...weightScales(data, dims, granularity, { ...format, zeroChannelsApart }) };
    }
    const count = scaleDims(dims, granularity).reduce((a, b) => a * b, 1);
    const at = (i: number) => fixed[fixed.length === 1 ? 0 : i];
    const zeroPoint = new Tensor(
      format.dtype,
      Array.from({ length: count }, (_, i) => at(i).zeroPoint),
    );
    return {
      ...format,
      scale: Float32Array.from({ length: count }, (_, i) => at(i).scale),
      zeroPoint: zeroPoint.data as Codes,
    };
  }

  #params({ name, constant }: Value, { dtype, granularity, scale, zeroPoint }: Coded): ConstantParams {
    const shape = scaleDims(constant!.dims, granularity);
    return {
      scale: this.#graph.newConstant(`${name}_scale`, new Tensor('float32', scale, shape)),
      zeroPoint: this.#graph.newConstant(`${name}_zero_point`, new Tensor<DType>(dtype, zeroPoint, shape)),
    };
  }

  #dequantized(
    value: Value,
    data: Float32Array,
    coded: Coded,
    made: ConstantParams = this.#params(value, coded),
  ): Value {
    const { dims } = value.constant!;
    const { granularity } = coded;
    const { name } = value;
    const params = [made.scale, made.zeroPoint];
    this.#push(name, data, coded, made.sharedWith);
    const attributes: AttributeInit = {
      ...(granularity && { axis: { kind: 'int', value: granularity.axis } }),
      ...(granularity?.block && { block_size: { kind: 'int', value: granularity.block } }),
    };
    const codes = this.#codes(value, data, coded, params, attributes);
    const output = this.#output(name, dims);
    this.#addNode('DequantizeLinear', name, { inputs: [codes, ...params], output, attributes });
    return output;
  }

  /** The codes of a constant, or what computes them from its floats. */
  #codes(value: Value, data: Float32Array, coded: Coded, params: Value[], attributes: AttributeInit): Value {
    const { dims } = value.constant!;
    const { dtype, granularity } = coded;
    if (!this.#options.weightPairs) {
      const codes = new Tensor<DType>(dtype, quantizeWeight(data, dims, granularity, coded), dims);
      return this.#graph.newConstant(`${value.name}_quantized`, codes);
    }
    const tensor = value.constant!.data === data ? value.constant! : new Tensor('float32', data, dims);
    const float = value.constant === tensor ? value : this.#graph.newConstant(`${value.name}_scaled`, tensor);
    const output = this.#graph.newValue(`${value.name}_QuantizeLinear_Output`, { dtype, shape: dims });
    this.#addNode('QuantizeLinear', value.name, { inputs: [float, ...params], output, attributes });
    return output;
  }

  #push(
    name: string,
    data: Float32Array,
    { dtype, granularity, scale, zeroPoint }: Coded,
    sharesScaleWith?: string,
  ): void {
    const { min, max } = rangeOf(data);
    const params = granularity?.block
      ? { axis: granularity.axis, block: granularity.block, scale: [], zeroPoint: [] }
      : { scale: [...scale], zeroPoint: [...zeroPoint], ...(granularity && { axis: granularity.axis }) };
    this.#report.push({
      name,
      kind: 'weight',
      type: dtype,
      ...params,
      range: [min, max],
      ...(sharesScaleWith && { sharesScaleWith }),
    });
  }

  #output(name: string, dims: readonly number[]): Value {
    return this.#graph.newValue(`${name}_DequantizeLinear_Output`, { dtype: 'float32', shape: dims });
  }

  #addNode(op: string, name: string, init: { inputs: Value[]; output: Value; attributes: AttributeInit }): void {
    this.#graph.addNode({
      name: this.#graph.uniqueName(`${name}_${op}`),
      op,
      domain: this.#domain,
      inputs: init.inputs,
      outputs: [init.output],
      attributes: init.attributes,
    });
  }

  #once(value: Value, use: string, make: () => Value): Value {
    const twins = this.#twins.get(value) ?? new Map<string, Value>();
    this.#twins.set(value, twins);
    const twin = twins.get(use) ?? make();
    twins.set(use, twin);
    return twin;
  }

  #guards({ dtype, zeroPoint }: Coded): boolean {
    const { guardBias, compat } = this.#options;
    return guardBias && (!compat || onnxruntimeGuards(dtype, zeroPoint, this.#options));
  }

  /** The value of a Gemm's factor; the attribute is removed, which leaves its default of 1. */
  #takeFactor(node: Node, name: 'alpha' | 'beta'): number {
    if (node.op !== 'Gemm' || this.#options.compat) return 1;
    const factor = node.attributes.float(name, 1);
    node.attributes.delete(name);
    return factor;
  }
}

/**
 * Dynamic quantization: weights become codes once, activations anew in every run by DynamicQuantizeLinear. No calibration;
 * between nodes everything stays float. What is written here runs in every runtime that knows ai.onnx 11.
 */
import { type AttributeInit, Attributes } from '../graph/attributes';
import { inEveryGraph, moveOut } from '../graph/bodies';
import type { Graph, Node, Value } from '../graph/graph';
import { transpose } from '../ops/families/strided';
import type { FloatNodeReport, TensorReport } from '../report/quantize-report';
import type { QuantizedDType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import type { ResolvedDynamicOptions } from './options';
import { quantizeWeight, rangeOf, weightScales } from './scale';

export interface DynamicResult {
  quantizedNodes: Record<string, number>;
  floatNodes: FloatNodeReport[];
  tensors: TensorReport[];
}

/**
 * Changes `graph` and its bodies, whose types must be known and whose constants folded. `refusal` says why a node is not to
 * be quantized.
 */
export function quantizeDynamic(
  graph: Graph,
  options: ResolvedDynamicOptions,
  refusal: (node: Node) => string | undefined,
): DynamicResult {
  return new DynamicQuantizer(graph, options, refusal).run();
}

/** What DynamicQuantizeLinear gives for one activation. */
interface Activation {
  codes: Value;
  scale: Value;
  zeroPoint: Value;
}

/** A constant as codes. */
interface Weight {
  codes: Value;
  scale: Value;
  zeroPoint: Value;
}

interface WeightForm {
  dtype: QuantizedDType;
  symmetric: boolean;
  axis: number | undefined;
  /** Whether int8 codes are written as uint8, 128 higher, for operators without int8 kernels. */
  isShifted?: boolean;
  /** Default: as the options say. */
  reduceRange?: boolean;
  /** Shape of the scale, so that it multiplies the product by broadcasting. */
  scaleDims?: readonly number[];
}

/** Operators with weights, of which those without a rule stay float. */
const NO_RULE = new Set(['ConvTranspose', 'GRU', 'RNN']);
/** Operators of com.microsoft that have a rule. */
const MICROSOFT = new Set(['Attention', 'EmbedLayerNormalization']);

class DynamicQuantizer {
  readonly #root: Graph;
  /** The one at work: the model or a body. */
  #graph: Graph;
  readonly #options: ResolvedDynamicOptions;
  readonly #refusal: (node: Node) => string | undefined;
  /** Those of the graph at work. */
  readonly #activations = new Map<Value, Activation>();
  /** By what they are made of and form, so that tied weights stay one tensor, in whatever graphs. */
  readonly #weights = new Map<Tensor, Map<string, Weight>>();
  readonly #tensors: TensorReport[] = [];

  constructor(graph: Graph, options: ResolvedDynamicOptions, refusal: (node: Node) => string | undefined) {
    this.#root = graph;
    this.#graph = graph;
    this.#options = options;
    this.#refusal = refusal;
  }

  run(): DynamicResult {
    const quantizedNodes: Record<string, number> = {};
    const floatNodes: FloatNodeReport[] = [];
    inEveryGraph(this.#root, (graph) => {
      this.#graph = graph;
      this.#activations.clear();
      for (const node of graph.topologicalOrder()) {
        const { name, op } = node;
        if (node.domain !== '' && !(node.domain === 'com.microsoft' && MICROSOFT.has(op))) continue;
        const reason = this.#visit(node);
        if (reason === true) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
        else if (reason) floatNodes.push({ name, op, reason });
      }
    });
    moveOut(this.#root, ({ op }) => op === 'DynamicQuantizeLinear');
    return { quantizedNodes, floatNodes, tensors: this.#tensors };
  }

  /** Quantizes the node, or says why not; undefined when it has no weights that could be quantized. */
  #visit(node: Node): true | string | undefined {
    if (node.op === 'EmbedLayerNormalization') return this.#refusal(node) ?? this.#embedding(node);
    const rules: Record<string, ((node: Node, weight: Tensor<'float32'>) => true | string) | undefined> = {
      MatMul: this.#matMul,
      Gemm: this.#gemm,
      Conv: this.#conv,
      Gather: this.#gather,
      Attention: this.#attention,
      LSTM: this.#lstm,
    };
    const rule = rules[node.op];
    if (!rule) return NO_RULE.has(node.op) ? `q8 has no dynamic form of ${node.op}` : undefined;
    const weight = node.requiredInput(node.op === 'Gather' ? 0 : 1);
    if (node.op === 'Gather' && weight.constant?.type !== 'float32') return undefined;
    const refused = this.#refusal(node);
    if (refused) return refused;
    if (!weight.constant) return 'its weight is not constant';
    if (weight.constant.type !== 'float32') return `its weight is ${weight.constant.type}, not float32`;
    if (node.op !== 'Gather' && node.requiredInput(0).constant) return 'all its inputs are constant';
    return rule.call(this, node, weight.constant as Tensor<'float32'>);
  }

  #matMul(node: Node, weight: Tensor<'float32'>): true | string {
    const rank = weight.dims.length;
    if (rank < 2) return 'its weight is a vector';
    const { weightType, weightSymmetric, perChannel } = this.#options;
    // Onnxruntime has scales per column for matrices only.
    const axis = perChannel && rank === 2 ? 1 : undefined;
    const form = { dtype: weightType, symmetric: weightSymmetric, axis };
    const constant = this.#weight(node.requiredInput(1), 'matrix', form, () => weight);
    const activation = this.#activation(node.requiredInput(0));
    this.#graph.removeNode(node);
    this.#product(node, 'MatMulInteger', activation, constant, node.output);
    return true;
  }

  #gemm(node: Node, weight: Tensor<'float32'>): true | string {
    const graph = this.#graph;
    const { attributes, name } = node;
    const [alpha, beta] = [attributes.float('alpha', 1), attributes.float('beta', 1)];
    const transposed = attributes.int('transB', 0) !== 0;
    const { weightType, weightSymmetric, perChannel } = this.#options;
    const form = { dtype: weightType, symmetric: weightSymmetric, axis: perChannel ? 1 : undefined };
    const key = `matrix${transposed ? ' transposed' : ''}${alpha === 1 ? '' : ` times ${alpha}`}`;
    const constant = this.#weight(node.requiredInput(1), key, form, () => scaled(weight, alpha, transposed));
    let input = node.requiredInput(0);
    if (attributes.int('transA', 0) !== 0) {
      input = this.#add('Transpose', `${name}_transposed`, [input], { perm: { kind: 'ints', value: [1, 0] } });
    }
    const activation = this.#activation(input);
    const bias = beta === 0 ? null : node.input(2);
    graph.removeNode(node);
    if (!bias) {
      this.#product(node, 'MatMulInteger', activation, constant, node.output);
      return true;
    }
    const product = graph.newValue(`${name}_product`, node.output.type);
    this.#product(node, 'MatMulInteger', activation, constant, product);
    this.#addTo(`${name}_bias`, [product, this.#times(bias, beta)], node.output);
    return true;
  }

  /** Weights are uint8: onnxruntime has no ConvInteger for int8 ones. Symmetric int8 codes plus 128 are the same numbers. */
  #conv(node: Node, weight: Tensor<'float32'>): true | string {
    const graph = this.#graph;
    const { name } = node;
    const bias = node.input(2);
    if (bias && !bias.constant) return 'its bias is not constant';
    const [channels] = weight.dims;
    const perChannel = [channels, ...weight.dims.slice(2).map(() => 1)];
    const { weightSymmetric: symmetric, weightType, compat } = this.#options;
    const form: WeightForm = compat
      ? { dtype: weightType, symmetric, axis: undefined, isShifted: weightType === 'int8' }
      : {
          dtype: 'uint8',
          symmetric,
          ...(this.#options.perChannel ? { axis: 0, scaleDims: perChannel } : { axis: undefined }),
        };
    const constant = this.#weight(node.requiredInput(1), 'convolution', form, () => weight);
    const activation = this.#activation(node.requiredInput(0));
    graph.removeNode(node);
    if (!bias) {
      this.#product(node, 'ConvInteger', activation, constant, node.output);
      return true;
    }
    const product = graph.newValue(`${name}_product`, node.output.type);
    this.#product(node, 'ConvInteger', activation, constant, product);
    const { data } = bias.constant as Tensor<'float32'>;
    const operand = graph.newConstant(`${bias.name}_reshaped`, new Tensor('float32', data, perChannel));
    this.#addTo(`${name}_bias`, [product, operand], node.output);
    return true;
  }

  /** A table: one scale for all, asymmetric, since nothing is multiplied with its codes. */
  #gather(node: Node, table: Tensor<'float32'>): true | string {
    const { name, output } = node;
    const { compat, weightType } = this.#options;
    // Onnxruntime's tool takes tables for activations.
    const form: WeightForm = compat
      ? { dtype: 'uint8', symmetric: false, axis: undefined, reduceRange: false }
      : { dtype: weightType, symmetric: false, axis: undefined };
    const { codes, scale, zeroPoint } = this.#weight(node.requiredInput(0), 'table', form, () => table);
    this.#graph.removeNode(node);
    const picked = this.#graph.newValue(`${name}_quantized`, { dtype: form.dtype, shape: output.type?.shape });
    this.#graph.addNode({
      name: this.#graph.uniqueName(`${name}_quant`),
      op: 'Gather',
      inputs: [codes, node.requiredInput(1)],
      outputs: [picked],
      attributes: new Attributes(node.name, node.attributes.entries()),
    });
    this.#graph.addNode({
      name: this.#graph.uniqueName(`${name}_DequantizeLinear`),
      op: 'DequantizeLinear',
      inputs: [picked, scale, zeroPoint],
      outputs: [output],
    });
    return true;
  }

  /** Attention -> QAttention: only the projection has weights. */
  #attention(node: Node, weight: Tensor<'float32'>): true | string {
    const graph = this.#graph;
    const { name, output, attributes } = node;
    const biasValue = node.input(2);
    if (node.input(5)) return 'QAttention has no bias on scores';
    if (attributes.has('qkv_hidden_sizes')) return 'QAttention has no values of another size';
    if (biasValue && biasValue.constant?.type !== 'float32') return 'its bias is not constant';
    const { weightType, weightSymmetric, perChannel } = this.#options;
    const form = { dtype: weightType, symmetric: weightSymmetric, axis: perChannel ? 1 : undefined };
    const constant = this.#weight(node.requiredInput(1), 'matrix', form, () => weight);
    const bias = biasValue ?? graph.newConstant(`${name}_bias`, Tensor.zeros('float32', [weight.dims[1]]));
    const { codes, scale, zeroPoint } = this.#activation(node.requiredInput(0));
    const [mask, past] = [node.input(3), node.input(4)];
    const outputs = [output, ...node.outputs.slice(1)];
    graph.removeNode(node);
    graph.addNode({
      name: graph.uniqueName(`${name}_quant`),
      op: 'QAttention',
      domain: 'com.microsoft',
      inputs: [codes, constant.codes, bias, scale, constant.scale, mask, zeroPoint, constant.zeroPoint, past],
      outputs,
      attributes: new Attributes(name, attributes.entries()),
    });
    return true;
  }

  /** LSTM -> DynamicQuantizeLSTM: int8 weights, a scale for each direction or each row of it. */
  #lstm(node: Node, weight: Tensor<'float32'>): true | string {
    const graph = this.#graph;
    const { name, attributes } = node;
    const recurrence = node.requiredInput(2).constant;
    if (recurrence?.type !== 'float32') return 'its recurrence weight is not a float32 constant';
    if (attributes.int('layout', 0) !== 0) return 'DynamicQuantizeLSTM has the time first';
    const [w, r] = [weight, recurrence as Tensor<'float32'>].map((tensor, i) =>
      this.#recurrentWeight(node.requiredInput(i + 1), tensor),
    );
    const inputs = Array.from({ length: 8 }, (_, i) => (i === 1 ? w.codes : i === 2 ? r.codes : node.input(i)));
    const outputs = [...node.outputs];
    graph.removeNode(node);
    graph.addNode({
      name: graph.uniqueName(`${name}_quant`),
      op: 'DynamicQuantizeLSTM',
      domain: 'com.microsoft',
      inputs: [...inputs, w.scale, w.zeroPoint, r.scale, r.zeroPoint],
      outputs,
      attributes: new Attributes(
        name,
        [...attributes.entries()].filter(([key]) => key !== 'layout'),
      ),
    });
    return true;
  }

  /** Weights [directions, 4 * hidden, depth] of LSTM as [directions, depth, 4 * hidden]. */
  #recurrentWeight(value: Value, { data, dims }: Tensor<'float32'>): Weight {
    const [directions, rows, depth] = dims;
    const { perChannel, reduceRange } = this.#options;
    const options = { dtype: 'int8', symmetric: true, reduceRange } as const;
    const grouped = perChannel ? [directions * rows, depth] : [directions, rows * depth];
    const { scale, zeroPoint } = weightScales(data, grouped, { axis: 0 }, options);
    const codes = quantizeWeight(data, grouped, { axis: 0 }, { scale, zeroPoint, dtype: 'int8' });
    const { min, max } = rangeOf(data);
    const { name } = value;
    this.#tensors.push({
      name,
      kind: 'weight',
      type: 'int8',
      scale: [...scale],
      zeroPoint: Array.from(zeroPoint, Number),
      axis: 0,
      range: [min, max],
    });
    const scaleDims = perChannel ? [directions, rows] : [directions];
    const turned = transpose(new Tensor('int8', codes as Int8Array, dims), [0, 2, 1]);
    return {
      codes: this.#graph.newConstant(`${name}_quantized`, turned),
      scale: this.#graph.newConstant(`${name}_scale`, new Tensor('float32', scale, scaleDims)),
      zeroPoint: this.#graph.newConstant(`${name}_zero_point`, new Tensor('int8', zeroPoint as Int8Array, scaleDims)),
    };
  }

  /** EmbedLayerNormalization -> QEmbedLayerNormalization: everything but the ids is a uint8 constant with one scale. */
  #embedding(node: Node): true | string {
    const graph = this.#graph;
    const { name, output, attributes } = node;
    const maskIndex = node.outputs[1];
    if (node.outputs[2]) return 'QEmbedLayerNormalization does not give the sum';
    if (node.input(8)) return 'QEmbedLayerNormalization has no position ids';
    const segments = node.input(1) && node.input(4);
    const values = [2, 3, 4, 5, 6].map((i) => (i === 4 ? segments : node.input(i)));
    const form = { dtype: 'uint8', symmetric: false, axis: undefined } as const;
    if (
      values.some((value, i) =>
        i === 2 ? value && value.constant?.type !== 'float32' : value?.constant?.type !== 'float32',
      )
    )
      return 'its tables are not float32 constants';
    const constants = values.map(
      (value) => value && this.#weight(value, 'table', form, () => value.constant as Tensor<'float32'>),
    );
    const isMaskRead = maskIndex && (maskIndex.consumerCount > 0 || graph.isOutput(maskIndex));
    const [ids, segmentIds] = [node.requiredInput(0), segments ? node.input(1) : null];
    const mask = isMaskRead ? node.input(7) : null;
    const index = maskIndex ?? graph.newValue(`${name}_mask_index`, { dtype: 'int32' });
    graph.removeNode(node);
    graph.addNode({
      name: graph.uniqueName(`${name}_quant`),
      op: 'QEmbedLayerNormalization',
      domain: 'com.microsoft',
      inputs: [
        ids,
        segmentIds,
        ...constants.map((constant) => constant?.codes ?? null),
        mask,
        ...constants.map((constant) => constant?.scale ?? null),
        ...constants.map((constant) => constant?.zeroPoint ?? null),
      ],
      outputs: [output, index],
      attributes: { epsilon: { kind: 'float', value: attributes.float('epsilon', 1e-12) } },
    });
    return true;
  }

  /** result = float(integer product) * (activation scale * weight scale). */
  #product(node: Node, op: string, a: Activation, b: Weight, result: Value): void {
    const { name } = node;
    const attributes =
      op === 'ConvInteger' ? new Attributes(node.name, node.attributes.entries()) : new Attributes(name);
    const sums = this.#add(op, `${name}_quant`, [a.codes, b.codes, a.zeroPoint, b.zeroPoint], attributes);
    const float = this.#add('Cast', `${name}_cast`, [sums], { to: { kind: 'int', value: FLOAT } });
    const scale = this.#add('Mul', `${name}_scales`, [a.scale, b.scale]);
    this.#graph.addNode({
      name: this.#graph.uniqueName(`${name}_scaled`),
      op: 'Mul',
      inputs: [float, scale],
      outputs: [result],
    });
  }

  #activation(value: Value): Activation {
    let activation = this.#activations.get(value);
    if (!activation) {
      const graph = this.#graph;
      activation = {
        codes: graph.newValue(`${value.name}_quantized`, { dtype: 'uint8', shape: value.type?.shape }),
        scale: graph.newValue(`${value.name}_scale`, { dtype: 'float32', shape: [] }),
        zeroPoint: graph.newValue(`${value.name}_zero_point`, { dtype: 'uint8', shape: [] }),
      };
      this.#activations.set(value, activation);
      graph.addNode({
        name: graph.uniqueName(`${value.name}_QuantizeLinear`),
        op: 'DynamicQuantizeLinear',
        inputs: [value],
        outputs: [activation.codes, activation.scale, activation.zeroPoint],
      });
    }
    return activation;
  }

  /** `key` names what `make` does to the constant, and so tells the forms of one constant apart. */
  #weight(value: Value, key: string, form: WeightForm, make: () => Tensor<'float32'>): Weight {
    const tensor = value.constant!;
    const forms = this.#weights.get(tensor) ?? new Map<string, Weight>();
    this.#weights.set(tensor, forms);
    let weight = forms.get(key);
    if (!weight) {
      weight = this.#quantize(value.name, make(), form);
      forms.set(key, weight);
    }
    return weight;
  }

  #quantize(name: string, { data, dims }: Tensor<'float32'>, form: WeightForm): Weight {
    const { symmetric, axis, isShifted, reduceRange = this.#options.reduceRange } = form;
    const granularity = axis === undefined ? undefined : { axis };
    const made = { symmetric, reduceRange, dtype: form.dtype, zeroChannelsApart: this.#options.compat !== undefined };
    const params = weightScales(data, dims, granularity, made);
    const signed = quantizeWeight(data, dims, granularity, { ...params, dtype: form.dtype });
    const { scale } = params;
    const dtype = isShifted ? 'uint8' : form.dtype;
    const codes = isShifted ? Uint8Array.from(signed, (code) => code + 128) : signed;
    const zeroPoint = isShifted ? Uint8Array.from(params.zeroPoint, (code) => code + 128) : params.zeroPoint;
    const { min, max } = rangeOf(data);
    this.#tensors.push({
      name,
      kind: 'weight',
      type: dtype,
      scale: [...scale],
      zeroPoint: [...zeroPoint],
      ...(axis === undefined ? {} : { axis }),
      range: [min, max],
    });
    const scaleDims = form.scaleDims ?? (axis === undefined ? [] : [scale.length]);
    const isUniform = zeroPoint.every((code) => code === zeroPoint[0]);
    const zero = isUniform ? new Tensor(dtype, [zeroPoint[0] ?? 0], []) : new Tensor(dtype, [...zeroPoint]);
    return {
      codes: this.#graph.newConstant(`${name}_quantized`, new Tensor(dtype, codes as Uint8Array, dims)),
      scale: this.#graph.newConstant(`${name}_scale`, new Tensor('float32', scale, scaleDims)),
      zeroPoint: this.#graph.newConstant(`${name}_zero_point`, zero),
    };
  }

  #times(value: Value, factor: number): Value {
    if (factor === 1) return value;
    if (value.constant) return this.#graph.newConstant(`${value.name}_scaled`, scaled(value.constant, factor, false));
    const constant = this.#graph.newConstant(`${value.name}_beta`, new Tensor('float32', [factor], []));
    return this.#add('Mul', `${value.name}_scaled`, [value, constant]);
  }

  /** A node named like its only output. */
  #add(op: string, name: string, inputs: Value[], attributes: Attributes | AttributeInit = {}): Value {
    const output = this.#graph.newValue(name);
    this.#graph.addNode({ name: output.name, op, inputs, outputs: [output], attributes });
    return output;
  }

  #addTo(name: string, inputs: Value[], output: Value): void {
    this.#graph.addNode({ name: this.#graph.uniqueName(name), op: 'Add', inputs, outputs: [output] });
  }
}

/** Number of float32 in the attribute `to` of Cast. */
const FLOAT = 1;

/** factor * x, or factor * x' for a matrix. */
function scaled(x: Tensor, factor: number, transposed: boolean): Tensor<'float32'> {
  const data = x.data as Float32Array;
  if (!transposed) return new Tensor('float32', factor === 1 ? data : data.map((v) => v * factor), x.dims);
  const [rows, columns] = x.dims;
  const result = new Float32Array(data.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) result[c * rows + r] = data[r * columns + c] * factor;
  return new Tensor('float32', result, [columns, rows]);
}

/**
 * Weight-only quantization: weights become codes of 2, 4 or 8 bits, everything is computed in float. For models whose time
 * goes into reading weights, and for files that have to be small.
 */
import { inEveryGraph } from '../graph/bodies';
import type { Graph, Node, Value } from '../graph/graph';
import { packedBytes, putCode } from '../ops/families/block-codes';
import { axisOf } from '../ops/families/inference';
import { ALL_CODES_OPSET, upgradeOpset } from '../passes/upgrade-opset';
import type { FloatNodeReport, TensorReport } from '../report/quantize-report';
import type { CodeDType } from '../tensor/dtype';
import { Tensor } from '../tensor/tensor';
import { type BlockAlgorithm, type BlockedMatrix, DEFAULT_BLOCK_SIZE, quantizeBlocks } from './blocks';
import { matrixOf, transposed } from './matrix-view';
import type { ResolvedWeightOnlyOptions } from './options';
import { roundMatrices } from './round-matrices';
import { quantizeWeight, rangeOf, weightScales } from './scale';

export interface WeightOnlyResult {
  quantizedNodes: Record<string, number>;
  floatNodes: FloatNodeReport[];
  tensors: TensorReport[];
}

/**
 * Changes the prepared `graph` and its bodies, where 'gptq' rounds like 'rtn'. `refusal` says why a node is not to be
 * quantized.
 */
export async function quantizeWeightOnly(
  graph: Graph,
  options: ResolvedWeightOnlyOptions,
  refusal: (node: Node) => string | undefined,
): Promise<WeightOnlyResult> {
  if (options.format === 'qdq') upgradeOpset(graph, ALL_CODES_OPSET);
  const rounded =
    options.algorithm === 'gptq' ? await roundMatrices(graph, options, refusal) : new Map<Node, BlockedMatrix>();
  return new WeightOnlyQuantizer(graph, options, refusal, rounded).run();
}

/** The input that holds the weight, for operators that have one. */
const WEIGHT_INPUT: Readonly<Record<string, number>> = { MatMul: 1, Gemm: 1, Conv: 1, ConvTranspose: 1, Gather: 0 };

class WeightOnlyQuantizer {
  readonly #root: Graph;
  /** The one at work: the model or a body. */
  #graph: Graph;
  readonly #options: ResolvedWeightOnlyOptions;
  readonly #refusal: (node: Node) => string | undefined;
  /** Constants by what they are made of and form, so that tied weights stay one tensor, in whatever graphs. */
  readonly #made = new Map<Tensor, Map<string, Value[]>>();
  /** By codes: what they are in the graph at work. */
  readonly #dequantized = new Map<Value, Value>();
  readonly #tensors: TensorReport[] = [];
  /** What algorithm 'gptq' has made of the weights of nodes. */
  readonly #rounded: ReadonlyMap<Node, BlockedMatrix>;

  constructor(
    graph: Graph,
    options: ResolvedWeightOnlyOptions,
    refusal: (node: Node) => string | undefined,
    rounded: ReadonlyMap<Node, BlockedMatrix>,
  ) {
    this.#root = graph;
    this.#graph = graph;
    this.#options = options;
    this.#refusal = refusal;
    this.#rounded = rounded;
  }

  run(): WeightOnlyResult {
    const quantizedNodes: Record<string, number> = {};
    const floatNodes: FloatNodeReport[] = [];
    inEveryGraph(this.#root, (graph) => {
      this.#graph = graph;
      this.#dequantized.clear();
      for (const node of graph.topologicalOrder()) {
        const { name, op } = node;
        const index = node.domain === '' ? WEIGHT_INPUT[op] : undefined;
        if (index === undefined) continue;
        const value = node.requiredInput(index);
        // Gather picks from anything; only tables of numbers that are rows have something to gain.
        if (op === 'Gather' && (value.constant?.type !== 'float32' || value.constant.dims.length < 2)) continue;
        const reason = this.#refusal(node) ?? this.#visit(node, value);
        if (reason === true) quantizedNodes[op] = (quantizedNodes[op] ?? 0) + 1;
        else floatNodes.push({ name, op, reason });
      }
    });
    return { quantizedNodes, floatNodes, tensors: this.#tensors };
  }

  #visit(node: Node, value: Value): true | string {
    const { format, bits, blockSize } = this.#options;
    const tensor = value.constant;
    if (!tensor) return 'its weight is not constant';
    if (tensor.type !== 'float32') return `its weight is ${tensor.type}, not float32`;
    const weight = tensor as Tensor<'float32'>;
    const isMatrix = node.op === 'MatMul' || node.op === 'Gemm';
    if (format === 'qoperator') {
      if (node.op === 'Gather') return this.#gather(node, value, weight);
      return isMatrix ? this.#nbits(node, value, weight) : 'weights in blocks of few bits exist for matrices only';
    }
    if (node.op === 'Gather') return 'format "qdq" would dequantize the whole table in every run';
    if (isMatrix && blockSize !== undefined) return this.#blockedPair(node, value, weight);
    return bits === 8 ? this.#channelPair(node, value, weight) : 'convolutions are quantized with 8 bits only';
  }

  /** MatMul or Gemm -> MatMulNBits. */
  #nbits(node: Node, value: Value, weight: Tensor<'float32'>): true | string {
    const { bits, blockSize = DEFAULT_BLOCK_SIZE, accuracyLevel, symmetric, algorithm } = this.#options;
    const matrix = matrixOf(node, weight);
    if (typeof matrix === 'string') return matrix;
    const bias = this.#biasOf(node, matrix.columns);
    if (typeof bias === 'string') return bias;
    const { rows: k, columns: n } = matrix;
    const key = `nbits ${matrix.isTransposed} ${matrix.factor}`;
    const inputs = this.#once(value, key, () => {
      const q =
        this.#rounded.get(node) ??
        quantizeBlocks(transposed(weight, matrix), n, k, blockSize, {
          bits,
          symmetric,
          algorithm: blockAlgorithm(algorithm),
        });
      this.#report(value, `uint${bits}`, weight, { axis: matrix.isTransposed ? 1 : 0, block: blockSize });
      return this.#packed(value.name, q, bits, [n, q.blocks, packedBytes(blockSize, bits)], blockSize);
    });
    const { output } = node;
    const activation = node.requiredInput(0);
    this.#graph.removeNode(node);
    this.#graph.addNode({
      name: this.#graph.uniqueName(`${node.name}_Q${bits}`),
      op: 'MatMulNBits',
      domain: 'com.microsoft',
      inputs: [activation, inputs[0], inputs[1], inputs[2] ?? null, null, bias],
      outputs: [output],
      attributes: {
        K: { kind: 'int', value: k },
        N: { kind: 'int', value: n },
        bits: { kind: 'int', value: bits },
        block_size: { kind: 'int', value: blockSize },
        ...(accuracyLevel > 0 && { accuracy_level: { kind: 'int', value: accuracyLevel } }),
      },
    });
    return true;
  }

  /** The bias of a Gemm as MatMulNBits takes it: null, a constant [N], or why not. */
  #biasOf(node: Node, columns: number): Value | null | string {
    const bias = node.op === 'Gemm' ? node.input(2) : null;
    const beta = node.attributes.float('beta', 1);
    if (!bias || beta === 0) return null;
    const { constant } = bias;
    if (constant?.type !== 'float32' || (constant.size !== columns && constant.size !== 1) || constant.dims.length > 2)
      return 'its bias is not a constant row';
    if (constant.dims.length === 2 && constant.dims[0] !== 1) return 'its bias is not a constant row';
    const { data } = constant as Tensor<'float32'>;
    const row = Float32Array.from({ length: columns }, (_, i) => beta * data[constant.size === 1 ? 0 : i]);
    return this.#graph.newConstant(`${bias.name}_row`, new Tensor('float32', row));
  }

  /** Gather -> GatherBlockQuantized. */
  #gather(node: Node, value: Value, table: Tensor<'float32'>): true | string {
    const { bits, blockSize = DEFAULT_BLOCK_SIZE, symmetric, algorithm } = this.#options;
    const [rows, columns] = table.dims;
    const rank = table.dims.length;
    if (rank !== 2 || axisOf(node, node.attributes.int('axis', 0), rank) !== 0) return 'it picks no rows of a matrix';
    if (bits === 2) return 'onnxruntime has no tables of 2 bits';
    if ((columns * bits) % 8 !== 0) return 'its rows are not whole bytes';
    if (algorithm === 'hqq') return 'zero points of hqq are real numbers, which tables have not';
    const inputs = this.#once(value, 'table', () => {
      const q = quantizeBlocks(table.data, rows, columns, blockSize, {
        bits,
        symmetric,
        algorithm: blockAlgorithm(algorithm),
      });
      this.#report(value, `uint${bits}`, table, { axis: 1, block: blockSize });
      return this.#packed(value.name, q, bits, [rows, packedBytes(columns, bits)], columns);
    });
    const { output } = node;
    const indices = node.requiredInput(1);
    this.#graph.removeNode(node);
    this.#graph.addNode({
      name: this.#graph.uniqueName(`${node.name}_Q${bits}`),
      op: 'GatherBlockQuantized',
      domain: 'com.microsoft',
      inputs: [inputs[0], indices, inputs[1], inputs[2] ?? null],
      outputs: [output],
      attributes: {
        bits: { kind: 'int', value: bits },
        block_size: { kind: 'int', value: blockSize },
        gather_axis: { kind: 'int', value: 0 },
        quantize_axis: { kind: 'int', value: 1 },
      },
    });
    return true;
  }

  /**
   * Codes, scales and, unless symmetric, zero points as constants. Codes are packed in runs of `run` that start at whole
   * bytes; `dims` are those of the bytes.
   */
  #packed(name: string, q: BlockedMatrix, bits: number, dims: number[], run: number): Value[] {
    const { rows, columns, blocks, codes, scales, zeroPoints } = q;
    const packed = new Uint8Array(dims.reduce((a, b) => a * b, 1));
    const bytes = packedBytes(run, bits);
    const runs = Math.ceil(columns / run);
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) {
        putCode(packed, (r * runs + Math.floor(c / run)) * bytes, c % run, bits, codes[r * columns + c]);
      }
    }
    const constants: [string, Tensor][] = [
      [`Q${bits}`, new Tensor('uint8', packed, dims)],
      ['scales', new Tensor('float32', scales, [rows, blocks])],
    ];
    if (zeroPoints instanceof Float32Array)
      constants.push(['zero_points', new Tensor('float32', zeroPoints, [rows, blocks])]);
    else if (zeroPoints) {
      const width = packedBytes(blocks, bits);
      const zeros = new Uint8Array(rows * width);
      zeroPoints.forEach((zero, i) => {
        putCode(zeros, Math.floor(i / blocks) * width, i % blocks, bits, zero);
      });
      constants.push(['zero_points', new Tensor('uint8', zeros, [rows, width])]);
    }
    return constants.map(([suffix, tensor]) => this.#graph.newConstant(`${name}_${suffix}`, tensor));
  }

  /** The weight of MatMul or Gemm behind a DequantizeLinear with blocks along K. */
  #blockedPair(node: Node, value: Value, weight: Tensor<'float32'>): true | string {
    const { bits, blockSize = DEFAULT_BLOCK_SIZE, symmetric, algorithm } = this.#options;
    const matrix = matrixOf(node, weight);
    if (typeof matrix === 'string') return matrix;
    const axis = weight.dims.length - (matrix.isTransposed ? 1 : 2);
    // Factors stay in the node.
    const key = `blocks ${matrix.isTransposed}`;
    const parts = this.#once(value, key, () => {
      const { rows: k, columns: n } = matrix;
      const q =
        this.#rounded.get(node) ??
        quantizeBlocks(transposed(weight, { ...matrix, factor: 1 }), n, k, blockSize, {
          bits,
          symmetric,
          algorithm: blockAlgorithm(algorithm),
        });
      const dtype = `${symmetric ? '' : 'u'}int${bits}` as CodeDType;
      this.#report(value, dtype, weight, { axis, block: blockSize });
      // Back to the order of the weight: K x N unless it is transposed.
      const arrange = (from: Uint8Array | Float32Array, length: number) => (i: number) =>
        matrix.isTransposed ? from[i] : from[(i % n) * length + Math.floor(i / n)];
      const middle = symmetric ? 2 ** (bits - 1) : 0;
      const codeOf = arrange(q.codes, k);
      const scaleOf = arrange(q.scales, q.blocks);
      const dims = weight.dims.map((dim, i) => (i === axis ? q.blocks : dim));
      const list = (length: number, of: (i: number) => number): number[] => Array.from({ length }, (_, i) => of(i));
      const codes = new Tensor(
        dtype,
        list(weight.size, (i) => codeOf(i) - middle),
        weight.dims,
      );
      const scales = new Tensor('float32', list(q.scales.length, scaleOf), dims);
      const zeros = q.zeroPoints && new Tensor(dtype, list(q.scales.length, arrange(q.zeroPoints, q.blocks)), dims);
      return this.#codes(value.name, codes, scales, zeros);
    });
    node.setInput(1, this.#dequantize(value.name, parts, { axis, block_size: blockSize }));
    return true;
  }

  /** A weight of 8 bits behind a DequantizeLinear with a scale per output channel. */
  #channelPair(node: Node, value: Value, weight: Tensor<'float32'>): true | string {
    const { symmetric } = this.#options;
    const { dims, data } = weight;
    if (node.op === 'MatMul' && dims.length < 2) return 'its weight is a vector';
    const axis = channelAxis(node, dims.length);
    const parts = this.#once(value, `channels ${axis}`, () => {
      const dtype = symmetric ? 'int8' : 'uint8';
      const { scale, zeroPoint } = weightScales(data, dims, { axis }, { dtype, symmetric });
      const codes = quantizeWeight(data, dims, { axis }, { scale, zeroPoint, dtype });
      this.#report(value, dtype, weight, { axis });
      const zeros = symmetric ? null : new Tensor(dtype, zeroPoint as Uint8Array, [scale.length]);
      const tensor = new Tensor<'int8' | 'uint8'>(dtype, codes as Uint8Array, dims);
      return this.#codes(value.name, tensor, new Tensor('float32', scale), zeros);
    });
    node.setInput(1, this.#dequantize(value.name, parts, { axis }));
    return true;
  }

  #codes(name: string, codes: Tensor, scales: Tensor, zeros: Tensor | null): Value[] {
    const constant = (suffix: string, tensor: Tensor): Value => this.#graph.newConstant(`${name}_${suffix}`, tensor);
    const parts = [constant('quantized', codes), constant('scale', scales)];
    return zeros ? [...parts, constant('zero_point', zeros)] : parts;
  }

  /**
   * Codes, scales and zero points behind a DequantizeLinear, one in each graph. A body has constants of its own: with its
   * optimizations onnxruntime finds no others.
   */
  #dequantize(name: string, parts: Value[], attributes: Record<string, number>): Value {
    const graph = this.#graph;
    const [codes] = parts;
    const made = this.#dequantized.get(codes);
    if (made) return made;
    const inputs = parts.map((value) =>
      graph.parent === null ? value : graph.newConstant(value.name, value.constant as Tensor),
    );
    const { shape } = codes.type!;
    const output = graph.newValue(`${name}_DequantizeLinear_Output`, { dtype: 'float32', shape });
    graph.addNode({
      name: graph.uniqueName(`${name}_DequantizeLinear`),
      op: 'DequantizeLinear',
      inputs,
      outputs: [output],
      attributes: Object.fromEntries(
        Object.entries(attributes).map(([key, value]) => [key, { kind: 'int', value }] as const),
      ),
    });
    this.#dequantized.set(codes, output);
    return output;
  }

  #once(value: Value, key: string, make: () => Value[]): Value[] {
    const tensor = value.constant!;
    const forms = this.#made.get(tensor) ?? new Map<string, Value[]>();
    this.#made.set(tensor, forms);
    const made = forms.get(key) ?? make();
    forms.set(key, made);
    return made;
  }

  #report(value: Value, type: string, { data }: Tensor<'float32'>, where: { axis: number; block?: number }): void {
    const { min, max } = rangeOf(data);
    this.#tensors.push({
      name: value.name,
      kind: 'weight',
      type: type as TensorReport['type'],
      scale: [],
      zeroPoint: [],
      ...where,
      range: [min, max],
    });
  }
}

/** How weights are quantized that no product with activations reads, like tables. */
function blockAlgorithm(algorithm: ResolvedWeightOnlyOptions['algorithm']): BlockAlgorithm {
  return algorithm === 'gptq' ? 'rtn' : algorithm;
}

/** The output channels of a weight. */
function channelAxis(node: Node, rank: number): number {
  switch (node.op) {
    case 'Conv':
      return 0;
    case 'ConvTranspose':
      return 1;
    case 'Gemm':
      return node.attributes.int('transB', 0) !== 0 ? 0 : 1;
    default:
      return rank - 1;
  }
}

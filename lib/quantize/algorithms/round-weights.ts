/**
 * Better rounding of weights, layer by layer, for products with the inputs that were observed instead of for the weights
 * themselves; the arithmetic is in ../gptq.ts. It minimizes what AdaRound does (Nagel et al., "Up or down? Adaptive rounding for
 * post-training quantization", 2020), without its search by gradients. Scales stay as they are. Layers are done in groups
 * whose second moments fit in memory together; a group sees its inputs as the rounded weights before it make them.
 */
import type { Node, Value } from '../../graph/graph';
import { convolutionWindow } from '../../ops/families/convolution';
import { sizeOf } from '../../tensor/shape';
import { Tensor } from '../../tensor/tensor';
import { type Compensation, compensationOf, roundRow, SecondMoments } from '../gptq';
import { codesFor, weightScales } from '../scale';
import { Turns } from '../turns';
import {
  type ActivationObserver,
  type Algorithm,
  type AlgorithmContext,
  type WeightedNode,
  weightedNodes,
} from './algorithm';
import { innerSize } from './channels';
import { correctableBias, takeOut } from './correct-bias';

/** Elements that one output sums up. Beyond this, the Cholesky factor of a layer takes half a minute and more. */
const MAX_SUM = 4096;
/** Second moments in memory at a time (256 MiB). */
const MAX_ELEMENTS = 2 ** 25;
/** Outputs of a convolution that are looked at in each sample: from 64 to 256, more where more is summed up. */
const POSITIONS = { least: 64, most: 256, perElement: 1 / 4 };

/** A layer whose outputs are sums of products with a row of the weight each. */
interface Layer extends WeightedNode {
  /** Outputs, what each sums up, and the groups of outputs that read the same inputs. */
  outputs: number;
  size: number;
  groups: number;
  /** What can make up for a shift of the outputs' means; absent where nothing can. */
  bias: Value | null | undefined;
  /** Where element `k` of row `output` is in the weight. */
  at(output: number, k: number): number;
}

export const roundWeights: Algorithm = {
  changesActivations: false,

  *steps(context) {
    let layers: Layer[] = [];
    let elements = 0;
    for (const layer of [...layersOf(context)]) {
      const size = layer.groups * layer.size * layer.size;
      if (layers.length > 0 && elements + size > MAX_ELEMENTS) {
        yield step(context, layers);
        layers = [];
        elements = 0;
      }
      layers.push(layer);
      elements += size;
    }
    yield step(context, layers);
  },
};

function step(context: AlgorithmContext, layers: readonly Layer[]) {
  const seen = layers.map((layer) => ({
    layer,
    value: layer.node.requiredInput(0),
    observer: layer.node.op === 'Conv' ? new FieldObserver(layer) : new RowObserver(layer),
  }));
  return {
    requests: seen,
    async apply(): Promise<string[]> {
      const turns = new Turns(context.signal);
      const changed: string[] = [];
      for (const { layer, observer } of seen) {
        if (observer.moments.some(({ rows }) => rows === 0)) continue;
        await round(context, layer, observer.moments, turns);
        changed.push(layer.node.name);
      }
      return changed;
    },
  };
}

function* layersOf(context: AlgorithmContext): Generator<Layer> {
  for (const weighted of weightedNodes(context)) {
    const { node, weight, index, axis } = weighted;
    const { dims } = weight.constant!;
    // Tied weights would have to suit the inputs of all their readers.
    if (index !== 1 || weight.consumerCount > 1 || node.requiredInput(0).constant) continue;
    const base = { ...weighted, groups: 1, bias: correctableBias(node, dims)?.bias };
    let layer: Layer | undefined;
    if (node.op === 'Conv') {
      const size = innerSize(dims, 0);
      layer = {
        ...base,
        outputs: dims[0],
        size,
        groups: node.attributes.int('group', 1),
        at: (output, k) => output * size + k,
      };
    } else if (dims.length === 2 && isPlainProduct(node)) {
      const isTransposed = node.op === 'Gemm' && node.attributes.int('transB', 0) !== 0;
      const [outputs, size] = isTransposed ? dims : [dims[1], dims[0]];
      layer = {
        ...base,
        outputs,
        size,
        at: isTransposed ? (output, k) => output * size + k : (output, k) => k * outputs + output,
      };
    }
    // Scales have to be those of outputs.
    const isPerOutput =
      axis === undefined || (layer && dims[axis] === layer.outputs && layer.at(1, 0) === innerSize(dims, axis));
    if (layer && isPerOutput && layer.size <= MAX_SUM) yield layer;
  }
}

/** A product of its inputs as they are. */
function isPlainProduct({ op, attributes }: Node): boolean {
  return op === 'MatMul' || (op === 'Gemm' && attributes.int('transA', 0) === 0 && attributes.float('alpha', 1) === 1);
}

async function round(
  context: AlgorithmContext,
  layer: Layer,
  moments: readonly SecondMoments[],
  turns: Turns,
): Promise<void> {
  const compensations: Compensation[] = [];
  for (const group of moments) compensations.push(await compensationOf(group, turns));
  const { node, weight, format, axis, bias, outputs, size, groups, at } = layer;
  const { data, dims } = weight.constant as Tensor<'float32'>;
  const { scale, zeroPoint } = weightScales(data, dims, format.granularity, format);
  const [low, high] = codesFor(format);
  const rounded = new Float32Array(data.length);
  const row = new Float32Array(size);
  const codes = new Int32Array(size);
  const shift = new Float64Array(outputs);
  for (let output = 0; output < outputs; output++) {
    await turns.pass();
    const channel = scale.length === 1 ? 0 : output;
    const [step, zero] = [scale[channel], zeroPoint[channel]];
    for (let k = 0; k < size; k++) row[k] = data[at(output, k)];
    const grid = { scale: () => step, zeroPoint: () => zero, low, high };
    const group = Math.floor((output * groups) / outputs);
    roundRow(row, compensations[group], grid, codes);
    for (let k = 0; k < size; k++) {
      rounded[at(output, k)] = (codes[k] - zero) * step;
      shift[output] += (rounded[at(output, k)] - row[k]) * moments[group].mean(k);
    }
  }
  if (bias !== undefined) takeOut(context.graph, node, bias, shift);
  weight.constant = new Tensor('float32', rounded, dims);
  // Extremes may have moved, but the grid is to stay.
  context.prescribe(weight.name, {
    type: format.dtype,
    axis: axis ?? null,
    scale: [...scale],
    zeroPoint: [...zeroPoint],
  });
}

/** Second moments of the rows of a matrix product. */
class RowObserver implements ActivationObserver {
  readonly moments: readonly [SecondMoments];

  constructor({ size, bias }: Layer) {
    this.moments = [new SecondMoments(size, bias !== undefined)];
  }

  observe(data: Float32Array): void {
    this.moments[0].add(data);
  }
}

/** Second moments of what outputs of a convolution see, group by group, at some positions of every sample. */
class FieldObserver implements ActivationObserver {
  readonly moments: readonly SecondMoments[];
  readonly #node: Node;
  readonly #weightDims: readonly number[];
  /** Positions seen so far: the next ones follow on, evenly spread whatever the size of a sample. */
  #seen = 0;

  constructor({ node, weight, size, groups, bias }: Layer) {
    this.#node = node;
    this.#weightDims = weight.constant!.dims;
    this.moments = Array.from({ length: groups }, () => new SecondMoments(size, bias !== undefined));
  }

  observe(data: Float32Array, dims: readonly number[]): void {
    const { kernel, strides, dilations, padsBegin, input, output } = convolutionWindow(
      this.#node,
      dims,
      this.#weightDims,
    );
    const [batch, channels] = dims;
    const perGroup = channels / this.moments.length;
    const all = batch * sizeOf(output);
    const [taps, pixels] = [sizeOf(kernel), sizeOf(input)];
    const wanted = Math.max(POSITIONS.least, Math.floor(perGroup * taps * POSITIONS.perElement));
    const positions = Math.min(all, wanted, POSITIONS.most);
    // Index of the pixel under each tap; -1 in the padding.
    const under = new Int32Array(positions * taps);
    const images = new Int32Array(positions);
    for (let p = 0; p < positions; p++) {
      // Multiples of the golden ratio fill the range evenly and never fall in step with the width.
      const share = positions === all ? p / all : ((this.#seen + p) * 0.6180339887498949) % 1;
      let rest = positions === all ? p : Math.floor(share * all);
      const place = output.map(() => 0);
      for (let axis = output.length - 1; axis >= 0; axis--) {
        place[axis] = rest % output[axis];
        rest = Math.floor(rest / output[axis]);
      }
      images[p] = rest;
      for (let tap = 0; tap < taps; tap++) {
        let [pixel, unit, left] = [0, 1, tap];
        for (let axis = kernel.length - 1; axis >= 0; axis--) {
          const offset = left % kernel[axis];
          left = Math.floor(left / kernel[axis]);
          const x = place[axis] * strides[axis] - padsBegin[axis] + offset * dilations[axis];
          if (x < 0 || x >= input[axis]) pixel = Number.NaN;
          pixel += x * unit;
          unit *= input[axis];
        }
        under[p * taps + tap] = Number.isNaN(pixel) ? -1 : pixel;
      }
    }
    this.#seen += positions;
    const fields = new Float32Array(positions * perGroup * taps);
    for (const [group, moments] of this.moments.entries()) {
      let at = 0;
      for (let p = 0; p < positions; p++) {
        for (let c = 0; c < perGroup; c++) {
          const plane = (images[p] * channels + group * perGroup + c) * pixels;
          for (let tap = 0; tap < taps; tap++) {
            const pixel = under[p * taps + tap];
            fields[at++] = pixel < 0 ? 0 : data[plane + pixel];
          }
        }
      }
      moments.add(fields);
    }
  }
}

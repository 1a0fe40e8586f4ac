/**
 * Convolution and pooling over rows, images and volumes: the native road against run(), whichever axes a window mixes. A
 * volume takes the road of an image wherever it can, so the table has windows of every kind.
 */
import assert from 'node:assert/strict';
import type { AttributeInit } from '../../lib/graph/attributes';
import { Graph } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { lookupOp } from '../../lib/ops/registry';
import { InferenceSession } from '../../lib/runtime/session';
import { Tensor } from '../../lib/tensor/tensor';
import { evaluate } from './evaluate';
import { Random, scale, zeroPoint } from './random';

const ints = (...value: number[]) => ({ kind: 'ints', value }) as const;
const int = (value: number) => ({ kind: 'int', value }) as const;

interface Window {
  kernel: [number, number, number];
  attributes: AttributeInit;
}

const WINDOWS: Record<string, Window> = {
  'pixels of a volume': { kernel: [1, 1, 1], attributes: {} },
  'slices alone': { kernel: [1, 3, 3], attributes: { pads: ints(0, 1, 1, 0, 1, 1) } },
  'depth alone': { kernel: [3, 1, 1], attributes: { pads: ints(1, 0, 0, 0, 0, 0), dilations: ints(2, 1, 1) } },
  'depth and strided rows': { kernel: [2, 1, 2], attributes: { strides: ints(2, 2, 1) } },
  'all axes': { kernel: [3, 3, 3], attributes: { pads: ints(1, 1, 1, 1, 1, 1) } },
  'all axes, strided, dilated, unevenly padded': {
    kernel: [2, 3, 2],
    attributes: { strides: ints(2, 1, 2), dilations: ints(1, 2, 2), pads: ints(1, 0, 2, 0, 3, 1) },
  },
  'a strided depth of one': { kernel: [1, 2, 2], attributes: { strides: ints(3, 1, 1) } },
};

const DIMS = [2, 4, 5, 6, 7];

function graphOf(
  node: { op: string; domain?: string; attributes: AttributeInit },
  x: Tensor,
  constants: readonly (Tensor | null)[],
): Graph {
  const graph = new Graph('volume', {
    opsets: new Map([
      ['', 19],
      ['com.microsoft', 1],
    ]),
  });
  const input = graph.newValue('x', { dtype: x.type, shape: x.dims });
  graph.inputs.push(input);
  const rest = constants.map((tensor) => tensor && graph.newConstant('c', tensor));
  graph.outputs.push(
    graph.addNode({ name: 'node', ...node, inputs: [input, ...rest], outputs: [graph.newValue('y')] }).output,
  );
  inferShapes(graph, lookupOp);
  return graph;
}

/** Both roads; floats to the rounding of sums, integers exactly. */
function check(node: Parameters<typeof graphOf>[0], x: Tensor, constants: readonly (Tensor | null)[] = []): void {
  for (const [op, road] of compare(graphOf(node, x, constants), x)) assert.equal(road, 'native', op);
}

/** The operators that ran and their roads. */
function compare(graph: Graph, x: Tensor): [op: string, road: string][] {
  const [expected] = evaluate(graph, [x]);
  using session = InferenceSession.fromGraph(graph.clone());
  const [y] = session.outputNames;
  const actual = session.runSync({ x })[y];
  assert.deepEqual(actual.dims, expected.dims);
  const [got, want] = [actual.data, expected.data] as [Float32Array, Float32Array];
  for (let i = 0; i < want.length; i++) {
    const bound = expected.type === 'float32' ? 2e-5 * (1 + Math.abs(want[i])) : 0;
    assert.ok(Math.abs(got[i] - want[i]) <= bound, `element ${i} is ${got[i]}, expected ${want[i]}`);
  }
  return session.nodes.map(({ op, road }) => [op, road]);
}

describe('operators: windows over volumes', () => {
  for (const [name, { kernel, attributes }] of Object.entries(WINDOWS)) {
    it(`Conv: ${name}`, () => {
      const random = new Random(3);
      for (const [group, outputs] of [
        [1, 6],
        [2, 6],
        [4, 4],
      ]) {
        const weights = random.floats([outputs, 4 / group, ...kernel]);
        check({ op: 'Conv', attributes: { ...attributes, group: int(group) } }, random.floats(DIMS), [
          weights,
          random.floats([outputs]),
        ]);
      }
    });

    for (const dtype of ['uint8', 'int8'] as const) {
      it(`QLinearConv, ${dtype}: ${name}`, () => {
        const random = new Random(4);
        // Few channels, which images have a road of their own for; some; and one each.
        for (const [channels, group, outputs] of [
          [3, 1, 5],
          [16, 1, 20],
          [16, 2, 8],
          [16, 16, 16],
        ]) {
          const x = random.codes(dtype, [2, channels, ...DIMS.slice(2)]);
          check({ op: 'QLinearConv', attributes: { ...attributes, group: int(group) } }, x, [
            scale(0.02),
            zeroPoint(dtype, dtype === 'int8' ? -5 : 110),
            random.codes('int8', [outputs, channels / group, ...kernel]),
            scale(0.01),
            zeroPoint('int8', 0),
            scale(0.5),
            zeroPoint('uint8', 100),
            random.ints([outputs], -3000, 3000),
          ]);
        }
      });
    }

    it(`pooling: ${name}`, () => {
      const random = new Random(5);
      const withKernel: AttributeInit = { ...attributes, kernel_shape: ints(...kernel) };
      // A window must not lie in the padding alone.
      if (name.includes('unevenly')) delete withKernel.pads;
      check({ op: 'MaxPool', attributes: withKernel }, random.floats(DIMS));
      check({ op: 'MaxPool', attributes: withKernel }, random.codes('int8', DIMS));
      for (const counts of [0, 1])
        check(
          { op: 'AveragePool', attributes: { ...withKernel, count_include_pad: int(counts) } },
          random.floats(DIMS),
        );
      if (attributes.dilations) return;
      check(
        { op: 'QLinearAveragePool', domain: 'com.microsoft', attributes: { ...withKernel, count_include_pad: int(1) } },
        random.codes('uint8', DIMS),
        [scale(0.1), zeroPoint('uint8', 120), scale(0.05), zeroPoint('uint8', 130)],
      );
    });
  }

  it('pools whole volumes', () => {
    const random = new Random(6);
    for (const op of ['GlobalAveragePool', 'GlobalMaxPool']) check({ op, attributes: {} }, random.floats(DIMS));
    check({ op: 'QLinearGlobalAveragePool', domain: 'com.microsoft', attributes: {} }, random.codes('uint8', DIMS), [
      scale(0.1),
      zeroPoint('uint8', 120),
      scale(0.05),
      zeroPoint('uint8', 130),
    ]);
  });

  describe('what follows a convolution of volumes, channels last', () => {
    const random = new Random(8);
    const int64 = (...values: number[]) => new Tensor('int64', values);
    type Link = [op: string, constants: (Tensor | null)[], attributes?: AttributeInit];
    const links: Link[] = [
      ['BatchNormalization', [random.floats([6]), random.floats([6]), random.floats([6]), random.floats([6], 0.5, 2)]],
      ['Add', [random.floats([6, 1, 1, 1])]],
      ['Mul', [random.floats([7])]],
      ['Softmax', [], { axis: int(1) }],
      ['Transpose', [], { perm: ints(0, 2, 3, 4, 1) }],
      ['Transpose', [], { perm: ints(4, 1, 0, 3, 2) }],
      ['ReduceMean', [int64(2, 4)], { keepdims: int(0) }],
      ['Slice', [int64(1, 0), int64(5, 3), int64(1, 4), int64(2, 1)]],
      ['Pad', [int64(0, 1, 0, 2, 0, 0, 0, 1, 0, 1)]],
      ['Reshape', [int64(0, -1)]],
      ['Gather', [int64(3, 0)], { axis: int(1) }],
      ['Resize', [null, new Tensor('float32', [1, 1, 1, 2, 2])]],
      ['LayerNormalization', [random.floats([7]), random.floats([7])]],
      ['Tile', [int64(1, 2, 1, 1, 2)]],
      ['MaxPool', [], { kernel_shape: ints(2, 2, 2) }],
    ];
    for (const [op, constants, attributes = {}] of links) {
      it(op, () => {
        const graph = new Graph('volume', { opsets: new Map([['', 18]]) });
        const x = graph.newValue('x', { dtype: 'float32', shape: DIMS });
        graph.inputs.push(x);
        const w = graph.newConstant('w', random.floats([6, 4, 2, 2, 1]));
        const conv = graph.addNode({ name: 'conv', op: 'Conv', inputs: [x, w], outputs: [graph.newValue('c')] });
        const rest = constants.map((tensor) => tensor && graph.newConstant('k', tensor));
        const outputs = [graph.newValue('y')];
        graph.outputs.push(
          graph.addNode({ name: 'node', op, attributes, inputs: [conv.output, ...rest], outputs }).output,
        );
        inferShapes(graph, lookupOp);
        compare(graph, random.floats(DIMS));
      });
    }
  });
});

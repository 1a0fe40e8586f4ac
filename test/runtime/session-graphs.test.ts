/** The same graph through native code, through the interpreter and through onnxruntime: one table of graphs. */
import assert from 'node:assert/strict';
import type { Graph } from '../../lib/graph/graph';
import { interpret } from '../../lib/runtime/interpret';
import { InferenceSession } from '../../lib/runtime/session';
import type { Tensor } from '../../lib/tensor/tensor';
import { assertClose, codes, float, GraphBuilder, int, ints, modelBytes, noise, runOrt } from './helpers';

interface Case {
  name: string;
  graph: Graph;
  feeds: Record<string, Tensor>;
  /** Allowed difference to onnxruntime, and to the interpreter: relative for floats, codes for integers. */
  ort: number;
  own: number;
  /** Operators that may run in TypeScript. */
  typescript?: string[];
}

const FLOAT = { dtype: 'float32' as const };
const BYTE = { dtype: 'uint8' as const };

function floatCase(
  name: string,
  dims: readonly number[],
  build: (b: GraphBuilder, x: ReturnType<GraphBuilder['input']>) => ReturnType<GraphBuilder['input']>,
  typescript?: string[],
): Case {
  const b = new GraphBuilder();
  const x = b.input('x', 'float32', dims);
  return {
    name,
    graph: b.outputs([build(b, x)], [FLOAT]),
    feeds: { x: noise(dims, 2) },
    ort: 1e-4,
    own: 1e-4,
    typescript,
  };
}

const CONV = { pads: ints(1, 1, 1, 1) };

const cases: Case[] = [
  floatCase('a residual network', [2, 3, 16, 15], (b, x) => {
    const stem = b.node('Relu', [
      b.node('Conv', [x, b.weights([8, 3, 3, 3]), b.weights([8])], { ...CONV, strides: ints(2, 2) }),
    ]);
    const pool = b.node('MaxPool', [stem], { kernel_shape: ints(3, 3), pads: ints(1, 1, 1, 1) });
    const depthwise = b.node('Conv', [pool, b.weights([8, 1, 3, 3]), b.weights([8])], { ...CONV, group: int(8) });
    const point = b.node('Conv', [b.node('HardSwish', [depthwise]), b.weights([8, 8, 1, 1])]);
    const sum = b.node('Add', [point, pool]);
    const head = b.node('Flatten', [b.node('GlobalAveragePool', [b.node('Relu', [sum])])]);
    return b.node('Softmax', [b.node('Gemm', [head, b.weights([10, 8]), b.weights([10])], { transB: int(1) })], {
      axis: int(1),
    });
  }),
  floatCase('squeeze and excitation with broadcasting', [1, 4, 7, 5], (b, x) => {
    const conv = b.node('Conv', [x, b.weights([6, 4, 3, 3])], CONV);
    const gate = b.node('Sigmoid', [b.node('Conv', [b.node('GlobalAveragePool', [conv]), b.weights([6, 6, 1, 1])])]);
    const scaled = b.node('Mul', [conv, gate]);
    return b.node('Sub', [b.node('Mul', [scaled, b.weights([1, 6, 1, 1])]), b.weights([5])]);
  }),
  floatCase('a grouped and a dilated convolution', [2, 4, 11, 11], (b, x) => {
    const grouped = b.node('Conv', [x, b.weights([6, 2, 3, 3]), b.weights([6])], {
      group: int(2),
      pads: ints(0, 1, 2, 0),
    });
    return b.node('Conv', [grouped, b.weights([5, 6, 3, 3])], { dilations: ints(2, 2), strides: ints(1, 2) });
  }),
  floatCase('a 1-D convolution', [2, 3, 20], (b, x) => {
    const conv = b.node('Conv', [x, b.weights([4, 3, 5]), b.weights([4])], { pads: ints(2, 2), strides: ints(2) });
    return b.node('Tanh', [b.node('Transpose', [conv], { perm: ints(0, 2, 1) })]);
  }),
  floatCase('pooling with padding', [1, 3, 9, 9], (b, x) => {
    const average = b.node('AveragePool', [x], {
      kernel_shape: ints(3, 3),
      strides: ints(2, 2),
      pads: ints(1, 1, 1, 1),
    });
    const counted = b.node('AveragePool', [average], {
      kernel_shape: ints(2, 2),
      pads: ints(1, 1, 0, 0),
      count_include_pad: int(1),
    });
    return b.node('MaxPool', [counted], { kernel_shape: ints(2, 2), strides: ints(2, 2), ceil_mode: int(1) });
  }),
  floatCase('attention', [2, 6, 8], (b, x) => {
    const project = (seed: number): ReturnType<GraphBuilder['input']> => {
      const y = b.node('Add', [b.node('MatMul', [x, b.weights([8, 8], 0.5, seed)]), b.weights([8], 0.5, seed)]);
      const heads = b.node('Reshape', [y, b.constant('int64', [0, 6, 2, 4])]);
      return b.node('Transpose', [heads], { perm: seed === 2 ? ints(0, 2, 3, 1) : ints(0, 2, 1, 3) });
    };
    const [q, k, v] = [project(1), project(2), project(3)];
    const scores = b.node('Softmax', [b.node('Div', [b.node('MatMul', [q, k]), b.constant('float32', [2], [])])], {
      axis: int(-1),
    });
    const mixed = b.node('Transpose', [b.node('MatMul', [scores, v])], { perm: ints(0, 2, 1, 3) });
    const sum = b.node('Add', [x, b.node('Reshape', [mixed, b.constant('int64', [0, 0, 8])])]);
    return b.node('LayerNormalization', [sum, b.weights([8]), b.weights([8])], { axis: int(-1), epsilon: float(1e-5) });
  }),
  floatCase('gelu as exporters write it', [3, 10], (b, x) => {
    const erf = b.node('Erf', [b.node('Div', [x, b.constant('float32', [Math.SQRT2], [])])]);
    const product = b.node('Mul', [x, b.node('Add', [erf, b.constant('float32', [1], [])])]);
    return b.node('Mul', [product, b.constant('float32', [0.5], [])]);
  }),
  floatCase('moves of channels-last data', [1, 4, 6, 6], (b, x) => {
    const conv = b.node('Conv', [x, b.weights([4, 4, 1, 1])]);
    const padded = b.node('Pad', [conv, b.constant('int64', [0, 0, 1, 0, 0, 0, 0, 2])]);
    const cut = b.node('Slice', [
      padded,
      b.constant('int64', [1, 7]),
      b.constant('int64', [6, 0]),
      b.constant('int64', [2, 3]),
      b.constant('int64', [1, -2]),
    ]);
    const joined = b.node('Concat', [cut, b.node('Relu', [cut])], { axis: int(1) });
    const gathered = b.node('Gather', [joined, b.constant('int64', [3, 0, 7])], { axis: int(1) });
    return b.node('Resize', [gathered, null, b.constant('float32', [1, 1, 2, 2])], {
      mode: { kind: 'string', value: 'nearest' },
      coordinate_transformation_mode: { kind: 'string', value: 'asymmetric' },
      nearest_mode: { kind: 'string', value: 'floor' },
    });
  }),
  floatCase('reductions and powers', [2, 3, 4], (b, x) => {
    const mean = b.node('ReduceMean', [x], { axes: ints(-1), keepdims: int(1) });
    const centered = b.node('Sub', [x, mean]);
    const variance = b.node('ReduceMean', [b.node('Pow', [centered, b.constant('float32', [2], [])])], {
      axes: ints(-1),
      keepdims: int(1),
    });
    return b.node('Div', [centered, b.node('Sqrt', [b.node('Add', [variance, b.constant('float32', [1e-5], [])])])]);
  }),
];

function quantized(
  b: GraphBuilder,
  scale: number,
  zeroPoint: number,
  type: 'uint8' | 'int8' = 'uint8',
): ReturnType<GraphBuilder['input']>[] {
  return [b.constant('float32', [scale], []), b.constant(type, [zeroPoint], [])];
}

function codeCase(
  name: string,
  dims: readonly number[],
  ort: number,
  build: (b: GraphBuilder, x: ReturnType<GraphBuilder['input']>) => ReturnType<GraphBuilder['input']>,
): Case {
  const b = new GraphBuilder();
  const x = b.input('x', 'uint8', dims);
  return { name, graph: b.outputs([build(b, x)], [BYTE]), feeds: { x: codes('uint8', dims, 0, 255) }, ort, own: 0 };
}

cases.push(
  codeCase('QLinearConv, per channel, with padding', [2, 3, 9, 8], 0, (b, x) => {
    const w = b.graph.newConstant('w', codes('int8', [20, 3, 3, 3], -64, 64));
    const scales = b.constant(
      'float32',
      Array.from({ length: 20 }, (_, i) => 0.002 + i * 0.0003),
    );
    const zeros = b.constant('int8', new Int8Array(20));
    const bias = b.constant(
      'int32',
      Array.from({ length: 20 }, (_, i) => 400 * (i - 10)),
    );
    return b.node(
      'QLinearConv',
      [x, ...quantized(b, 0.02, 120), w, scales, zeros, ...quantized(b, 0.03, 131), bias],
      CONV,
    );
  }),
  codeCase('QLinearConv, u8 weights, depthwise behind a pointwise', [1, 8, 7, 7], 0, (b, x) => {
    const w = b.graph.newConstant('w', codes('uint8', [16, 8, 1, 1], 0, 255));
    const point = b.node('QLinearConv', [
      x,
      ...quantized(b, 0.02, 3),
      w,
      ...quantized(b, 0.01, 128),
      ...quantized(b, 0.05, 100),
    ]);
    const depthwise = b.graph.newConstant('d', codes('uint8', [16, 1, 3, 3], 0, 255, 2));
    return b.node(
      'QLinearConv',
      [point, ...quantized(b, 0.05, 100), depthwise, ...quantized(b, 0.01, 117), ...quantized(b, 0.04, 90)],
      { ...CONV, group: int(16), strides: ints(2, 2) },
    );
  }),
  codeCase('QLinearMatMul with packed and with run-time right side', [2, 5, 12], 0, (b, x) => {
    const w = b.graph.newConstant('w', codes('uint8', [12, 7], 0, 255));
    const y = b.node('QLinearMatMul', [
      x,
      ...quantized(b, 0.02, 120),
      w,
      ...quantized(b, 0.01, 110),
      ...quantized(b, 0.05, 100),
    ]);
    const t = b.node('Transpose', [y], { perm: ints(0, 2, 1) });
    return b.node('QLinearMatMul', [
      y,
      ...quantized(b, 0.05, 100),
      t,
      ...quantized(b, 0.05, 100),
      ...quantized(b, 1.5, 90),
    ]);
  }),
  codeCase('QGemm', [5, 12], 0, (b, x) => {
    const w = b.graph.newConstant('w', codes('uint8', [7, 12], 0, 255));
    const bias = b.constant('int32', [1, -500, 300, 40, 0, 77, 1000]);
    return b.node(
      'QGemm',
      [x, ...quantized(b, 0.02, 120), w, ...quantized(b, 0.01, 128), bias, ...quantized(b, 0.05, 100)],
      { transB: int(1) },
      'com.microsoft',
    );
  }),
  codeCase('QLinearGlobalAveragePool', [2, 10, 7, 7], 0, (b, x) =>
    b.node(
      'QLinearGlobalAveragePool',
      [x, ...quantized(b, 0.02, 120), ...quantized(b, 0.01, 100)],
      { channels_last: int(0) },
      'com.microsoft',
    ),
  ),
  codeCase('QLinearAdd and QLinearMul with broadcasting', [2, 6, 5, 5], 1, (b, x) => {
    const c = b.graph.newConstant('k', codes('uint8', [1, 6, 1, 1], 0, 255));
    const sum = b.node(
      'QLinearAdd',
      [x, ...quantized(b, 0.02, 120), c, ...quantized(b, 0.03, 90), ...quantized(b, 0.04, 110)],
      {},
      'com.microsoft',
    );
    return b.node(
      'QLinearMul',
      [sum, ...quantized(b, 0.04, 110), x, ...quantized(b, 0.02, 120), ...quantized(b, 0.1, 128)],
      {},
      'com.microsoft',
    );
  }),
  codeCase('QLinearAveragePool', [1, 4, 8, 8], 1, (b, x) =>
    b.node(
      'QLinearAveragePool',
      [x, ...quantized(b, 0.02, 120), ...quantized(b, 0.025, 100)],
      { kernel_shape: ints(3, 3), strides: ints(2, 2), pads: ints(1, 1, 1, 1) },
      'com.microsoft',
    ),
  ),
  codeCase('MaxPool and Concat of codes', [1, 4, 8, 8], 0, (b, x) => {
    const pool = b.node('MaxPool', [x], { kernel_shape: ints(3, 3), pads: ints(1, 1, 1, 1) });
    return b.node('Concat', [pool, x], { axis: int(1) });
  }),
);

{
  const b = new GraphBuilder();
  const x = b.input('x', 'float32', [2, 3, 8, 8]);
  const pair = (
    value: ReturnType<GraphBuilder['input']>,
    scale: number,
    zeroPoint: number,
  ): ReturnType<GraphBuilder['input']> => {
    const parameters = quantized(b, scale, zeroPoint);
    return b.node('DequantizeLinear', [b.node('QuantizeLinear', [value, ...parameters]), ...parameters]);
  };
  const w = b.node('DequantizeLinear', [
    b.graph.newConstant('w', codes('uint8', [8, 3, 3, 3], 64, 192)),
    ...quantized(b, 0.01, 128),
  ]);
  const v = b.node('DequantizeLinear', [
    b.graph.newConstant('v', codes('uint8', [8, 8, 1, 1], 64, 192)),
    ...quantized(b, 0.02, 128),
  ]);
  const conv = pair(b.node('Relu', [b.node('Conv', [pair(x, 0.02, 128), w], CONV)]), 0.03, 0);
  const next = pair(b.node('Conv', [conv, v]), 0.05, 120);
  const graph = b.outputs([pair(b.node('Add', [next, conv]), 0.06, 100)], [FLOAT]);
  // One code of the last scale, as the sums before rounding differ in the last bit of a float.
  cases.push({ name: 'a residual block in QDQ form', graph, feeds: { x: noise([2, 3, 8, 8], 2) }, ort: 0.061, own: 0 });
}

describe('InferenceSession on small graphs', () => {
  for (const { name, graph, feeds, ort, own, typescript = [] } of cases) {
    it(name, async () => {
      const want = await runOrt(modelBytes(graph), feeds);
      const slow = interpret(graph, feeds);
      const session = await InferenceSession.create(modelBytes(graph));
      const got = await session.run(feeds);
      const left = session.nodes.filter((node) => node.road === 'typescript' && !typescript.includes(node.op));
      assert.deepEqual(
        left.map((node) => node.op),
        [],
        'nodes that do not run natively',
      );
      for (const output of session.outputNames) {
        assertClose(slow[output], want[output], ort, `interpreter against onnxruntime: ${output}`);
        assertClose(got[output] as Tensor, want[output], ort, `session against onnxruntime: ${output}`);
        // QDQ is fused by the session and not by the interpreter; elsewhere codes must be the same bits.
        assertClose(
          got[output] as Tensor,
          slow[output],
          name.includes('QDQ') ? ort : own,
          `session against interpreter: ${output}`,
        );
        const again = session.runSync(feeds)[output] as Tensor;
        assert.deepEqual(again.data, got[output].data, 'runSync gives the same bits');
      }
      await session.release();
    });
  }
});

import assert from 'node:assert/strict';
import type { Value } from '../../lib/graph/graph';
import { interpret } from '../../lib/runtime/interpret';
import { InferenceSession } from '../../lib/runtime/session';
import type { Tensor } from '../../lib/tensor/tensor';
import { assertClose, codes, GraphBuilder, int, ints, modelBytes } from './helpers';

const SHAPE = [2, 8, 5, 7];

class CodeGraph extends GraphBuilder {
  params(scale = 0.02, zeroPoint = 100): Value[] {
    return [this.constant('float32', [scale], []), this.constant('uint8', [zeroPoint], [])];
  }
  conv(x: Value, kernel: number, group = 1): Value {
    const w = this.graph.newConstant('w', codes('int8', [8, 8 / group, kernel, kernel], -128, 127, kernel + group));
    const pad = kernel >> 1;
    const weights = [w, this.constant('float32', [0.002], []), this.constant('int8', [0], [])];
    return this.node('QLinearConv', [x, ...this.params(), ...weights, ...this.params()], {
      pads: ints(pad, pad, pad, pad),
      group: int(group),
    });
  }
  add(a: Value, b: Value): Value {
    const inputs = [a, ...this.params(), b, ...this.params(0.03, 90), ...this.params()];
    return this.node('QLinearAdd', inputs, {}, 'com.microsoft');
  }
  sigmoid(x: Value): Value {
    return this.node('QLinearSigmoid', [x, ...this.params(), ...this.params(1 / 256, 0)], {}, 'com.microsoft');
  }
  real(x: Value): Value {
    return this.node('DequantizeLinear', [x, ...this.params()]);
  }
}

/** The steps of a graph with input x, whose results must be those of the interpreter. */
async function stepsOf(make: (b: CodeGraph, x: Value) => Value[], type: 'uint8' | 'float32' = 'uint8') {
  const b = new CodeGraph();
  const x = b.input('x', 'uint8', SHAPE);
  const outputs = make(b, x);
  const graph = b.outputs(
    outputs,
    outputs.map(() => ({ dtype: type })),
  );
  const feeds = { x: codes('uint8', SHAPE, 0, 255, 5) };
  const want = interpret(graph, feeds);
  using session = await InferenceSession.create(modelBytes(graph));
  const got = await session.run(feeds);
  for (const name of session.outputNames) assertClose(got[name] as Tensor, want[name], 0, name);
  return session.profile(feeds).map(({ step, kernel }) => `${step} ${kernel}`.trim());
}

describe('joined steps', () => {
  it('finish convolutions of every kind', async () => {
    for (const [kernel, group, way] of [
      [1, 1, 'pointwise'],
      [3, 1, 'rows'],
      [3, 8, 'depthwise'],
      [3, 2, 'window'],
    ] as const) {
      const steps = await stepsOf((b, x) => [b.sigmoid(b.add(x, b.conv(x, kernel, group)))]);
      assert.deepEqual(steps, ['strided_copy', `qconv ${way} + add + lut`, 'strided_copy']);
    }
  });

  it('add at the later of two convolutions', async () => {
    const steps = await stepsOf((b, x) => [b.add(b.conv(x, 1), b.conv(x, 3))]);
    assert.deepEqual(steps, ['strided_copy', 'qconv pointwise', 'qconv rows + add', 'strided_copy']);
  });

  it('leave what has a second reader, or is an output', async () => {
    const twice = await stepsOf((b, x) => {
      const y = b.conv(x, 1);
      return [b.add(b.sigmoid(y), b.conv(y, 1))];
    });
    assert.deepEqual(twice, ['strided_copy', 'qconv pointwise', 'qconv pointwise', 'lut', 'qbinary', 'strided_copy']);
    const seen = await stepsOf((b, x) => {
      const y = b.node('Flatten', [b.node('GlobalMaxPool', [b.conv(x, 1)])]);
      return [y];
    });
    assert.ok(!seen.some((step) => step.includes('+')));
  });

  it('write to parts of a concatenation, with a table where scales differ', async () => {
    const steps = await stepsOf((b, x) => {
      const inputs = [
        ...b.params(),
        b.conv(x, 1),
        ...b.params(),
        x,
        ...b.params(),
        b.conv(x, 3),
        ...b.params(0.03, 90),
      ];
      return [b.node('QLinearConcat', inputs, { axis: int(1) }, 'com.microsoft')];
    });
    assert.deepEqual(steps, ['strided_copy', 'qconv pointwise', 'qconv rows + lut', 'concat', 'strided_copy']);
    const all = await stepsOf((b, x) => {
      const inputs = [...b.params(), b.conv(x, 1), ...b.params(), b.sigmoid(b.conv(x, 3)), ...b.params(1 / 256, 0)];
      return [b.node('QLinearConcat', inputs, { axis: int(1) }, 'com.microsoft')];
    });
    assert.deepEqual(all, ['strided_copy', 'qconv pointwise', 'qconv rows + lut + lut', 'strided_copy']);
  });

  it('dequantize and change the layout in one', async () => {
    const steps = await stepsOf((b, x) => [b.real(b.conv(x, 1))], 'float32');
    assert.deepEqual(steps, ['strided_copy', 'qconv pointwise', 'dequantize_nchw']);
  });

  describe('make chains of float operators', () => {
    const row = (b: CodeGraph) => b.constant('float32', [1, -2, 3, -4, 5, -6, 7]);
    const number = (b: CodeGraph, value: number) => b.constant('float32', [value], []);

    it('with operands of every form, on either side', async () => {
      const steps = await stepsOf((b, x) => {
        const real = b.real(x);
        const divided = b.node('Div', [number(b, 3), b.node('Abs', [b.node('Sub', [real, number(b, 0.01)])])]);
        const added = b.node('Add', [b.node('Max', [divided, row(b)]), row(b)]);
        return [b.node('Mul', [real, b.node('Relu', [added])])];
      }, 'float32');
      assert.deepEqual(steps, ['dequantize', 'chain']);
    });

    it('over the memory of what they read last', async () => {
      const steps = await stepsOf((b, x) => {
        const real = b.real(x);
        const product = b.node('Mul', [b.node('Relu', [b.node('Sub', [real, number(b, 0.5)])]), real]);
        return [b.node('Transpose', [product], { perm: ints(0, 3, 1, 2) })];
      }, 'float32');
      assert.deepEqual(steps, ['dequantize', 'chain', 'strided_copy']);
    });

    it('but not of what others read, or of operands that run otherwise', async () => {
      const steps = await stepsOf((b, x) => {
        const real = b.node('Relu', [b.real(x)]);
        const columns = b.constant('float32', [1, 2, 3, 4, 5], [5, 1]);
        return [b.node('Mul', [b.node('Abs', [real]), columns]), b.node('Add', [b.node('Neg', [real]), row(b)])];
      }, 'float32');
      assert.deepEqual(steps.sort(), ['binary', 'chain', 'dequantize', 'unary', 'unary']);
      const seen = await stepsOf((b, x) => {
        const inner = b.node('Relu', [b.real(x)]);
        return [inner, b.node('Abs', [inner])];
      }, 'float32');
      assert.deepEqual(seen, ['dequantize', 'unary', 'unary']);
    });
  });
});

/** Transposed convolution, float and 8-bit: the native road against run() for random windows, and run() of codes itself. */
import assert from 'node:assert/strict';
import type { AttributeInit } from '../../lib/graph/attributes';
import { inferShapes } from '../../lib/graph/infer';
import { lookupOp } from '../../lib/ops/registry';
import { InferenceSession } from '../../lib/runtime/session';
import { Tensor } from '../../lib/tensor/tensor';
import { evaluate, runNode, singleNode } from './evaluate';
import { Random, scale, zeroPoint } from './random';

const ints = (...value: number[]) => ({ kind: 'ints', value }) as const;

interface Case {
  group: number;
  x: number[];
  w: number[];
  attributes: AttributeInit;
}

function randomCase(random: Random): Case {
  const rank = random.int(1, 2);
  const axes = <T>(make: () => T): T[] => Array.from({ length: rank }, make);
  const group = random.int(1, 3);
  const kernel = axes(() => random.int(1, 5));
  const strides = axes(() => random.int(1, 3));
  const dilations = axes(() => random.int(1, 3));
  const size = axes(() => random.int(1, 7));
  const extra = strides.map((stride) => random.int(0, stride - 1));
  // Paddings may take away all but one position, and more than the kernel has.
  const full = size.map((n, i) => strides[i] * (n - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1);
  const begin = full.map((n) => random.int(0, Math.min(n - 1, random.int(0, 8))));
  const end = full.map((n, i) => random.int(0, Math.min(n - 1 - begin[i], 3)));
  const depth = random.int(1, 9);
  return {
    group,
    x: [random.int(1, 2), depth * group, ...size],
    w: [depth * group, random.int(1, 9), ...kernel],
    attributes: {
      group: { kind: 'int', value: group },
      strides: ints(...strides),
      dilations: ints(...dilations),
      output_padding: ints(...extra),
      pads: ints(...begin, ...end),
    },
  };
}

/** Asserts that a node runs natively, and returns its result and that of run(). */
function both(op: string, domain: string, feed: Tensor, constants: (Tensor | null)[], attributes: AttributeInit) {
  const { graph } = singleNode(op, [{ dtype: feed.type, shape: feed.dims }, ...constants], { domain, attributes });
  inferShapes(graph, lookupOp);
  const [expected] = evaluate(graph, [feed]);
  const session = InferenceSession.fromGraph(graph);
  assert.deepEqual(
    session.nodes.map(({ road }) => road),
    ['native'],
  );
  const actual = session.runSync({ x0: feed }).y0;
  assert.deepEqual([...actual.dims], [...expected.dims]);
  return { actual, expected };
}

describe('transposed convolution', () => {
  it('float32 equals run() for random windows', () => {
    const random = new Random(1);
    for (let i = 0; i < 150; i++) {
      const { x, w, group, attributes } = randomCase(random);
      const bias = random.int(0, 1) ? random.floats([w[1] * group]) : null;
      const { actual, expected } = both('ConvTranspose', '', random.floats(x), [random.floats(w), bias], attributes);
      for (let k = 0; k < expected.size; k++) {
        const [got, want] = [actual, expected].map(({ data }) => (data as Float32Array)[k]);
        assert.ok(Math.abs(got - want) <= 1e-5 + 1e-5 * Math.abs(want), `case ${i}: [${k}] is ${got}, not ${want}`);
      }
    }
  });

  it('codes equal run() bit by bit for random windows, types, zero points and scales', () => {
    const random = new Random(2);
    for (let i = 0; i < 150; i++) {
      const { x, w, group, attributes } = randomCase(random);
      const channels = w[1] * group;
      const type = () => (random.int(0, 1) ? 'uint8' : 'int8');
      const [xType, wType, yType] = [type(), type(), type()] as const;
      const list = (low: number, high: number) => Array.from({ length: channels }, () => random.int(low, high));
      const [low, high] = wType === 'int8' ? [-128, 127] : [0, 255];
      const perChannel = random.int(0, 1) === 1;
      const constants = [
        scale(0.02),
        zeroPoint(xType, random.int(0, 100)),
        random.codes(wType, w),
        scale(perChannel ? list(1, 90).map((v) => v * 1e-4) : 0.003),
        zeroPoint(wType, perChannel ? list(low, high) : random.int(low, high)),
        scale(0.05),
        zeroPoint(yType, random.int(0, 100)),
        random.int(0, 1) ? random.ints([channels], -9000, 9000) : null,
      ];
      const feed = random.codes(xType, x);
      const { actual, expected } = both('QLinearConvTranspose', 'ai.q8', feed, constants, attributes);
      assert.deepEqual(actual.data, expected.data, `case ${i}`);
    }
  });

  it('of codes is the exact sum, rounded once', () => {
    // 4 * (200 - 100) * (3 - 1) + 10 = 810 at the only position.
    const x = new Tensor('uint8', [200, 200, 200, 200], [1, 4, 1, 1]);
    const w = new Tensor('uint8', [3, 3, 3, 3], [4, 1, 1, 1]);
    const [y] = runNode(
      'QLinearConvTranspose',
      [
        ...[x, scale(0.25), zeroPoint('uint8', 100), w, scale(0.5), zeroPoint('uint8', 1)],
        ...[scale(4), zeroPoint('int8', -7), new Tensor('int32', [10])],
      ],
      { domain: 'ai.q8', attributes: {} },
    );
    // 810 * 0.25 * 0.5 / 4 = 25.3125
    assert.deepEqual([...y.data], [25 - 7]);
  });
});

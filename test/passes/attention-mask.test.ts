/**
 * What masks are recognized as, in the words of several exporters. Attention with them, beside onnxruntime: transformers.test.ts
 * and test/quantize/torch-exports.test.ts.
 */
import assert from 'node:assert/strict';
import type { Value } from '../../lib/graph/graph';
import { inferShapes } from '../../lib/graph/infer';
import { lookupOp } from '../../lib/ops/registry';
import { type Mask, unmask } from '../../lib/passes/attention-mask';
import { Tensor } from '../../lib/tensor/tensor';
import { int, NetworkBuilder } from '../quantize/networks';

const [BATCH, LENGTH, HEADS] = ['batch', 'length', 4];
const BOOL = 9;

/** Scores and what masks are made of. */
class Scores extends NetworkBuilder {
  readonly product: Value;
  readonly #length: Value;

  constructor() {
    super(17);
    const q = this.input('q', [BATCH, HEADS, LENGTH, 8]);
    const k = this.input('k', [BATCH, HEADS, 8, LENGTH]);
    this.product = this.node('MatMul', 'product', [q, k]);
    const shape = this.node('Shape', 'q_shape', [q]);
    this.#length = this.node('Gather', 'sequence', [shape, this.ints('two', 2)], { axis: int(0) });
  }

  ints(name: string, ...values: number[]): Value {
    return this.constant(name, new Tensor('int64', values, values.length === 1 ? [] : [values.length]));
  }

  axes(name: string, ...values: number[]): Value {
    return this.constant(name, new Tensor('int64', values));
  }

  float(name: string, value: number): Value {
    return this.constant(name, new Tensor('float32', [value], []));
  }

  /** An input of ids or masks. */
  tensor(name: string, dtype: 'int64' | 'bool' | 'float32', shape: (string | number)[]): Value {
    const value = this.input(name, shape);
    value.type = { dtype, shape };
    return value;
  }

  /** 0, 1, 2... along an axis of [1, 1, length, length]. */
  places(name: string, axis: 2 | 3): Value {
    const range = this.node('Range', `${name}_range`, [
      this.ints(`${name}_0`, 0),
      this.#length,
      this.ints(`${name}_1`, 1),
    ]);
    const others = [0, 1, 2, 3].filter((each) => each !== axis);
    return this.node('Unsqueeze', name, [range, this.axes(`${name}_axes`, ...others)]);
  }

  /** 0 where the condition holds, else the lowest float. */
  added(condition: Value, filter = -3.4e38): Value {
    return this.node('Where', 'added', [condition, this.float('zero', 0), this.float('filter', filter)]);
  }

  maskOf(masked: Value): Mask | 'none' | undefined {
    inferShapes(this.graph, lookupOp);
    const found = unmask(masked, BATCH, LENGTH);
    if (!found) return undefined;
    assert.equal(found.product, this.product);
    return found.mask ?? 'none';
  }

  sum(mask: Value): Value {
    return this.node('Add', 'sum', [this.product, mask]);
  }
}

describe('passes: masks of attention', () => {
  const net = (build: (scores: Scores) => Value): [Mask | 'none' | undefined, Scores] => {
    const scores = new Scores();
    return [scores.maskOf(build(scores)), scores];
  };

  it('none, also when a condition always holds', () => {
    assert.equal(net((s) => s.product)[0], 'none');
    const always = net((s) =>
      s.sum(s.added(s.node('GreaterOrEqual', 'always', [s.places('p', 2), s.ints('none', 0)]))),
    );
    assert.equal(always[0], 'none');
    assert.equal(net((s) => s.sum(s.constant('zeros', Tensor.zeros('float32', [1]))))[0], 'none');
  });

  it('keys: (1 - mask) * filter, where(mask == 0), conditions gathered by places', () => {
    const words: ((s: Scores) => Value)[] = [
      (s) => {
        const four = s.node('Unsqueeze', 'four', [s.tensor('mask', 'int64', [BATCH, LENGTH]), s.axes('axes', 1, 2)]);
        const real = s.node('Cast', 'real', [four], { to: int(1) });
        return s.sum(
          s.node('Mul', 'm', [s.node('Sub', 'inverse', [s.float('one', 1), real]), s.float('filter', -10000)]),
        );
      },
      (s) => {
        const isZero = s.node('Equal', 'is_zero', [s.tensor('mask', 'int64', [BATCH, LENGTH]), s.ints('nothing', 0)]);
        const four = s.node('Reshape', 'four', [isZero, s.axes('shape', 0, 1, 1, -1)]);
        const all = s.node('Expand', 'all', [four, s.node('Shape', 'scores_shape', [s.product])]);
        return s.node('Where', 'masked', [all, s.float('filter', -10000), s.product]);
      },
      (s) => {
        // Element [b, j] of the mask as element b * length + j of all.
        const mask = s.tensor('mask', 'int64', [BATCH, LENGTH]);
        const size = (name: string, axis: number): Value =>
          s.node('Gather', name, [s.node('Shape', `${name}_shape`, [mask]), s.ints(`${name}_axis`, axis)], {
            axis: int(0),
          });
        const zero = s.ints('first', 0);
        const items = s.node('Range', 'items', [zero, size('count', 0), s.ints('step', 1)]);
        const starts = s.node('Mul', 'starts', [
          s.node('Unsqueeze', 'items4', [items, s.axes('item_axes', 1, 2, 3)]),
          size('width', 1),
        ]);
        const index = s.node('Add', 'index', [s.places('keys', 3), starts]);
        const flat = s.node('Reshape', 'flat', [mask, s.axes('minus', -1)]);
        const seen = s.node('Cast', 'seen', [s.node('Gather', 'picked', [flat, index], { axis: int(0) })], {
          to: int(BOOL),
        });
        return s.sum(s.added(seen, -10000));
      },
    ];
    for (const build of words) {
      const [mask, scores] = net(build);
      const value = scores.graph.inputs.find(({ name }) => name === 'mask')!;
      assert.deepEqual(mask, { causal: false, seen: { value, ones: [] }, filter: -10000 });
    }
  });

  it('the future: compared places, a triangle, Trilu, all with keys or without', () => {
    const triangle = new Tensor(
      'bool',
      Array.from({ length: 36 }, (_, i) => Number(i % 6 <= Math.floor(i / 6))),
      [1, 1, 6, 6],
    );
    const words: ((s: Scores) => Value)[] = [
      (s) => s.added(s.node('LessOrEqual', 'seen', [s.places('k', 3), s.places('q', 2)])),
      (s) => {
        const next = s.node('Add', 'next', [s.places('q', 2), s.ints('one', 1)]);
        return s.added(s.node('Less', 'seen', [s.places('k', 3), next]));
      },
      (s) => s.added(s.node('Not', 'seen', [s.node('Greater', 'unseen', [s.places('k', 3), s.places('q', 2)])])),
      (s) => {
        const all = s.node('Expand', 'all', [s.float('low', -1e9), s.node('Shape', 'shape', [s.product])]);
        return s.node('Trilu', 'beyond', [all, s.ints('diagonal', 1)], { upper: int(1) });
      },
    ];
    for (const build of words) {
      const [mask] = net((s) => s.sum(build(s)));
      assert.ok(mask && mask !== 'none');
      assert.deepEqual([mask.causal, mask.seen], [true, undefined]);
    }
    const [both, scores] = net((s) => {
      // The triangle is as long as the longest sequence, and cut.
      const end = s.node('Shape', 'end', [s.product], { start: int(2), end: int(3) });
      const cut = (name: string, x: Value, axis: number): Value =>
        s.node('Slice', name, [x, s.axes(`${name}_start`, 0), end, s.axes(`${name}_axis`, axis)]);
      const seen = cut('columns', cut('rows', s.constant('triangle', triangle), 2), 3);
      const masked = s.node('Where', 'masked', [seen, s.product, s.float('lowest', -1e9)]);
      const keys = s.node('Unsqueeze', 'keys4', [s.tensor('keys', 'bool', [BATCH, LENGTH]), s.axes('axes', 1, 2)]);
      return s.node('Add', 'sum', [s.added(keys), masked]);
    });
    const keys = scores.graph.inputs.find(({ name }) => name === 'keys')!;
    assert.deepEqual(both, { causal: true, seen: { value: keys, ones: [] }, filter: -1e9 });
  });

  it('pairs: a mask that is more than keys and the future, of each item; conditions that are not told apart', () => {
    const [mask, scores] = net((s) => s.sum(s.added(s.tensor('pairs', 'bool', [BATCH, 1, LENGTH, LENGTH]))));
    const value = scores.graph.inputs.find(({ name }) => name === 'pairs')!;
    assert.deepEqual(mask, { causal: false, seen: { value, ones: [1] }, filter: -1e30 });
    // Either of two masks of keys.
    const [either] = net((s) => {
      const masks = ['a', 'b'].map((name) => s.tensor(name, 'bool', [BATCH, 1, 1, LENGTH]));
      return s.sum(s.added(s.node('Or', 'seen', masks)));
    });
    assert.ok(either && either !== 'none');
    assert.deepEqual([either.seen?.value.name, either.seen?.ones], ['seen', [1, 2]]);
    // Places at most 2 apart, and keys: not told apart, but together they are a tensor.
    const [window] = net((s) => {
      const distance = s.node('Sub', 'distance', [s.places('q', 2), s.places('k', 3)]);
      const near = s.node('Less', 'near', [distance, s.ints('three', 3)]);
      const keys = s.tensor('keys', 'bool', [BATCH, 1, 1, LENGTH]);
      return s.sum(s.added(s.node('And', 'seen', [near, keys])));
    });
    assert.ok(window && window !== 'none');
    assert.deepEqual([window.causal, window.seen?.value.name, window.seen?.ones], [false, 'seen', [1]]);
  });

  it('ids are not taken for a mask where models find padding on their own', () => {
    const ids = (s: Scores): Value =>
      s.node('Unsqueeze', 'ids4', [s.tensor('ids', 'int64', [BATCH, LENGTH]), s.axes('axes', 1, 2)]);
    const words: ((s: Scores) => Value)[] = [
      ...[1, 2, 30000].map((padding) => (s: Scores) => {
        const isPadding = s.node('Equal', 'is_padding', [ids(s), s.ints('padding', padding)]);
        return s.node('Not', 'seen', [isPadding]);
      }),
      (s) => s.node('Cast', 'seen', [s.node('Sub', 'moved', [ids(s), s.ints('padding', 3)])], { to: int(BOOL) }),
      (s) => s.node('Less', 'seen', [ids(s), s.ints('limit', 20)]),
    ];
    for (const build of words) {
      const [mask] = net((s) => s.sum(s.added(build(s))));
      assert.ok(mask && mask !== 'none');
      assert.deepEqual([mask.causal, mask.seen?.value.name, mask.seen?.ones], [false, 'seen', [1, 2]]);
    }
  });

  it('refuses what is no mask', () => {
    const words: ((s: Scores) => Value)[] = [
      // Numbers that do not hide.
      (s) => s.added(s.tensor('mask', 'bool', [BATCH, 1, 1, LENGTH]), -2),
      // A bias for each pair.
      (s) => s.tensor('bias', 'float32', [1, HEADS, LENGTH, LENGTH]),
      // A window of each head alike, without the batch that the operator wants.
      (s) =>
        s.added(
          s.node('Less', 'near', [s.places('q', 2), s.node('Add', 'ahead', [s.places('k', 3), s.ints('three', 3)])]),
        ),
      // Another length of keys.
      (s) => s.added(s.tensor('mask', 'bool', [BATCH, 1, 1, 'others'])),
      // Seen where the mask says not to, beyond the diagonal.
      (s) => s.added(s.node('Less', 'seen', [s.places('q', 2), s.places('k', 3)])),
    ];
    for (const [i, build] of words.entries()) {
      const [mask] = net((s) => s.sum(build(s)));
      assert.equal(mask, undefined, `${i}`);
    }
  });

  it('gives up on graphs that are made to be long', () => {
    const started = performance.now();
    const doubled = (s: Scores, op: string, from: Value): Value => {
      let at = from;
      for (let i = 0; i < 300; i++) at = s.node(op, `${op}${i}`, [at, at]);
      return at;
    };
    // Sums of a sum and itself, as scores, as a condition on places, as an index.
    assert.equal(net((s) => doubled(s, 'Add', s.product))[0], undefined);
    assert.equal(
      net((s) => s.sum(s.added(s.node('Less', 'near', [doubled(s, 'Add', s.places('q', 2)), s.places('k', 3)]))))[0],
      undefined,
    );
    assert.equal(
      net((s) => {
        let at = s.node('Add', 'base', [s.places('q', 2), s.places('k', 3)]);
        for (let i = 0; i < 300; i++) at = s.node('Mul', `power${i}`, [at, at]);
        return s.sum(s.added(s.node('Less', 'near', [at, s.ints('nothing', 0)])));
      })[0],
      undefined,
    );
    assert.ok(performance.now() - started < 5000);
  });
});

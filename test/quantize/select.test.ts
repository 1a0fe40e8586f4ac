/** Which nodes each kind of selector matches, through quantize(), and what is said when it matches none. */
import assert from 'node:assert/strict';
import { collectSelectors } from '../../lib/cli/context';
import { type NodeSelector, quantize } from '../../lib/quantize';
import { feedsFor, ints, NETWORKS, NetworkBuilder, randomTensor } from './networks';

type Selectors = { [key in 'include' | 'exclude']?: NodeSelector | readonly NodeSelector[] };

const [RESIDUAL] = NETWORKS;

async function counts(selectors: Selectors): Promise<Record<string, number>> {
  const { report } = await quantize(RESIDUAL.model, { mode: 'dynamic', ...selectors });
  return report.quantizedNodes;
}

async function floats(selectors: Selectors): Promise<string[]> {
  const { report } = await quantize(RESIDUAL.model, { mode: 'dynamic', ...selectors });
  return report.floatNodes.map(({ name, reason }) => `${name}: ${reason}`);
}

describe('include and exclude', () => {
  it('take names, patterns, regular expressions, types, regions and functions', async () => {
    assert.deepEqual(await counts({ include: 'left' }), { Conv: 1 });
    assert.deepEqual(await counts({ include: ['left', 'logits'] }), { Conv: 1, Gemm: 1 });
    assert.deepEqual(await counts({ include: '*e*t*' }), { Conv: 2 });
    assert.deepEqual(await counts({ include: 'l?ft' }), { Conv: 1 });
    assert.deepEqual(await counts({ include: /^(left|stem)$/g }), { Conv: 2 });
    assert.deepEqual(await counts({ include: { opType: 'Gemm' } }), { Gemm: 1 });
    assert.deepEqual(await counts({ include: { from: 'pool', to: 'sum_relu' } }), { Conv: 1 });
    assert.deepEqual(await counts({ include: { to: ['left'] } }), { Conv: 2 });
    assert.deepEqual(await counts({ include: { from: 'sum_relu' } }), { Conv: 1, Gemm: 1 });
    const fromStem = ({ inputs, opType }: { inputs: readonly string[]; opType: string }) =>
      opType === 'Conv' && inputs[0] === 'pool';
    assert.deepEqual(await counts({ include: fromStem }), { Conv: 1 });
  });

  it('exclude what both name, and say why', async () => {
    assert.deepEqual(await floats({ include: { opType: 'Conv' }, exclude: ['stem', /left/] }), [
      'stem: excluded by "stem"',
      'left: excluded by /left/',
      'logits: not included',
    ]);
    assert.deepEqual(await floats({ exclude: [{ from: 'sum_relu', to: 'mean' }] }), [
      'depthwise: excluded by the region from sum_relu to mean',
    ]);
  });

  it('prefer a name to the pattern that it looks like', async () => {
    const net = new NetworkBuilder();
    const first = net.node('MatMul', 'block*', [net.input('x', [2, 4]), net.weight('w', [4, 4])]);
    net.output(net.node('MatMul', 'block2', [first, net.weight('v', [4, 4])]));
    const { report } = await quantize(net.bytes(), { mode: 'dynamic', exclude: 'block*' });
    assert.deepEqual(
      report.floatNodes.map(({ name }) => name),
      ['block*'],
    );
  });

  it('know nodes and tensors that preparation folds away', async () => {
    const net = new NetworkBuilder();
    const conv = net.conv('conv', net.input('x', [1, 4, 6, 6]), [4, 4, 1, 1]);
    const parameters = ['scale', 'bias', 'mean', 'var'].map((name) => net.weight(`bn_${name}`, [4]));
    parameters[3].constant = randomTensor([4], 9).reshape([4]);
    (parameters[3].constant.data as Float32Array).forEach((v, i, data) => {
      data[i] = 1 + Math.abs(v);
    });
    const normalized = net.node('BatchNormalization', 'bn', [conv, ...parameters]);
    const pooled = net.node('MaxPool', 'pool', [normalized], { kernel_shape: ints(2, 2) });
    net.output(net.conv('head', pooled, [4, 4, 1, 1]));
    const model = net.bytes();
    const calibration = [{ x: randomTensor([1, 4, 6, 6], 3) }];
    const { report } = await quantize(model, { mode: 'static', calibration, exclude: { to: 'conv' } });
    assert.equal(report.quantizedNodes.Conv, 1);
    assert.equal(report.floatNodes.find(({ op }) => op === 'Conv')?.name, 'conv');
    await quantize(model, { mode: 'static', calibration, exclude: 'bn' });
  });

  const cases: [what: string, selectors: unknown, message: RegExp][] = [
    ['a misspelt name', { exclude: ['stemm'] }, /name of a node.*option exclude.*"stemm".*did you mean "stem"/],
    ['a far name', { include: 'nobody at all' }, /option include.*none that is close/],
    ['a pattern that fits nothing', { exclude: 'stm*' }, /pattern that fits one.*names in the model look like "stem"/],
    ['an expression that fits nothing', { exclude: /^$/ }, /option exclude.*\/\^\$\//],
    ['a type that the model lacks', { include: { opType: 'Gem' } }, /operator type.*"Gem".*did you mean "Gemm"/],
    ['a tensor that the model lacks', { include: { from: 'pol' } }, /name of a tensor.*did you mean "pool"/],
    ['an empty region', { include: { from: 'logits', to: 'x' } }, /no node lies on a path/],
    ['a function that is never true', { exclude: () => false }, /the function exclude/],
    ['a function that answers nothing', { exclude: () => undefined }, /true or false.*option exclude.*undefined/],
    ['an empty list to include', { include: [] }, /at least one selector.*leave the option out/],
    ['an empty name', { exclude: '' }, /Expected a name, a pattern/],
    ['a number', { exclude: [5] }, /Expected a name, a pattern.*received 5/],
    ['an object of other keys', { include: { type: 'Conv' } }, /Expected a name, a pattern/],
  ];
  for (const [what, selectors, message] of cases) {
    it(`refuse ${what}`, async () => {
      const options = { mode: 'dynamic', ...(selectors as Selectors) } as const;
      await assert.rejects(quantize(RESIDUAL.model, options), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'ERR_Q8_INVALID_ARGUMENT');
        assert.match(error.message, message);
        return true;
      });
    });
  }

  it('are checked before the first sample', async () => {
    let touched = false;
    const calibration = (function* () {
      touched = true;
      yield* feedsFor(RESIDUAL, 1);
    })();
    await assert.rejects(quantize(RESIDUAL.model, { mode: 'static', calibration, exclude: 'nothing' }), /exclude/);
    assert.equal(touched, false);
  });

  it('are written on the command line', () => {
    assert.deepEqual(collectSelectors('a,b*, type:Conv,between:x..y,between:..y,between:x..', ['first']), [
      'first',
      'a',
      'b*',
      { opType: 'Conv' },
      { from: 'x', to: 'y' },
      { to: 'y' },
      { from: 'x' },
    ]);
    assert.deepEqual(collectSelectors('regex:^a{1,2}$'), [/^a{1,2}$/]);
    assert.throws(() => collectSelectors('regex:('), /not a regular expression/);
    assert.throws(() => collectSelectors('between:..'), /must look like/);
  });
});

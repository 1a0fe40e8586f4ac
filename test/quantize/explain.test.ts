/** explain(): what it says is what quantize() does. */
import assert from 'node:assert/strict';
import { explain } from '../../lib/quantize/explain';
import { quantize, type QuantizeOptions } from '../../lib/quantize';
import { feedsFor, NETWORKS } from './networks';

describe('explain', () => {
  const net = NETWORKS[0];
  const modes: QuantizeOptions[] = [
    { mode: 'dynamic' },
    { mode: 'dynamic', perChannel: false, weightType: 'uint8' },
    { mode: 'weightOnly', bits: 4 },
    { mode: 'weightOnly', bits: 8, format: 'qdq' },
  ];
  for (const options of modes) {
    it(`${Object.values(options).join(', ')}: nodes, weights, reasons and sizes`, async () => {
      const plan = await explain(net.model, options);
      const { report } = await quantize(net.model, options);
      assert.deepEqual(plan.quantizedNodes, report.quantizedNodes);
      assert.deepEqual(plan.floatNodes, report.floatNodes);
      assert.deepEqual(plan.bytes, report.bytes);
      const weights = report.tensors.filter(({ kind }) => kind === 'weight');
      assert.ok(weights.length > 0);
      assert.deepEqual(
        plan.weights?.map(({ name, type, block }) => [name, type, block]),
        weights.map(({ name, type, block }) => [name, type, block]),
      );
      for (const [i, { scales }] of plan.weights!.entries()) {
        const { block, scale } = weights[i];
        assert.equal(scales, block ? 'block' : scale.length > 1 ? 'channel' : 'tensor');
      }
    });
  }

  it('static: tensors that share a scale, before there is one', async () => {
    const calibration = feedsFor(net, 2);
    const { sharedScales, calibrated } = await explain(net.model, { mode: 'static' });
    const { report } = await quantize(net.model, { mode: 'static', calibration });
    const shared = report.tensors.flatMap(({ name, sharesScaleWith }) =>
      sharesScaleWith ? [[name, sharesScaleWith] as const] : [],
    );
    assert.ok(shared.length > 0);
    assert.deepEqual(sharedScales, Object.fromEntries(shared));
    assert.ok(calibrated!.every((name) => !Object.hasOwn(sharedScales!, name)));
  });
});

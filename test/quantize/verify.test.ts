/** verify: a model that a runtime refuses is not handed out. */
import assert from 'node:assert/strict';
import { Q8Error } from '../../lib/errors';
import { quantize } from '../../lib/quantize';
import { verifyModel } from '../../lib/quantize/verify';
import { NetworkBuilder, NETWORKS } from './networks';

describe('quantize: verify', () => {
  it('opens the result by onnxruntime and by q8', async () => {
    const { model } = await quantize(NETWORKS[0].model, { mode: 'dynamic', verify: true });
    assert.deepEqual(await verifyModel(model, new Set()), ['ort', 'q8']);
  });

  it('names the runtime and the node that is refused', async () => {
    const net = new NetworkBuilder();
    const x = net.input('x', [2, 3]);
    net.output(net.node('MatMulNBits', 'odd_node', [x, net.weight('w', [3, 4])], {}, 'com.microsoft'));
    await assert.rejects(verifyModel(net.bytes(), new Set(['odd_node'])), (error) => {
      assert.ok(error instanceof Q8Error);
      assert.match(error.message, /^onnxruntime-node does not open/);
      assert.equal(error.node, 'odd_node');
      return error.code === 'ERR_Q8_BAD_MODEL';
    });
  });

  it('is a boolean', async () => {
    await assert.rejects(quantize(NETWORKS[0].model, { mode: 'dynamic', verify: 'yes' as never }), /option verify/);
  });
});

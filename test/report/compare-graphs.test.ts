/** Errors of tensors, against runs of the models themselves and against damage done on purpose. */
import assert from 'node:assert/strict';
import { compareModels, InferenceSession, quantize } from '../../lib';
import { graphFromProto } from '../../lib/graph/from-proto';
import { graphToProto } from '../../lib/graph/to-proto';
import { readModel } from '../../lib/onnx/read';
import { writeModel } from '../../lib/onnx/write';
import { ErrorSums } from '../../lib/report/metrics';
import { Tensor } from '../../lib/tensor/tensor';
import { feedsFor, NETWORKS } from '../quantize/networks';

const [residual, excite, attention] = NETWORKS;

describe('compareModels', () => {
  it('finds no difference between a model and itself', async () => {
    const { tensors } = await compareModels(residual.model, residual.model, feedsFor(residual, 1));
    assert.ok(tensors.length > 5);
    for (const { name, accumulated, local } of tensors) {
      assert.deepEqual(
        accumulated,
        { sqnr: Number.POSITIVE_INFINITY, cosine: accumulated.cosine, maxAbsError: 0 },
        name,
      );
      assert.equal(local?.maxAbsError, 0, name);
    }
  });

  for (const network of [residual, excite, attention]) {
    it(`measures what sessions give, in both forms: ${network.name}`, async () => {
      const feeds = feedsFor(network, 3);
      for (const format of ['qoperator', 'qdq'] as const) {
        const { model } = await quantize(network.model, { mode: 'static', calibration: feeds, format, engine: 'q8' });
        const analysis = await compareModels(network.model, model, feeds);
        const sessions = [await InferenceSession.create(network.model), await InferenceSession.create(model)];
        const [output] = sessions[0].outputNames;
        const sums = new ErrorSums();
        for (const feed of feeds) {
          const [float, int8] = await Promise.all(sessions.map((session) => session.run(feed)));
          sums.add(float[output].data as Float32Array, int8[output].data as Float32Array);
        }
        const found = analysis.tensors.find(({ name }) => name === output)!;
        assert.ok(found.isOutput);
        assert.ok(Math.abs(found.accumulated.sqnr - sums.sqnr) < 0.5, `${found.accumulated.sqnr} and ${sums.sqnr}`);
        assert.equal(analysis.samples, 3);
        // Every layer is at least as good alone as at the end of the chain, but for luck.
        for (const { name, local, accumulated } of analysis.tensors)
          if (local) assert.ok(local.sqnr > accumulated.sqnr - 6 && local.sqnr > 18, `${name}: ${local.sqnr}`);
        for (const { name, sqnr, bytes } of analysis.weights) {
          assert.ok(sqnr > 35, `${name}: ${sqnr}`);
          assert.equal(bytes.float, 4 * bytes.quantized);
        }
      }
    });
  }

  it('blames the damaged layer, and only that', async () => {
    const feeds = feedsFor(residual, 2);
    const { model } = await quantize(residual.model, { mode: 'static', calibration: feeds });
    const graph = graphFromProto((await readModel(model)).model);
    const victim = [...graph.nodes].find(({ name }) => name === 'left')!;
    const weight = victim.requiredInput(3);
    weight.constant = new Tensor(
      'int8',
      (weight.constant!.data as Int8Array).map((code) => -code),
      weight.constant!.dims,
    );
    const damaged = writeModel(graphToProto(graph));
    const healthy = await compareModels(residual.model, model, feeds);
    const { tensors, weights } = await compareModels(residual.model, damaged, feeds);
    for (const [i, { name, local, accumulated }] of tensors.entries()) {
      if (name === 'left') assert.ok(local!.sqnr < 5 && accumulated.sqnr < 5, String(local!.sqnr));
      else assert.deepEqual(local, healthy.tensors[i].local, name);
    }
    assert.ok(tensors.at(-1)!.accumulated.sqnr < healthy.tensors.at(-1)!.accumulated.sqnr - 10);
    assert.ok(weights.find(({ name }) => name === 'left_w')!.sqnr < 0);
    assert.ok(weights.find(({ name }) => name === 'stem_w')!.sqnr > 35);
  });

  it('covers dynamic models and tells what clips', async () => {
    const feeds = feedsFor(attention, 2);
    const { model } = await quantize(attention.model, { mode: 'dynamic' });
    const { tensors, weights } = await compareModels(attention.model, model, feeds);
    assert.ok(tensors.some(({ type, local }) => type === 'float32' && local && local.sqnr < 60));
    assert.ok(weights.length > 0 && weights.every(({ sqnr }) => sqnr > 30));
    const { model: narrow } = await quantize(attention.model, {
      mode: 'static',
      calibration: feeds.map(({ x }) => ({
        x: new Tensor(
          'float32',
          x.data.map((v) => v / 2),
          x.dims,
        ),
      })),
    });
    const [input] = (await compareModels(attention.model, narrow, feeds)).tensors;
    assert.equal(input.name, 'x');
    assert.ok(input.clipped > 0.3 && input.clipped < 0.6, String(input.clipped));
    const total = input.distribution.counts.reduce((a, b) => a + b, 0);
    assert.equal(total, feeds.length * feeds[0].x.size);
  });

  it('tells channels apart: those of pictures behind the batch, others in the end', async () => {
    for (const [net, rank, axis] of [
      [residual, 4, 1],
      [attention, 3, 2],
    ] as const) {
      const feeds = feedsFor(net, 3);
      const { model } = await quantize(net.model, { mode: 'static', calibration: feeds });
      const { tensors } = await compareModels(net.model, model, feeds);
      const { channels } = tensors.find(({ name }) => name === 'x')!;
      const { dims } = feeds[0].x;
      assert.equal(dims.length, rank);
      const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1);
      const maxAbs = new Array<number>(dims[axis]).fill(0);
      const sums = new Array<number>(dims[axis]).fill(0);
      for (const { x } of feeds) {
        x.data.forEach((v, i) => {
          const channel = Math.floor(i / inner) % dims[axis];
          maxAbs[channel] = Math.max(maxAbs[channel], Math.abs(v));
          sums[channel] += v;
        });
      }
      assert.equal(channels?.axis, axis);
      assert.deepEqual(channels.maxAbs, maxAbs);
      const count = (3 * feeds[0].x.size) / dims[axis];
      sums.forEach((sum, c) => {
        assert.ok(Math.abs(channels.mean[c] - sum / count) < 1e-9);
      });
      assert.equal(channels.spread, Math.max(...maxAbs) / maxAbs.sort((a, b) => a - b)[maxAbs.length >> 1]);
    }
  });

  it('needs samples, and tensors in common', async () => {
    await assert.rejects(compareModels(residual.model, residual.model, []), { code: 'ERR_Q8_INVALID_ARGUMENT' });
    const renamed = graphFromProto((await readModel(residual.model)).model);
    for (const node of renamed.nodes) for (const value of node.outputs) if (value) value.name = `other_${value.name}`;
    const model = writeModel(graphToProto(renamed));
    await assert.rejects(compareModels(residual.model, model, feedsFor(residual, 1)), /no tensor in common/);
    const options = { latencies: true } as object;
    await assert.rejects(compareModels(residual.model, model, [], options), /Did you mean "latency"/);
  });
});

/** Q/DQ models with codes of 4 and 16 bits, blocks, and what else says how tensors are represented. */
import assert from 'node:assert/strict';
import type { Graph } from '../../lib/graph/graph';
import { quantize, type StaticQuantizeOptions } from '../../lib/quantize';
import { sqnr } from '../../lib/report/metrics';
import { runOrt, runOwn, runSession } from './judges';
import { feedsFor, NETWORKS, type TestNetwork } from './networks';
import { readGraph } from './run-graph';

type Options = Omit<Partial<StaticQuantizeOptions>, 'mode'>;

function quantizeNet(net: TestNetwork, options: Options) {
  return quantize(net.model, {
    mode: 'static',
    calibration: feedsFor(net, 16),
    engine: 'ort',
    format: 'qdq',
    ...options,
  });
}

/**
 * How close the quantized network is to the float one, in dB, once onnxruntime with all optimizations, a session of q8, and
 * the definitions of the operators agree on it. Pairs that no kernel fuses run in float, where sums differ in order.
 */
async function judge(net: TestNetwork, model: Uint8Array, agree = 40): Promise<number> {
  // Of the calibration set: no range cuts it.
  const [sample] = feedsFor(net, 1);
  const [float, judged, session] = await Promise.all([
    runOrt(net.model, sample),
    runOrt(model, sample),
    runSession(model, sample),
  ]);
  for (const [who, result] of [
    ['session', session],
    ['definitions', runOwn(model, sample)],
  ] as const) {
    const agreement = sqnr(judged, result);
    assert.ok(agreement > agree, `${net.name}: ${who} to onnxruntime ${agreement} dB`);
  }
  return sqnr(float, judged);
}

function codesOf(graph: Graph, name: string) {
  return graph.constants().find((value) => value.name === `${name}_quantized`)?.constant;
}

describe('quantize: types of Q/DQ models', () => {
  const cases: [types: Options, least: number][] = [
    [{ activationType: 'uint16', weightType: 'int8' }, 35],
    [{ activationType: 'uint16', weightType: 'int16' }, 70],
    [{ activationType: 'int16', weightType: 'int8', activationSymmetric: true }, 35],
    [{ activationType: 'int16', weightType: 'uint8', perChannel: false }, 30],
    [{ activationType: 'uint16', weightType: 'uint16', reduceRange: true, perChannel: false }, 65],
    [{ activationType: 'uint16', weightType: 'int4' }, 8],
    [{ activationType: 'uint8', weightType: 'uint4' }, 8],
    [{ activationType: 'int8', weightType: 'int4', perChannel: false }, 4],
    [{ activationType: 'uint8', weightType: 'int4', blockSize: 4 }, 10],
    [{ activationType: 'uint16', weightType: 'uint4', blockSize: 16 }, 10],
  ];
  for (const [types, least] of cases) {
    const text = Object.values(types).map(String).join(', ');
    for (const net of NETWORKS) {
      it(`${net.name}: ${text}`, async () => {
        const { model, report } = await quantizeNet(net, types);
        const graph = readGraph(model);
        assert.equal(graph.opset(), 21);
        assert.equal(report.activationType, types.activationType);
        const quality = await judge(net, model);
        assert.ok(quality > least, `${quality} dB`);
        for (const { kind, type } of report.tensors) {
          if (kind === 'activation') assert.equal(type, types.activationType);
        }
        for (const { name, kind } of report.tensors) {
          const codes = codesOf(graph, name);
          if (kind === 'weight') assert.ok([types.weightType, types.activationType].includes(codes?.type as 'int8'));
        }
      });
    }
  }
});

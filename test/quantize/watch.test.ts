/** Extremes that onnxruntime reduces against those of whole tensors: the same bits, on networks and on tensors that are odd. */
import assert from 'node:assert/strict';
import type { Graph, Value } from '../../lib/graph/graph';
import { calibrate } from '../../lib/quantize/calibrate';
import type { OpenEngine } from '../../lib/quantize/engines/engine';
import { openOrt } from '../../lib/quantize/engines/ort';
import { MinMaxObserver, MovingAverageObserver } from '../../lib/quantize/observers/minmax';
import type { ExtremesObserver } from '../../lib/quantize/observers/observer';
import { type Watch, watchExtremes, watchTensors } from '../../lib/quantize/watch';
import { Tensor } from '../../lib/tensor/tensor';
import { feedsFor, int, NETWORKS, NetworkBuilder } from './networks';
import { readGraph } from './run-graph';

type Feed = Record<string, Tensor>;

const OBSERVERS: [name: string, make: () => ExtremesObserver][] = [
  ['minmax', () => new MinMaxObserver()],
  ['movingAverage', () => new MovingAverageObserver(0.25)],
];

function innerValues(graph: Graph): Value[] {
  return [...graph.nodes].flatMap((node) => node.outputs.filter((value) => value !== null));
}

/** Range and sawNonFinite of every tensor, and the largest tensor that the engine gave out. */
async function watchAll(graph: Graph, feeds: readonly Feed[], make: () => ExtremesObserver, reduced: boolean) {
  let largest = 0;
  const open: OpenEngine = async (...args) => {
    const session = await openOrt(...args);
    return {
      async run(feed) {
        const results = await session.run(feed);
        for (const { data } of Object.values(results)) largest = Math.max(largest, (data as Float32Array).length);
        return results;
      },
      release: () => session.release(),
    };
  };
  const observers = new Map(innerValues(graph).map((value) => [value, make()]));
  const engine = { open, threads: 1 };
  const watch: Watch = reduced
    ? await watchExtremes(graph, observers, engine)
    : await watchTensors(graph, observers, feeds[0], engine);
  for (const feed of feeds) await watch.observe(feed);
  await watch.release();
  const found = [...observers].map(([{ name }, { range, sawNonFinite }]) => [name, range, sawNonFinite]);
  return { found, largest };
}

function rows(...values: number[]): Feed {
  return { x: new Tensor('float32', Float32Array.from(values), [values.length / 2, 2]) };
}

/** Tensors with NaN, infinities, a sum beyond float32, both zeros, no dimensions, and (for no rows) no elements. */
function oddGraph(opset: number): Graph {
  const net = new NetworkBuilder(opset);
  const x = net.input('x', ['N', 2]);
  const relu = net.node('Relu', 'relu', [x]);
  const log = net.node('Log', 'log', [x]);
  const inverse = net.node('Reciprocal', 'inverse', [relu]);
  const large = net.node('Mul', 'large', [x, net.constant('most', new Tensor('float32', [3e38], []))]);
  const scalar = net.node('ReduceSum', 'scalar', [net.node('Neg', 'negative', [relu])], { keepdims: int(0) });
  for (const value of [log, inverse, large, scalar]) net.output(value);
  return readGraph(net.bytes());
}

const ODD_FEEDS = [
  rows(1, 1, 0.5, 0.25, 1, 1),
  rows(),
  rows(-1, 0, 2, 0.5, 0, -0),
  rows(1, 0.125),
  rows(0, 0, 3, 0, 1, 0.5, 0.25, -1),
];

describe('watchExtremes', () => {
  for (const [method, make] of OBSERVERS) {
    for (const net of NETWORKS) {
      it(`has the ranges of whole tensors from scalars: ${net.name}, ${method}`, async () => {
        const graph = readGraph(net.model);
        const feeds = feedsFor(net, 4);
        const whole = await watchAll(graph, feeds, make, false);
        const reduced = await watchAll(graph, feeds, make, true);
        assert.deepEqual(reduced.found, whole.found);
        assert.ok(whole.largest > 1);
        assert.equal(reduced.largest, 1);
      });
    }

    for (const opset of [11, 13, 20]) {
      it(`has the ranges of whole tensors where some are empty or not finite: opset ${opset}, ${method}`, async () => {
        const graph = oddGraph(opset);
        const whole = await watchAll(graph, ODD_FEEDS, make, false);
        assert.deepEqual((await watchAll(graph, ODD_FEEDS, make, true)).found, whole.found);
      });
    }
  }

  it('serves calibrate(), which tells the tensors that were not finite, and watches inputs too', async () => {
    const graph = oddGraph(17);
    const options = {
      calibrationMethod: 'minmax',
      percentile: 99.99,
      bins: 2048,
      exactBins: false,
      momentum: 0.01,
    } as const;
    const rest = { activationSymmetric: false, engine: 'ort', threads: 1, calibration: ODD_FEEDS } as const;
    const { ranges, nonFinite } = await calibrate(graph, innerValues(graph), { ...options, ...rest });
    const inputs = await calibrate(graph, graph.inputs, { ...options, ...rest });
    assert.deepEqual([...inputs.ranges.values()], [{ min: -1, max: 3 }]);
    assert.deepEqual(nonFinite.sort(), ['inverse', 'large', 'log']);
    const byName = new Map([...ranges].map(([{ name }, range]) => [name, range]));
    assert.deepEqual(byName.get('log'), { min: Math.fround(Math.log(0.125)), max: Math.fround(Math.log(3)) });
    assert.deepEqual(byName.get('negative'), { min: -3, max: 0 });
  });
});

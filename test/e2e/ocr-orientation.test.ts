/**
 * A published model that is hard for int8 (MobileNetV3: depthwise convolutions, HardSwish, squeeze and excitation) from
 * its float file to the direction of drawn text lines, judged by the lines themselves and by onnxruntime-node.
 */
import assert from 'node:assert/strict';
import * as ort from 'onnxruntime-node';
import {
  agreement,
  calibrationFeeds,
  type Classifier,
  classify,
  MODEL,
  NOISE_LEVELS,
  toTensor,
} from '../../examples/ocr-orientation/classifier';
import { renderLines, type TextLine } from '../../examples/ocr-orientation/lines';
import { InferenceSession, type QuantizeReport, quantize } from '../../lib';
import { compareNodeByNode, EXACT_ORT } from './node-by-node';

/** Lines of each noise level: near chance, fewer would leave more than the tolerance to luck. */
const LINES = 2000;
/** Lines that onnxruntime's exact but slow kernels classify as well. */
const JUDGED_LINES = 300;
/** Points of accuracy that int8 may lose at each level. */
const TOLERANCE = 1;

describe('the text-direction classifier of PP-OCR in int8', function () {
  this.timeout(120_000);
  let model: Uint8Array;
  let report: QuantizeReport;
  let float: Classifier;
  let int8: InferenceSession;
  let judge: Classifier;

  before(async () => {
    // Its own engine gives the same ranges, and so the same numbers, on every CPU.
    ({ model, report } = await quantize(MODEL, { mode: 'static', calibration: calibrationFeeds(), engine: 'q8' }));
    float = (await ort.InferenceSession.create(MODEL, { logSeverityLevel: 3 })) as unknown as Classifier;
    int8 = await InferenceSession.create(model);
    judge = (await ort.InferenceSession.create(model, EXACT_ORT)) as unknown as Classifier;
  });
  after(() => int8.release());

  for (const noise of NOISE_LEVELS) {
    it(`noise ${noise}: within ${TOLERANCE} point of float, and the classes of onnxruntime-node`, async function () {
      const lines = renderLines(0, LINES, noise);
      const labels = lines.map(({ label }) => label);
      const classes = { float: await classify(float, lines), int8: await classify(int8, lines) };
      const accuracy = { float: agreement(classes.float, labels), int8: agreement(classes.int8, labels) };
      const judged = await classify(judge, lines.slice(0, JUDGED_LINES));
      const same = agreement(judged, classes.int8);
      this.test!.title +=
        ` (float ${accuracy.float.toFixed(2)} %, int8 ${accuracy.int8.toFixed(2)} %, ` +
        `${agreement(classes.int8, classes.float).toFixed(2)} % as float, ${same.toFixed(2)} % as onnxruntime's int8)`;
      assert.ok(accuracy.int8 >= accuracy.float - TOLERANCE);
      // A code that QLinearAdd rounds the other way may turn a line on the edge.
      assert.ok(same >= 99);
    });
  }

  it('is quantized throughout: no convolution is left in float', () => {
    assert.deepEqual(report.floatNodes, []);
    assert.ok(report.bytes.quantized < 0.45 * report.bytes.float, JSON.stringify(report.bytes));
  });

  it('gives the same float results as onnxruntime-node', async () => {
    const lines = renderLines(0, 20, NOISE_LEVELS[1]);
    await using own = await InferenceSession.create(MODEL);
    const [a, b] = [await probabilities(own, lines), await probabilities(float, lines)];
    for (const [i, value] of a.entries())
      assert.ok(Math.abs(value - b[i]) <= 1e-4, `${value} at ${i}, expected ${b[i]}`);
  });

  it('gives the codes of onnxruntime-node in every node', async () => {
    const found = await compareNodeByNode(model, { x: toTensor(renderLines(0, 20, NOISE_LEVELS[1])) });
    for (const [op, { differing, largest }] of found) {
      // onnxruntime multiplies by reciprocals of scales here, where q8 divides.
      if (op === 'QLinearAdd' || op === 'QLinearMul') assert.ok(largest <= 1, `${op}: ${largest}`);
      else assert.equal(differing, 0, op);
    }
  });
});

async function probabilities(session: Classifier, lines: readonly TextLine[]): Promise<Float32Array> {
  const results = await session.run({ x: toTensor(lines) });
  return results[session.outputNames[0]].data as Float32Array;
}

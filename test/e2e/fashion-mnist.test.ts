/**
 * The two Fashion-MNIST networks from float model to int8 classes: accuracy of every combination of types and formats, the
 * same codes as onnxruntime-node, and the same codes on every instruction set.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Images, loadImages, loadLabels, toTensor } from '../../examples/fashion-mnist/data';
import { cpuInfo, InferenceSession, quantize, type StaticQuantizeOptions, type Tensor } from '../../lib';
import { compareNodeByNode, type Difference } from './node-by-node';

const NETWORKS = ['resnet8', 'mobilenetv2'] as const;
const FORMATS = ['qoperator', 'qdq'] as const;
const TYPES = [
  ['uint8', 'int8'],
  ['uint8', 'uint8'],
  ['int8', 'int8'],
] as const;
const CLASSES = 10;
/** Images at a time. Ranges, and so scales, do not depend on it. */
const BATCH = 64;
/** Test images for the accuracy; the first ones. */
const JUDGED = 1000;
/** Points of top-1 that int8 may lose. */
const TOLERANCE = 1;

/** The reference values of test/fixtures/ort-quantizer that matter here. */
interface Reference {
  floatClasses: string;
  qoperatorClasses: string;
}

function referenceOf(network: string): Reference {
  const file = path.join(__dirname, '..', 'fixtures', 'ort-quantizer', `${network}.json`);
  return JSON.parse(readFileSync(file, 'utf8')) as Reference;
}

function* batches(images: Images, count: number): Generator<{ input: Tensor<'float32'> }> {
  for (let from = 0; from < count; from += BATCH) {
    yield { input: toTensor(images, from, Math.min(BATCH, count - from)) };
  }
}

describe('Fashion-MNIST networks in int8', function () {
  this.timeout(120_000);
  const calibration = loadImages('calibration-images.idx.gz');
  const test = loadImages('test-images.idx.gz');
  const labels = loadLabels('test-labels.idx.gz');

  const models = new Map<string, Uint8Array>();
  /** The network quantized with these options; once, for all tests that want it. */
  const quantized = async (network: string, options: Partial<StaticQuantizeOptions>): Promise<Uint8Array> => {
    const key = JSON.stringify([network, options]);
    const file = path.join(__dirname, '..', '..', 'examples', 'fashion-mnist', `${network}.onnx`);
    const feeds = batches(calibration, calibration.count);
    const model = models.get(key) ?? (await quantize(file, { mode: 'static', calibration: feeds, ...options })).model;
    models.set(key, model);
    return model;
  };

  /** Classes of the first images, as a string of digits. */
  const classify = async (model: Uint8Array): Promise<string> => {
    await using session = await InferenceSession.create(model);
    let classes = '';
    for (const feed of batches(test, JUDGED)) {
      const logits = (await session.run(feed)).logits.data as Float32Array;
      for (let i = 0; i < logits.length; i += CLASSES) {
        const scores = logits.subarray(i, i + CLASSES);
        classes += scores.indexOf(Math.max(...scores));
      }
    }
    return classes;
  };

  const top1 = (classes: string): number => (100 * (JUDGED - differences(classes, labels.join('')))) / JUDGED;

  for (const network of NETWORKS) {
    const reference = referenceOf(network);
    const floatTop1 = top1(reference.floatClasses.slice(0, JUDGED));

    for (const format of FORMATS) {
      for (const [activationType, weightType] of TYPES) {
        it(`${network}, ${format}, ${activationType} x ${weightType}: within ${TOLERANCE} point of float`, async function () {
          const classes = await classify(await quantized(network, { format, activationType, weightType }));
          const accuracy = top1(classes);
          const changed = differences(classes, reference.floatClasses);
          print(this, `top-1 ${accuracy.toFixed(1)} %, float ${floatTop1.toFixed(1)} %, ${changed} classes changed`);
          assert.ok(accuracy >= floatTop1 - TOLERANCE);
          // Top-1 alone would not see errors that cancel out.
          assert.ok(changed <= 0.02 * JUDGED, `${changed} of ${JUDGED} images change class`);
        });
      }
    }

    it(`${network}: the classes that ONNX Runtime's own quantizer gives, but for images on the edge`, async () => {
      const model = await quantized(network, { format: 'qoperator', activationType: 'uint8', weightType: 'int8' });
      const classes = await classify(model);
      const changed = differences(classes, reference.qoperatorClasses);
      assert.ok(changed <= 0.004 * JUDGED, `${changed} of ${JUDGED} images change class`);
    });

    // Not int8 x int8: onnxruntime has no switch that keeps it exact on every CPU.
    for (const [activationType, weightType] of TYPES.filter(([type]) => type === 'uint8')) {
      it(`${network}, ${activationType} x ${weightType}: every node gives the codes of onnxruntime-node`, async function () {
        const model = await quantized(network, { format: 'qoperator', activationType, weightType });
        const found = await compareNodeByNode(model, { input: toTensor(test, 0, BATCH) });
        print(this, summaryOf(found));
        for (const op of ['QuantizeLinear', 'QLinearConv', 'QLinearGlobalAveragePool', 'QGemm', 'DequantizeLinear']) {
          assert.equal(found.get(op)?.differing, 0, op);
        }
        // onnxruntime multiplies by a reciprocal where q8 divides.
        assert.ok(found.get('QLinearAdd')!.largest <= 1);
      });
    }
  }

  for (const name of cpuInfo().isa.supported) {
    it(`resnet8 gives the committed codes on ${name}`, () => {
      assert.equal(digestOn(name), RESNET8_SHA256);
    });
  }
  for (const name of cpuInfo().isa.compiled.filter((isa) => !cpuInfo().isa.supported.includes(isa))) {
    it.skip(`resnet8 gives the committed codes on ${name}, which this CPU lacks`);
  }
});

/**
 * SHA-256 of what code-digest.ts prints about: all scales, weights, codes and logits of a quantized ResNet-8. It holds for
 * every CPU. A change of the quantizer that moves a scale by one bit changes it, a change of the kernels must not.
 */
const RESNET8_SHA256 = '7fa95f25651984f5664fea042838816ee87240e5c41ddf98042aec62b6a99164';

/** The digest, computed by a process whose kernels are those of `isa`. */
function digestOn(isa: string): string {
  const script = path.join(__dirname, 'code-digest.ts');
  const { stdout, stderr } = spawnSync(process.execPath, ['--require', 'tsx/cjs', script], {
    env: { ...process.env, Q8_ISA: isa },
    encoding: 'utf8',
  });
  const [selected, digest] = stdout.trim().split(' ');
  assert.equal(selected, isa, stderr);
  return digest;
}

function differences(a: string, b: string): number {
  let count = 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) count++;
  return count;
}

function summaryOf(found: ReadonlyMap<string, Difference>): string {
  return [...found]
    .map(([op, { nodes, elements, differing, largest }]) => {
      return `${op} x ${nodes}: ${differing} of ${elements}${differing > 0 ? ` by up to ${largest}` : ''}`;
    })
    .join('; ');
}

/** Adds the numbers to the test's title, where every reporter shows them. */
function print(context: Mocha.Context, numbers: string): void {
  context.test!.title += ` (${numbers})`;
}

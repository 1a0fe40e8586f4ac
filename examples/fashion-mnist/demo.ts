/**
 * `npm run demo`: quantizes the two networks of this folder to int8, then shows what that costs in accuracy and what it
 * gains in size and speed, beside onnxruntime-node on the same threads. Fails when int8 is more than a point less accurate.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cpuInfo, InferenceSession, quantize, type Tensor } from '../../lib';
import { type Contender, interleave } from '../../lib/report/measure';
import { Progress } from '../../lib/cli/ui/progress';
import { type Cell, formatTable } from '../../lib/cli/ui/table';
import { Terminal } from '../../lib/cli/ui/terminal';
import { formatBytes, formatDuration } from '../../lib/cli/ui/units';
import { type Images, loadImages, loadLabels, toTensor } from './data';

const NETWORKS = ['resnet8', 'mobilenetv2'];
/** Points of top-1 that int8 may lose. */
const TOLERANCE = 1;
const BATCH = 50;
/** Time for each comparison of the contenders. */
const BUDGET_MS = 1500;

type Session = Pick<InferenceSession, 'run'>;

/** One model in one runtime. */
interface Candidate {
  label: string;
  session: Session;
  bytes: number;
}

interface Result extends Candidate {
  top1: number;
  /** Images whose class is not the float model's. */
  changed: number;
  latency: number;
  imagesPerSecond: number;
}

const terminal = new Terminal(process.stdout, process.stderr);
const progress = new Progress(terminal);

async function main(): Promise<void> {
  const cpu = cpuInfo();
  terminal.print(`${cpu.cpu}: ${cpu.isa.label} kernels, ${cpu.threads} threads\n`);
  const calibration = loadImages('calibration-images.idx.gz');
  const test = loadImages('test-images.idx.gz');
  const labels = loadLabels('test-labels.idx.gz');

  const rows: Cell[][] = [];
  const failures: string[] = [];
  for (const network of NETWORKS) {
    const candidates = await makeCandidates(network, calibration, cpu.threads);
    const results = await judge(network, candidates, test, labels);
    rows.push(...results.map((result, i) => toRow(i === 0 ? network : '', result)));
    const [float, int8] = results;
    if (float.top1 - int8.top1 > TOLERANCE) {
      failures.push(
        `${network}: int8 loses ${(float.top1 - int8.top1).toFixed(2)} points of top-1; ${TOLERANCE} is the limit`,
      );
    }
  }
  progress.clear();
  const header = ['network', 'runs on', 'top-1', 'changed', 'file', 'latency', 'images/s'];
  terminal.print(formatTable(header, rows, { align: 'llrrrrr', styleHeader: terminal.out.bold }));
  terminal.print(
    `\n${test.count} test images; changed: images whose class differs from q8 float32; latency: median of one image; ` +
      `images/s: batches of ${BATCH}.`,
  );
  if (
    rows.length > 2 * NETWORKS.length &&
    process.arch === 'x64' &&
    !cpu.features.some((name) => name.includes('vnni'))
  ) {
    terminal.print(
      'This CPU has no VNNI: the int8 kernels of onnxruntime-node saturate on it, which costs accuracy; q8 is exact.',
    );
  }
  for (const failure of failures) terminal.complain(failure);
  if (failures.length > 0) process.exitCode = 1;
}

/** q8 in float and in int8, and onnxruntime-node on the same files where it is installed. */
async function makeCandidates(network: string, calibration: Images, threads: number): Promise<Candidate[]> {
  const float = new Uint8Array(readFileSync(join(__dirname, `${network}.onnx`)));
  const { model: int8 } = await quantize(float, {
    mode: 'static',
    calibration: Array.from({ length: calibration.count }, (_, i) => ({ input: toTensor(calibration, i, 1) })),
    onProgress: ({ phase, done, total }) => progress.update(`${network}: ${phase}`, done, total),
  });
  const folder = join(__dirname, '..', '..', 'build', 'demo');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${network}.int8.onnx`), int8);

  const candidates: Candidate[] = [
    { label: 'q8 float32', session: await InferenceSession.create(float, { threads }), bytes: float.length },
    { label: 'q8 int8', session: await InferenceSession.create(int8, { threads }), bytes: int8.length },
  ];
  const ort = await import('onnxruntime-node').catch(() => undefined);
  if (ort === undefined) {
    terminal.note('onnxruntime-node is not installed; there is nothing to compare with.');
    return candidates;
  }
  for (const [type, bytes] of [
    ['float32', float],
    ['int8', int8],
  ] as const) {
    const session = await ort.InferenceSession.create(bytes, {
      intraOpNumThreads: threads,
      logSeverityLevel: 3,
      // Its idle threads would otherwise spin on the cores while the others are measured.
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    });
    candidates.push({ label: `onnxruntime-node ${type}`, session: session as unknown as Session, bytes: bytes.length });
  }
  return candidates;
}

async function judge(
  network: string,
  candidates: readonly Candidate[],
  test: Images,
  labels: Uint8Array,
): Promise<Result[]> {
  const classes: Uint8Array[] = [];
  for (const { label, session } of candidates) classes.push(await classify(`${network}: ${label}`, session, test));
  progress.update(`${network}: speed`, 0, 2);
  const single = await time(candidates, toTensor(test, 0, 1));
  progress.update(`${network}: speed`, 1, 2);
  const batched = await time(candidates, toTensor(test, 0, BATCH));
  return candidates.map((candidate, i) => ({
    ...candidate,
    top1: (100 * (test.count - countDifferences(classes[i], labels))) / test.count,
    changed: countDifferences(classes[i], classes[0]),
    latency: single[i],
    imagesPerSecond: (1000 * BATCH) / batched[i],
  }));
}

/** The class that a session gives to each image. */
async function classify(label: string, session: Session, images: Images): Promise<Uint8Array> {
  const classes = new Uint8Array(images.count);
  for (let from = 0; from < images.count; from += BATCH) {
    progress.update(label, from, images.count);
    const count = Math.min(BATCH, images.count - from);
    const { logits } = await session.run({ input: toTensor(images, from, count) });
    const scores = logits.data as Float32Array;
    for (let i = 0; i < count; i++) classes[from + i] = argmax(scores.subarray(i * 10, i * 10 + 10));
  }
  return classes;
}

/** Median milliseconds of a run for each candidate, measured in turns. */
async function time(candidates: readonly Candidate[], input: Tensor): Promise<number[]> {
  const contenders = candidates.map(
    ({ label, session }): Contender => ({ name: label, run: () => session.run({ input }) }),
  );
  return (await interleave(contenders, BUDGET_MS)).map((timing) => timing.median);
}

function toRow(network: string, { label, top1, changed, bytes, latency, imagesPerSecond }: Result): Cell[] {
  return [
    network,
    label,
    `${top1.toFixed(2)} %`,
    changed,
    formatBytes(bytes),
    formatDuration(latency),
    Math.round(imagesPerSecond),
  ];
}

function argmax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

function countDifferences(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((count, value, i) => count + (value === b[i] ? 0 : 1), 0);
}

void main();

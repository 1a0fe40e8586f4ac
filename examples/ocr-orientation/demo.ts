/**
 * `npm run demo:ocr`: quantizes the text-direction classifier of PP-OCR and shows what int8 costs in accuracy and gains in
 * size and speed, beside onnxruntime-node. Fails when int8 is more than a point less accurate than float.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cpuInfo, InferenceSession, quantize } from '../../lib';
import { interleave } from '../../lib/report/measure';
import { Progress } from '../../lib/cli/ui/progress';
import { type Cell, formatTable } from '../../lib/cli/ui/table';
import { Terminal } from '../../lib/cli/ui/terminal';
import { formatBytes, formatDuration } from '../../lib/cli/ui/units';
import { agreement, calibrationFeeds, type Classifier, classify, MODEL, NOISE_LEVELS, toTensor } from './classifier';
import { renderLines } from './lines';

/** Lines of each noise level. The standard error of an accuracy is 0.4 points on clean lines, 1 on the noisiest. */
const LINES = 2000;
/** Points of accuracy that int8 may lose at each level. */
const TOLERANCE = 1;
/** Time for comparing the speed of all. */
const BUDGET_MS = 2000;

/** One model in one runtime. */
interface Candidate {
  label: string;
  session: Classifier;
  bytes: number;
}

const terminal = new Terminal(process.stdout, process.stderr);
const progress = new Progress(terminal);

async function main(): Promise<void> {
  const cpu = cpuInfo();
  terminal.print(`${cpu.cpu}: ${cpu.isa.label} kernels, ${cpu.threads} threads\n`);
  const candidates = await makeCandidates(cpu.threads);
  const accuracies = candidates.map((): number[] => []);
  const agreements = candidates.map((): number[] => []);
  for (const noise of NOISE_LEVELS) {
    const lines = renderLines(0, LINES, noise);
    const labels = lines.map(({ label }) => label);
    let float: number[] | undefined;
    for (const [i, { label, session }] of candidates.entries()) {
      progress.update(`noise ${noise}: ${label}`, i, candidates.length);
      const classes = await classify(session, lines);
      float ??= classes;
      accuracies[i].push(agreement(classes, labels));
      agreements[i].push(agreement(classes, float));
    }
  }
  progress.update('speed', 0, 1);
  const input = toTensor(renderLines(0, 1, 0));
  const timings = await interleave(
    candidates.map(({ label, session }) => ({
      name: label,
      run: () => session.run({ [session.inputNames[0]]: input }),
    })),
    BUDGET_MS,
  );
  progress.clear();

  const rows = candidates.map(({ label, bytes }, i): Cell[] => [
    label,
    ...NOISE_LEVELS.map((_, level) => `${accuracies[i][level].toFixed(1)} (${agreements[i][level].toFixed(1)})`),
    formatBytes(bytes),
    formatDuration(timings[i].median),
  ]);
  const header = ['runs on', ...NOISE_LEVELS.map((noise) => `noise ${noise}`), 'file', 'latency'];
  terminal.print(formatTable(header, rows, { align: 'lrrrrr', styleHeader: terminal.out.bold }));
  terminal.print(
    `\n${LINES} lines per level; percent of lines whose direction is right (and, in brackets, is the one that ` +
      `${candidates[0].label} gives); latency: median of one line.`,
  );
  for (const [level, noise] of NOISE_LEVELS.entries()) {
    const loss = accuracies[0][level] - accuracies[1][level];
    if (loss <= TOLERANCE) continue;
    terminal.complain(`noise ${noise}: int8 loses ${loss.toFixed(2)} points; ${TOLERANCE} is the limit`);
    process.exitCode = 1;
  }
}

/** q8 in float and in int8, then onnxruntime-node on the same files where it is installed. */
async function makeCandidates(threads: number): Promise<Candidate[]> {
  const float = new Uint8Array(readFileSync(MODEL));
  const { model: int8 } = await quantize(float, {
    mode: 'static',
    calibration: calibrationFeeds(),
    onProgress: ({ phase, done, total }) => progress.update(phase, done, total),
  });
  const folder = path.join(__dirname, '..', '..', 'build', 'demo');
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'ocr-orientation.int8.onnx'), int8);

  const candidates: Candidate[] = [
    { label: 'q8 float32', session: await InferenceSession.create(float, { threads }), bytes: float.length },
    { label: 'q8 int8', session: await InferenceSession.create(int8, { threads }), bytes: int8.length },
  ];
  const ort = await import('onnxruntime-node').catch(() => undefined);
  if (ort === undefined) {
    terminal.note('onnxruntime-node is not installed; there is nothing to compare with.');
    return candidates;
  }
  const add = async (label: string, bytes: Uint8Array, settings: Record<string, string>): Promise<void> => {
    const session = await ort.InferenceSession.create(bytes, {
      intraOpNumThreads: threads,
      logSeverityLevel: 3,
      // Its idle threads would otherwise spin on the cores while the others are measured.
      extra: { session: { intra_op: { allow_spinning: '0' }, ...settings } },
    });
    candidates.push({ label, session: session as unknown as Classifier, bytes: bytes.length });
  };
  await add('onnxruntime-node float32', float, {});
  await add('onnxruntime-node int8', int8, {});
  await add('onnxruntime-node int8, exact', int8, { x64quantprecision: '1' });
  return candidates;
}

void main();

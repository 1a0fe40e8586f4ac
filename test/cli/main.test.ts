import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseNpy } from '../../lib/readers/npy';

const ROOT = join(__dirname, '..', '..');
const EXAMPLES = join(ROOT, 'examples', 'fashion-mnist');
const MEAN_STD = ['--mean', '0.286', '--std', '0.353'];

describe('the command q8', function () {
  // Each run starts a Node that compiles the sources.
  this.timeout(120000);
  let folder: string;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'q8-cli-'));
    copyFileSync(join(EXAMPLES, 'resnet8.onnx'), join(folder, 'float.onnx'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function q8(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    const tsx = require.resolve('tsx/cjs');
    const main = join(ROOT, 'lib', 'cli', 'main.ts');
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--require', tsx, main, ...args], {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });
    return { status, stdout, stderr };
  }

  it('shows its help on stdout and its commands', () => {
    const { status, stdout, stderr } = q8(['--help']);
    assert.equal(status, 0);
    assert.equal(stderr, '');
    for (const name of ['cpuinfo', 'quantize', 'run', 'inspect', 'compare', 'bench'])
      assert.match(stdout, new RegExp(name));
  });

  it('ends with 2 and a suggestion on wrong usage', () => {
    const { status, stdout, stderr } = q8(['quantise', 'float.onnx']);
    assert.equal(status, 2);
    assert.equal(stdout, '');
    assert.match(stderr, /quantize/);
    assert.equal(q8([]).status, 2);
    assert.equal(q8(['run', 'float.onnx', '--runs', 'many']).status, 2);
  });

  it('ends with 1, a message and no stack on failure', () => {
    const { status, stderr } = q8(['inspect', 'missing.onnx']);
    assert.equal(status, 1);
    assert.match(stderr, /missing\.onnx/);
    assert.doesNotMatch(stderr, /\n\s+at /);
    assert.match(q8(['inspect', 'missing.onnx', '--verbose']).stderr, /\n\s+at /);
  });

  it('shows hints on a line of their own', () => {
    const { status, stderr } = q8([
      'quantize',
      'float.onnx',
      '-o',
      'x.onnx',
      '-c',
      join(EXAMPLES, 'calibration-images.idx.gz'),
    ]);
    assert.equal(status, 1);
    assert.match(stderr, /^error: .*\nhint: .*--mean/);
  });

  it('describes the CPU for people and for programs', () => {
    const { cpu, isa } = JSON.parse(q8(['cpuinfo', '--json']).stdout);
    const { status, stdout } = q8(['cpuinfo'], { FORCE_COLOR: '', NO_COLOR: '1' });
    assert.equal(status, 0);
    assert.ok(stdout.includes(cpu) && stdout.includes(isa.selected));
    assert.ok(!stdout.includes('\x1b'));
    const forced = q8(['cpuinfo', '--json'], { Q8_ISA: 'scalar' });
    assert.equal(JSON.parse(forced.stdout).isa.selected, 'scalar');
  });

  it('quantizes with real data, runs the result and compares it', () => {
    const data = ['--limit', '64', ...MEAN_STD];
    const images = join(EXAMPLES, 'calibration-images.idx.gz');
    const quantized = q8(['quantize', 'float.onnx', '-o', 'int8.onnx', '-c', images, ...data, '--json']);
    assert.equal(quantized.status, 0, quantized.stderr);
    const report = JSON.parse(quantized.stdout);
    assert.equal(report.calibration.samples, 64);
    assert.ok(readFileSync(join(folder, 'int8.onnx')).length < readFileSync(join(folder, 'float.onnx')).length / 2);

    const run = q8(['run', 'int8.onnx', '--random', '-o', 'outputs', '--runs', '3', '--profile']);
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /of peak[\s\S]*all qconv/);
    assert.match(run.stdout, /float32\[1, 10\]/);
    assert.deepEqual(parseNpy(readFileSync(join(folder, 'outputs', 'logits.npy')), 'logits').dims, [1, 10]);

    const trace = q8(['run', 'int8.onnx', '--random', '--profile=chrome']);
    assert.ok(JSON.parse(trace.stdout).traceEvents.length > 5, trace.stderr);
    assert.match(q8(['run', 'int8.onnx', '--random', '--profile', 'svg']).stdout, /^<svg[\s\S]*<\/svg>\s*$/);
    assert.equal(q8(['run', 'int8.onnx', '--random', '--profile=xml']).status, 2);

    const compare = ['compare', 'float.onnx', 'int8.onnx', '-d', images, ...data];
    const { samples, tensors } = JSON.parse(q8([...compare, '--json', '--report', 'compared.html']).stdout);
    assert.equal(samples, 64);
    const { accumulated } = tensors.find(({ isOutput }: { isOutput: boolean }) => isOutput);
    assert.ok(accumulated.cosine > 0.99 && accumulated.sqnr > 15, JSON.stringify(accumulated));
    assert.match(readFileSync(join(folder, 'compared.html'), 'utf8'), /<title>int8\.onnx beside float\.onnx</);
    const gate = q8([...compare, '--min-sqnr', '90']);
    assert.equal(gate.status, 3);
    assert.match(gate.stdout, /weakest of \d+ layers/);
    assert.equal(q8([...compare, '--report', 'x.pdf']).status, 2);

    const inspection = JSON.parse(q8(['inspect', 'int8.onnx', '--json']).stdout);
    assert.ok(inspection.operators.find(({ op }: { op: string }) => op === 'QLinearConv').quantized > 0);
    assert.equal(inspection.execution.typescript, 0);
    assert.equal(inspection.execution.unknown, 0);
  });

  it('quantizes in all modes', () => {
    const report = (...args: string[]) => {
      const { status, stdout, stderr } = q8(['quantize', '--json', ...args]);
      assert.equal(status, 0, stderr);
      return JSON.parse(stdout);
    };
    assert.equal(
      report('float.onnx', '-o', 'dynamic.onnx', '--mode', 'dynamic', '--include', 'type:Conv').format,
      'qoperator',
    );
    const method = ['--calibration-method', 'percentile', '--percentile', '99.9', '--bins', '512'];
    const ranges = ['--random', '4', '--save-ranges', 'ranges.json'];
    const first = report('float.onnx', '-o', 'x.onnx', ...method, ...ranges);
    assert.equal(first.calibration.method, 'percentile');
    const qdq = report('float.onnx', '-o', 'qdq.onnx', '--ranges', 'ranges.json', '--format', 'qdq');
    assert.deepEqual(qdq.calibration, first.calibration);
    const imported = report('qdq.onnx', '-o', 'imported.onnx', '--mode', 'qat');
    assert.deepEqual(imported.quantizedNodes, qdq.quantizedNodes);
    assert.equal(q8(['quantize', 'float.onnx', '-o', 'x.onnx', '--mode', 'dynamic', '--random', '1']).status, 2);
    const prepared = report('float.onnx', '-o', 'prepared.onnx', '--prepare-only');
    assert.ok(prepared.nodes.after < prepared.nodes.before);
    const bits = ['--mode', 'weightOnly', '--bits', '8', '--block-size', '16', '--symmetric', '--include', 'type:Gemm'];
    const blocks = report('float.onnx', '-o', 'blocks.onnx', ...bits, '--accuracy-level', '1', '--verify');
    assert.deepEqual(blocks.quantizedNodes, { Gemm: 1 });
    assert.deepEqual([blocks.tensors[0].type, blocks.tensors[0].block], ['uint8', 16]);
    const rounded = ['--mode', 'weightOnly', '--algorithm', 'gptq', '--random', '2'];
    assert.equal(report('float.onnx', '-o', 'gptq.onnx', ...rounded, '--include', 'type:Gemm').mode, 'weightOnly');
    for (const wrong of [
      ['--bits', '3'],
      ['--block-size', '17'],
      ['--algorithm', 'hqq', '--format', 'qdq'],
    ]) {
      const refused = q8(['quantize', 'float.onnx', '-o', 'x.onnx', '--mode', 'weightOnly', ...wrong]);
      assert.equal(refused.status, 1, refused.stderr);
      assert.match(refused.stderr, /^error: Expected .* for the option .* received/);
    }
    const side = report('float.onnx', '-o', 'side.onnx', '--prepare-only', '--external-data');
    assert.deepEqual(side.nodes, prepared.nodes);
    assert.ok(existsSync(join(folder, 'side.onnx.data')));
    assert.equal(report('float.onnx', '-o', 'newer.onnx', '--prepare-only', '--opset', '26').opset, 26);
    const { status, stderr } = q8(['quantize', 'float.onnx', '-o', 'x.onnx', '--mode', 'qat', '--format', 'qdq']);
    assert.equal(status, 1);
    assert.match(stderr, /Expected QuantizeLinear and DequantizeLinear nodes/);
  });

  it('takes a config file, algorithms and a report', () => {
    const images = join(EXAMPLES, 'calibration-images.idx.gz');
    const config = {
      output: 'configured.onnx',
      calibration: images,
      mean: 0.286,
      std: [0.353],
      limit: 8,
      perChannel: false,
      algorithms: ['equalize', 'correctBias'],
      report: 'configured.html',
      exclude: 'type:Gemm',
    };
    writeFileSync(join(folder, 'q8.config.json'), JSON.stringify(config));
    const args = ['quantize', 'float.onnx', '--config', 'q8.config.json'];
    const { status, stdout, stderr } = q8([...args, '--json', '--limit', '4', '--activation-type', 'int8']);
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout);
    assert.equal(report.calibration.samples, 4);
    assert.equal(report.activationType, 'int8');
    assert.equal(report.perChannel, false);
    assert.deepEqual(
      report.algorithms.map(({ name }: { name: string }) => name),
      ['equalize', 'correctBias'],
    );
    assert.ok(report.analysis.tensors.length > 5);
    assert.match(readFileSync(join(folder, 'configured.html'), 'utf8'), /configured\.onnx/);
    assert.ok(existsSync(join(folder, 'configured.onnx')));
    for (const [key, value, message] of [
      ['calibratoin', 'x', /Did you mean "calibration"\?/],
      ['perChannel', 'yes', /true or false for "perChannel"/],
      ['format', 'qlinear', /one of qoperator, qdq/],
      ['limit', 'many', /"limit": It must be a positive integer/],
    ] as const) {
      writeFileSync(join(folder, 'q8.config.json'), JSON.stringify({ [key]: value }));
      const wrong = q8([...args, '--random', '1']);
      assert.equal(wrong.status, 2, wrong.stderr);
      assert.match(wrong.stderr, message);
    }
  });

  it('shows the plan without data', () => {
    const { status, stdout, stderr } = q8(['quantize', 'float.onnx', '--dry-run', '--exclude', 'type:Gemm']);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /int8 per channel/);
    assert.match(stdout, /Gemm +listed in|Gemm .*exclude/);
    const plan = JSON.parse(q8(['quantize', 'float.onnx', '--dry-run', '--json']).stdout);
    const real = JSON.parse(q8(['quantize', 'float.onnx', '-o', 'planned.onnx', '--random', '1', '--json']).stdout);
    assert.deepEqual(plan.quantizedNodes, real.quantizedNodes);
    assert.deepEqual(plan.floatNodes, real.floatNodes);
    assert.ok(plan.nodes.length > 0 && plan.calibrated.length > 0);
    const blocks = q8([
      'quantize',
      'float.onnx',
      '--dry-run',
      '--mode',
      'weightOnly',
      '--bits',
      '8',
      '--block-size',
      '64',
    ]);
    assert.match(blocks.stdout, /uint8 per block of 64/);
    assert.match(blocks.stdout, /Size .* -> /);
  });

  it('says what a target sets, and what flags set instead', () => {
    const args = ['--dry-run', '--json', '--target', 'tensorrt', '--weight-pairs', '--no-per-channel'];
    const { status, stdout, stderr } = q8(['quantize', 'float.onnx', ...args]);
    assert.equal(status, 0, stderr);
    const { format, activationType } = JSON.parse(stdout);
    assert.deepEqual({ format, activationType }, { format: 'qdq', activationType: 'int8' });
    assert.match(stderr, /quantizeBias +false +TensorRT adds biases in float/);
    assert.match(stderr, /perChannel +false +as you said/);
    assert.equal(q8(['quantize', 'float.onnx', '--dry-run', '--target', 'vnni', '--quiet']).stderr, '');
  });

  it('finds no difference between a model and itself', () => {
    const args = ['compare', 'float.onnx', 'float.onnx', '--random', '2', '--json', '--min-sqnr', '90'];
    const { tensors } = JSON.parse(q8(args).stdout);
    const { name, accumulated } = tensors.at(-1);
    assert.equal(name, 'logits');
    assert.deepEqual(accumulated, { sqnr: null, cosine: 1, maxAbsError: 0 });
  });

  it('never overwrites its input', () => {
    symlinkSync('float.onnx', join(folder, 'link.onnx'));
    const before = readFileSync(join(folder, 'float.onnx'));
    for (const output of ['float.onnx', './float.onnx', 'link.onnx']) {
      const { status, stderr } = q8(['quantize', 'float.onnx', '-o', output, '--random', '1']);
      assert.equal(status, 2);
      assert.match(stderr, /does not overwrite/);
    }
    assert.deepEqual(readFileSync(join(folder, 'float.onnx')), before);
  });

  it('writes nothing when it fails', () => {
    const { status } = q8(['quantize', 'float.onnx', '-o', 'never.onnx', '--random', '1', '--exclude', 'nobody']);
    assert.equal(status, 1);
    assert.ok(!existsSync(join(folder, 'never.onnx')));
    assert.equal(q8(['quantize', 'float.onnx', '-o', 'nowhere/x.onnx', '--random', '1']).status, 2);
  });

  it('asks for data when there is none', () => {
    assert.equal(q8(['quantize', 'float.onnx', '-o', 'x.onnx']).status, 2);
    assert.equal(q8(['run', 'float.onnx']).status, 2);
    assert.match(q8(['run', 'float.onnx', '--input', 'y=a.npy']).stderr, /no input "y"/);
  });

  it('ends with 130 on Ctrl-C', async () => {
    const args = ['--require', require.resolve('tsx/cjs'), join(ROOT, 'lib', 'cli', 'main.ts')];
    const child = spawn(process.execPath, [...args, 'bench', 'float.onnx', '--seconds', '60'], { cwd: folder });
    await once(child.stderr, 'data');
    child.kill('SIGINT');
    assert.deepEqual(await once(child, 'exit'), [130, null]);
  });

  it('measures qgemm, and draws what it reaches', () => {
    const args = ['bench', 'gemm', '--seconds', '0.001', '--filter', '16x', '--threads', '1', '--chart', 'peak.svg'];
    const { status, stdout } = q8([...args, '--pairs', 'u8s8,s8u8', '--json']);
    assert.equal(status, 0);
    const { machine, gemm } = JSON.parse(stdout);
    assert.ok(machine.peakGmacPerSecond > 0);
    assert.deepEqual(
      gemm.map(({ pair, shape }: { pair: string; shape: number[] }) => [pair, ...shape]),
      [
        ['u8s8', 16, 1024, 1024],
        ['s8u8', 16, 1024, 1024],
      ],
    );
    // onnxruntime has no kernel for s8 x u8.
    assert.ok(gemm[0].ortMilliseconds > 0 && gemm[1].ortMilliseconds === null);
    assert.match(readFileSync(join(folder, 'peak.svg'), 'utf8'), /^<svg.*16×1024×1024/s);
    assert.equal(q8(['bench', 'gemm', '--pairs', 'u8s9']).status, 2);
    assert.match(q8(['bench', 'gemm', '--filter', '17x17']).stderr, /64x768x768/);
  });

  it('measures a model', () => {
    const { status, stdout } = q8(['bench', 'float.onnx', '--seconds', '0.05', '--json']);
    assert.equal(status, 0);
    assert.ok(JSON.parse(stdout).milliseconds > 0);
  });
});

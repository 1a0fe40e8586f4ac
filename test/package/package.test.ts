/**
 * The package as users get it: packed, installed in an empty folder without compiler or dev dependencies, and used from
 * CommonJS, ES modules, TypeScript and the shell.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(__dirname, '..', '..');
const isWindows = process.platform === 'win32';

/** Runs a program in `cwd`, returns its stdout. npm must not pass on settings of the npm that started the tests. */
function run(cwd: string, command: string, args: readonly string[]): string {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_(config|package|lifecycle)/i.test(name)),
  );
  return execFileSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    shell: isWindows,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

describe('the package', () => {
  let folder: string;
  let packed: { filename: string; size: number; files: { path: string }[] };

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'q8-package-'));
    const output = run(ROOT, 'npm', ['pack', '--json', '--loglevel=error', '--pack-destination', folder]);
    // What prepack prints comes first.
    const report = JSON.parse(output.slice(output.search(/^[[{]\s*$/m)));
    packed = Array.isArray(report) ? report[0] : (Object.values(report)[0] as typeof packed);
    writeFileSync(join(folder, 'package.json'), '{ "name": "empty", "private": true }\n');
    const install = ['install', '--omit=dev', '--no-fund', '--no-audit', '--prefer-offline', '--loglevel=error'];
    run(folder, 'npm', [...install, `./${packed.filename}`]);
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  it('holds what users need and nothing else', () => {
    const paths = packed.files.map(({ path }) => path);
    const wanted = [
      'LICENSE',
      'README.md',
      'CMakeLists.txt',
      'binding.d.ts',
      'binding-options.js',
      'dist/index.js',
      'dist/index.mjs',
      'dist/index.d.ts',
      'dist/index.d.mts',
      'dist/cli/main.js',
      'dist/ort-thread.js',
      `prebuilds/q8-${process.platform}-${process.arch}/node-napi-v8.node`,
    ];
    for (const path of wanted) assert.ok(paths.includes(path), `${path} is missing`);
    const allowed =
      /^(dist|native|prebuilds)\/|^(LICENSE|README\.md|CHANGELOG\.md|package\.json|CMakeLists\.txt|binding.*|scripts\/build-native\.mjs)$/;
    assert.deepEqual(
      paths.filter((path) => !allowed.test(path) || /\.test\.|\.onnx$|\.gz$|\.map$/.test(path)),
      [],
    );
    assert.ok(packed.size < 5e6, `the tarball takes ${packed.size} bytes`);
  });

  it('brings few packages and no install script', () => {
    const names = readdirSync(join(folder, 'node_modules')).filter((name) => !name.startsWith('.'));
    assert.deepEqual(names.sort(), ['commander', 'long', 'picocolors', 'pkg-prebuilds', 'protobufjs', 'q8']);
    const { scripts } = JSON.parse(readFileSync(join(folder, 'node_modules', 'q8', 'package.json'), 'utf8'));
    for (const name of ['preinstall', 'install', 'postinstall']) assert.equal(scripts[name], undefined, name);
  });

  it('works from CommonJS', () => {
    writeFileSync(
      join(folder, 'use.cjs'),
      `const { qgemm, Q8Error, cpuInfo } = require('q8');
       const c = qgemm({ m: 1, n: 2, k: 2, a: Uint8Array.of(1, 2), b: Int8Array.of(3, -4, 5, 6) });
       let error;
       try { qgemm({ m: -1 }); } catch (e) { error = e; }
       console.log(JSON.stringify([[...c], error instanceof Q8Error, error.code, typeof cpuInfo().cpu]));`,
    );
    const output = JSON.parse(run(folder, process.execPath, ['use.cjs']));
    assert.deepEqual(output, [[13, 8], true, 'ERR_Q8_INVALID_ARGUMENT', 'string']);
  });

  it('works from ES modules, with every name of the CommonJS build and the same classes', () => {
    writeFileSync(
      join(folder, 'use.mjs'),
      `import * as esm from 'q8';
       import { createRequire } from 'node:module';
       const cjs = createRequire(import.meta.url)('q8');
       const c = esm.qgemm({ m: 1, n: 1, k: 1, a: Uint8Array.of(255), b: Int8Array.of(-128) });
       const same = Object.keys(cjs).filter((name) => cjs[name] !== esm[name]);
       console.log(JSON.stringify([c[0], Object.keys(esm).sort(), Object.keys(cjs).sort(), same]));`,
    );
    const [product, esm, cjs, different] = JSON.parse(run(folder, process.execPath, ['use.mjs']));
    assert.equal(product, -32640);
    assert.deepEqual(esm, cjs);
    assert.deepEqual(different, []);
    assert.ok(cjs.includes('InferenceSession') && cjs.includes('quantize'));
  });

  it('quantizes and runs a model', () => {
    copyFileSync(join(ROOT, 'examples', 'fashion-mnist', 'resnet8.onnx'), join(folder, 'model.onnx'));
    const q8 = join(folder, 'node_modules', '.bin', 'q8');
    run(folder, q8, ['quantize', 'model.onnx', '-o', 'int8.onnx', '--random', '4', '--quiet']);
    const { outputs } = JSON.parse(run(folder, q8, ['run', 'int8.onnx', '--random', '--json']));
    assert.deepEqual(outputs[0].dims, [1, 10]);
  });

  it('brings a command line', () => {
    const info = JSON.parse(run(folder, 'npx', ['--no-install', 'q8', 'cpuinfo', '--json']));
    assert.ok(info.isa.supported.includes('scalar'));
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    assert.equal(info.versions.q8, version);
  });

  it('has types for ES modules and CommonJS', () => {
    const source = `
      const c: Int32Array = qgemm({ m: 1, n: 1, k: 1, a: new Uint8Array(1), b: new Int8Array(1) });
      const requantize = { scale: 1, dtype: 'uint8' } as const;
      const q: Uint8Array = qgemm({ m: 1, n: 1, k: 1, a: new Uint8Array(1), b: new Int8Array(1), requantize });
      export async function use(): Promise<readonly string[]> {
        const calibration = [{ x: new Tensor('float32', [1], [1]) }];
        const { model, report } = await quantize('model.onnx', { mode: 'static', calibration });
        const session: InferenceSession = await InferenceSession.create(model);
        // @ts-expect-error: there is no such option
        await quantize('model.onnx', { mode: 'static', calibration, perchannel: true });
        return [...session.inputNames, report.format, String(c[0] + q[0])];
      }`;
    writeFileSync(
      join(folder, 'use-types.mts'),
      `import { InferenceSession, qgemm, quantize, Tensor } from 'q8';${source}`,
    );
    writeFileSync(
      join(folder, 'use-types.cts'),
      `import { InferenceSession, qgemm, quantize, Tensor } from 'q8';${source}`,
    );
    const tsc = createRequire(__filename).resolve('typescript/bin/tsc');
    const options = ['--noEmit', '--strict', '--module', 'node16', '--target', 'es2023', '--types', 'node'];
    const types = ['--typeRoots', join(ROOT, 'node_modules', '@types'), '--lib', 'es2023,esnext.disposable'];
    run(folder, process.execPath, [tsc, ...options, ...types, 'use-types.mts', 'use-types.cts']);
  });
});

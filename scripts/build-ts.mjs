// Builds dist/: the library and the command line in one file each by esbuild, declarations by tsc, and an ES module facade
// that re-exports every name of the library. One build, so that ESM and CommonJS callers share one addon, one thread pool
// and one Q8Error class. One file, because finding and opening three hundred takes longer than running them.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lib = join(root, 'lib');
const dist = join(root, 'dist');
const require = createRequire(import.meta.url);

rmSync(dist, { recursive: true, force: true });
declare();
await build({
  absWorkingDir: root,
  entryPoints: { index: join(lib, 'index.ts'), 'cli/main': join(lib, 'cli', 'main.ts') },
  outdir: dist,
  bundle: true,
  packages: 'external',
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
  // Classes that mention themselves would be called _Tensor.
  keepNames: true,
  logLevel: 'warning',
});
// A thread starts from a file of its own, which is looked for beside whoever starts it.
for (const folder of ['.', 'cli']) {
  copyFileSync(join(lib, 'quantize', 'engines', 'ort-thread.js'), join(dist, folder, 'ort-thread.js'));
}
writeFacade();
chmodSync(join(dist, 'cli', 'main.js'), 0o755);

function declare() {
  const tsc = require.resolve('typescript/bin/tsc');
  const { status } = spawnSync(process.execPath, [tsc, '--project', 'tsconfig.build.json'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
  // Generated, and so left out by tsc.
  cpSync(join(lib, 'onnx', 'onnx-proto.d.ts'), join(dist, 'onnx', 'onnx-proto.d.ts'));
}

/**
 * dist/index.mjs names its exports one by one, because Node cannot see through every CommonJS pattern. Its types are those
 * of the CommonJS build: an .mts declaration resolves './index.js' to index.d.ts.
 */
function writeFacade() {
  const names = Object.keys(require(join(dist, 'index.js'))).sort();
  const list = names.map((name) => `  ${name},\n`).join('');
  writeFileSync(join(dist, 'index.mjs'), `import q8 from './index.js';\n\nexport const {\n${list}} = q8;\n`);
  writeFileSync(join(dist, 'index.d.mts'), "export * from './index.js';\n");
}

// Builds dist/: CommonJS and its declarations by tsc, then an ES module facade that re-exports every name of it. One build,
// so that ESM and CommonJS callers share one addon, one thread pool and one Q8Error class.
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');
const require = createRequire(import.meta.url);

rmSync(dist, { recursive: true, force: true });
compile();
copyScript('onnx/onnx-proto.js');
copyScript('onnx/onnx-proto.d.ts');
copyScript('quantize/engines/ort-thread.js');
writeFacade();
chmodSync(join(dist, 'cli', 'main.js'), 0o755);

function compile() {
  const tsc = require.resolve('typescript/bin/tsc');
  const { status } = spawnSync(process.execPath, [tsc, '--project', 'tsconfig.build.json'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
}

/** tsc leaves out files that it did not make: the generated protobuf code, and the script of a thread. */
function copyScript(name) {
  cpSync(join(root, 'lib', name), join(dist, name));
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

// Compiles lib/onnx/onnx.proto to lib/onnx/onnx-proto.js and onnx-proto.d.ts, which are committed so that a build needs no
// protobuf compiler. Run it after a change of the schema.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const file = (name) => fileURLToPath(new URL(`../lib/onnx/${name}`, import.meta.url));
const pbjs = createRequire(import.meta.url).resolve('protobufjs-cli/bin/pbjs');

// Only what reading and writing bytes needs. 64-bit fields decode to Long and encode from Long or number.
const lean = ['--no-create', '--no-verify', '--no-convert', '--no-delimited', '--no-typeurl', '--no-service'];
const common = ['-t', 'static-module', '-w', 'commonjs', '-r', 'q8', ...lean, '-o', file('onnx-proto.js')];

// The declarations are made from the comments of the code, so they come first; the code itself is kept without comments.
for (const flag of ['--dts', '--no-comments']) {
  execFileSync(process.execPath, [pbjs, ...common, flag, file('onnx.proto')], { stdio: 'inherit' });
}
for (const name of ['onnx-proto.js', 'onnx-proto.d.ts']) {
  const body = readFileSync(file(name), 'utf8');
  writeFileSync(file(name), `// Made from onnx.proto by scripts/gen-onnx-proto.mjs. Do not edit.\n${body}`);
}

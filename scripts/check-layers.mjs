// Checks the layering that ARCHITECTURE.md promises: which room of lib/ may import which, where napi.h and intrinsics may
// appear in native/, and that the list of operators is sorted. Prints each violation as file:line and exits with 1.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const violations = [];

/** What each room of lib/ may import besides itself and errors.ts. */
const MAY_IMPORT = {
  binding: [],
  tensor: ['binding'],
  onnx: ['tensor'],
  graph: ['tensor'],
  readers: ['graph', 'onnx', 'tensor'],
  kernels: ['tensor', 'binding'],
  ops: ['graph', 'tensor'],
  passes: ['ops', 'graph', 'tensor'],
  runtime: ['passes', 'ops', 'kernels', 'graph', 'onnx', 'tensor', 'binding'],
  report: ['runtime', 'passes', 'ops', 'graph', 'onnx', 'tensor'],
  quantize: ['readers', 'report', 'runtime', 'passes', 'ops', 'graph', 'onnx', 'tensor'],
  bench: ['kernels', 'graph', 'onnx', 'tensor', 'binding'],
  cli: ['bench', 'readers', 'report', 'quantize', 'runtime', 'passes', 'ops', 'kernels', 'graph', 'onnx', 'tensor'],
};

/** Where the file format and the graph meet: nowhere else. */
const TRANSLATORS = ['graph/from-proto', 'graph/inline-functions', 'graph/tensor-proto', 'graph/to-proto'];

/** Why an import that the table forbids is right all the same. */
function isException(importer, target, typeOnly) {
  if (TRANSLATORS.includes(importer) && target.startsWith('onnx/')) return true;
  // The contract of operators: inference drives it, and is handed the operators by its caller.
  return typeOnly && importer.startsWith('graph/') && target === 'ops/define-op';
}

checkImports();
checkIncludes();
checkOperatorList();

for (const violation of violations) console.error(violation);
if (violations.length > 0) process.exit(1);

function checkImports() {
  for (const file of filesUnder('lib', /\.ts$/)) {
    const importer = withoutExtension(relative('lib', file));
    for (const { line, path, typeOnly } of importsOf(file)) {
      const target = withoutExtension(relative('lib', normalize(join(dirname(file), path))));
      const [from, to] = [roomOf(importer), roomOf(target)];
      // index.ts may import all rooms, errors.ts may be imported by all. Above lib/ are package.json and binding.d.ts.
      if (from === 'index' || to === 'errors' || from === to || to === '..') continue;
      // The command line stands on the public API where that is enough.
      if (from === 'cli' && to === 'index') continue;
      if (MAY_IMPORT[from]?.includes(to) || isException(importer, target, typeOnly)) continue;
      violations.push(`${file}:${line}: lib/${from} must not import lib/${to}`);
    }
  }
}

function importsOf(file) {
  const source = readFileSync(join(root, file), 'utf8');
  const pattern =
    /(?:^|\n)\s*(import|export)(\s+type)?\b[^;'"]*?from\s+['"](\.[^'"]*)['"]|(?:import|require)\(\s*['"](\.[^'"]*)['"]\s*\)/g;
  return [...source.matchAll(pattern)].map((match) => ({
    line: source.slice(0, match.index).split('\n').length + (match[0].startsWith('\n') ? 1 : 0),
    path: match[3] ?? match[4],
    // typeof import('...') and import('...').Name are types as well.
    typeOnly:
      match[2] !== undefined || (match[4] !== undefined && !/(await|=>|=)\s*$/.test(source.slice(0, match.index))),
  }));
}

function checkIncludes() {
  const intrinsics = /^(\w*intrin|arm_\w+)\.h$/;
  for (const file of filesUnder('native', /\.(cc|h|inc)$/)) {
    const source = readFileSync(join(root, file), 'utf8');
    source.split('\n').forEach((text, index) => {
      const header = /^\s*#\s*include\s*[<"]([^>"]+)[>"]/.exec(text)?.[1];
      if (header === undefined) return;
      const at = `${file}:${index + 1}`;
      const isBinding = file === join('native', 'addon.cc') || file.startsWith(join('native', 'binding') + sep);
      if (/^napi/.test(header) && !isBinding) violations.push(`${at}: ${header} belongs in native/binding`);
      if (/^binding\//.test(header) && !isBinding) violations.push(`${at}: nothing below native/binding includes it`);
      // cpu/ asks the processor what it has (cpuid, xgetbv); nothing else outside the rooms may hold an intrinsic.
      const isRoom = /^native[\\/](cpu|kernels[\\/][a-z0-9]+)[\\/]/.test(file);
      if (intrinsics.test(header) && !isRoom) violations.push(`${at}: ${header} belongs in native/kernels/<isa>`);
      if (file.startsWith(join('native', 'kernels') + sep) && !isFreestanding(header, intrinsics)) {
        violations.push(
          `${at}: kernels include only intrinsics and freestanding headers, or the linker may keep a copy of a ` +
            `shared inline function that older CPUs cannot run`,
        );
      }
    });
  }
}

function isFreestanding(header, intrinsics) {
  return intrinsics.test(header) || /^(cstddef|cstdint|cmath|cstring)$/.test(header) || header.startsWith('kernels/');
}

/** The one list of operators is in alphabetical order, so that two people who add one do not collide. */
function checkOperatorList() {
  const file = join('lib', 'ops', 'index.ts');
  const list = /OPERATORS[^=]*= \[([^\]]*)\]/.exec(readFileSync(join(root, file), 'utf8'))?.[1];
  const names = list?.match(/\w+/g) ?? [];
  if (names.length === 0) violations.push(`${file}: the list OPERATORS is missing`);
  names.forEach((name, i) => {
    if (i > 0 && name <= names[i - 1]) violations.push(`${file}: ${name} must come before ${names[i - 1]}, and once`);
  });
}

function filesUnder(folder, pattern) {
  return readdirSync(join(root, folder), { recursive: true })
    .filter((name) => pattern.test(name) && !name.endsWith('.d.ts'))
    .map((name) => join(folder, name))
    .sort();
}

function withoutExtension(path) {
  return path.replace(/\.(ts|js)$/, '');
}

function roomOf(module) {
  return module.split(sep)[0];
}

// Runs every instruction set of both architectures on one Linux machine and prints what ran as which CPU.
//   node scripts/test-isa.mjs [CPU model ...]
// On the host: the C++ tests, and the JS kernel tests and the smoke test on each level that the host has. Under
// qemu-user, as CPU models of which each makes detection choose another level: the C++ tests (guard pages around every
// buffer), the JS kernel tests and the smoke test (test/isa/smoke.ts: products and the two demo networks, against
// committed SHA-256), in a Node of that architecture. Levels that a model lacks must be refused when forced, and must
// die of an illegal instruction when executed regardless. The packed package is installed once and must load its own
// binary in the Node of either architecture. Besides, on the objects of both builds: no vector instruction of a level
// outside of its room, and no function in a room that the linker could take for another file's (see
// native/kernels/kernel_table.h). What did not run is printed as skipped with the reason. Missing tools are installed
// when root on Debian, else listed.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_VERSION = '20.20.2';
// Not those that watch the clock: emulated CPUs are slow.
const JS_TESTS = ['test/kernels/qgemm.test.ts', 'test/program/qconv.test.ts', 'test/program/steps.test.ts'];
const TIMEOUT_MS = 20 * 60 * 1000;

/** By Node's name of the architecture: how to build for and emulate it on the other one, and the models to run as. */
const ARCHITECTURES = {
  x64: {
    emulator: 'qemu-x86_64',
    sysroot: '/usr/x86_64-linux-gnu',
    compiler: ['x86_64-linux-gnu-g++', 'g++-x86-64-linux-gnu'],
    objdump: ['x86_64-linux-gnu-objdump', 'binutils-x86-64-linux-gnu'],
    // qemu has no AVX-512, also not as "max": those levels run on hosts that have it.
    models: { Nehalem: 'scalar', Haswell: 'avx2', max: 'avx2' },
    // VEX and EVEX instructions start with v. Within the rooms: zmm and masks belong to AVX-512, which AMX includes, and
    // tiles to AMX.
    foreign: (instruction, room) => {
      if (room === 'scalar' || !room) return /^v(?!err|erw)|%tmm|tilecfg/.test(instruction);
      if (room.startsWith('amx')) return false;
      return /%tmm|tilecfg/.test(instruction) || (!room.startsWith('avx512') && /%zmm|%k[0-7]/.test(instruction));
    },
  },
  arm64: {
    emulator: 'qemu-aarch64',
    sysroot: '/usr/aarch64-linux-gnu',
    compiler: ['aarch64-linux-gnu-g++', 'g++-aarch64-linux-gnu'],
    objdump: ['aarch64-linux-gnu-objdump', 'binutils-aarch64-linux-gnu'],
    models: { 'cortex-a72': 'neon', 'neoverse-n1': 'neondot', max: 'neoni8mm' },
    foreign: (instruction, room) =>
      (/^[us]dot\b/.test(instruction) && room !== 'neondot' && room !== 'neoni8mm') ||
      (/^(us|s|u)mmla\b|^usdot\b|^sudot\b/.test(instruction) && room !== 'neoni8mm'),
  },
};

const host = process.arch;
const guest = host === 'x64' ? 'arm64' : 'x64';
if (process.platform !== 'linux' || !ARCHITECTURES[host]) {
  fail(`test:isa runs on Linux x64 and arm64; this is ${process.platform}-${host}.`);
}
const onlyModels = process.argv.slice(2);
const addons = {
  [host]: join(root, 'build/Release/q8.node'),
  [guest]: join(root, `build-linux-${guest}/Release/q8.node`),
};
const tests = {
  [host]: join(root, 'build-native-tests/test/native'),
  [guest]: join(root, `build-linux-${guest}/test/native`),
};
const results = [];

installTools();
buildAll();
const nodes = { [host]: process.execPath, [guest]: installNode(guest) };
for (const arch of [host, guest]) checkObjects(arch);
if (onlyModels.length === 0) {
  testHost();
  testPackage();
}
for (const arch of [host, guest]) {
  for (const [model, level] of Object.entries(ARCHITECTURES[arch].models)) {
    if (onlyModels.length === 0 || onlyModels.includes(model)) testModel(arch, model, level);
  }
}
report();

// Tools and builds ----------------------------------------------------------------------------------------------------

function installTools() {
  const { compiler, objdump } = ARCHITECTURES[guest];
  const wanted = [
    ['cmake', 'cmake'],
    ['objdump', 'binutils'],
    compiler,
    objdump,
    ...Object.values(ARCHITECTURES).map(({ emulator }) => [emulator, 'qemu-user']),
  ];
  const isMissing = ([command]) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status !== 0;
  const packages = [...new Set(wanted.filter(isMissing).map(([, name]) => name))];
  if (packages.length === 0) return;
  const install = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid() !== 0 || !existsSync('/usr/bin/apt-get'))
    fail(`test:isa needs tools that are missing: ${install}`);
  say(install);
  spawnSync('apt-get', ['update', '-qq'], { stdio: 'inherit' });
  spawnSync('sh', ['-c', install], { stdio: ['ignore', 2, 2] });
  const left = wanted.filter(isMissing);
  if (left.length > 0) fail(`Still missing: ${left.map(([command]) => command).join(', ')}.`);
}

function buildAll() {
  say(`building for ${host} and ${guest}`);
  const native = join(root, 'scripts/build-native.mjs');
  must(process.execPath, [native]);
  must(process.execPath, [native, '--target', `linux-${guest}`]);
  // The guest's tests share the tree of its addon; the host's have one of their own, that of test-native.mjs.
  configureTests(join(root, `build-linux-${guest}`), [
    `-DCMAKE_TOOLCHAIN_FILE=${join(root, `cmake/linux-${guest}.cmake`)}`,
  ]);
  configureTests(join(root, 'build-native-tests'), existsSync(join(root, 'build-native-tests')) ? [] : ninjaIfThere());
}

function configureTests(folder, options) {
  must('cmake', ['-S', root, '-B', folder, '-DQ8_BUILD_TESTS=ON', '-DCMAKE_BUILD_TYPE=Release', ...options]);
  must('cmake', ['--build', folder, '--parallel', '2', '--target', 'q8_native_tests', 'q8_execute_level']);
}

function ninjaIfThere() {
  return spawnSync('ninja', ['--version'], { stdio: 'ignore' }).status === 0 ? ['-G', 'Ninja'] : [];
}

/** Node for the other architecture, from its npm package, into a folder that the build ignores. */
function installNode(arch) {
  const name = `node-linux-${arch}`;
  const folder = join(root, 'build-isa-node');
  const file = join(folder, 'node_modules', name, 'bin/node');
  if (existsSync(file)) return file;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const flags = ['--force', '--ignore-scripts', '--no-save', '--no-fund', '--no-audit'];
  must('npm', ['install', '--prefix', folder, ...flags, `${name}@${NODE_VERSION}`]);
  return file;
}

// Checks --------------------------------------------------------------------------------------------------------------

/** On the host: everything that its CPU has, and the names of what it lacks. */
function testHost() {
  const cpu = `this host: ${cpus()[0]?.model.trim() || host}`;
  const cpp = run([join(tests[host], 'q8_native_tests')]);
  const { supported, compiled } = levelsOf(host, []);
  for (const level of compiled) {
    if (!supported.includes(level)) {
      for (const check of ['C++ tests', 'JS tests', 'smoke'])
        record(host, level, cpu, check, 'skipped', 'this CPU lacks it');
      refuse(host, level, cpu, []);
      continue;
    }
    recordRun(host, level, cpu, 'C++ tests', cpp);
    testJs(host, level, cpu, [], { Q8_ISA: level });
  }
}

/** One tarball, installed without a compiler in sight, used by both kinds of Node. */
function testPackage() {
  const folder = join(root, 'build-isa-node', 'package');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const packed = run(['npm', 'pack', '--loglevel=error', '--pack-destination', folder]);
  if (packed.status !== 0) return recordRun('both', 'all', 'npm pack', 'package', packed);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  const flags = ['--omit=dev', '--ignore-scripts', '--no-fund', '--no-audit'];
  const installed = run(['npm', 'install', '--prefix', folder, ...flags, join(folder, tarball)]);
  if (installed.status !== 0) return recordRun('both', 'all', 'npm install', 'package', installed);
  const script = `
    const { cpuInfo, qgemm } = require(${JSON.stringify(join(folder, 'node_modules/q8'))});
    const [c] = qgemm({ m: 1, n: 1, k: 3, a: Uint8Array.of(1, 2, 255), b: Int8Array.of(4, -5, -128) });
    console.log(process.arch, cpuInfo().isa.selected, c)`;
  for (const arch of [host, guest]) {
    const { emulator, sysroot } = ARCHITECTURES[arch];
    const prefix = arch === host ? [] : [emulator, '-L', sysroot, '-cpu', 'max'];
    const ran = run([...prefix, nodes[arch], '-e', script], { Q8_BINARY: '' });
    const [ranAs, level, result] = ran.stdout.trim().split(' ');
    const fits = ranAs === arch && Number(result) === 4 - 10 - 255 * 128;
    recordRun(arch, level ?? 'none', 'installed package', 'package', { ...ran, status: ran.status || (fits ? 0 : 1) });
  }
}

/** Under emulation: the level that detection selects, which must be the expected one. */
function testModel(arch, model, expected) {
  const { emulator, sysroot } = ARCHITECTURES[arch];
  const prefix = [emulator, ...(arch === host ? [] : ['-L', sysroot]), '-cpu', model];
  const { selected, supported, compiled } = levelsOf(arch, prefix);
  record(arch, expected, model, 'detection', selected === expected ? 'passed' : 'failed', `selected ${selected}`);
  recordRun(arch, expected, model, 'C++ tests', run([...prefix, join(tests[arch], 'q8_native_tests')]));
  testJs(arch, expected, model, prefix, {});
  for (const level of compiled.filter((name) => !supported.includes(name))) refuse(arch, level, model, prefix);
}

function testJs(arch, level, cpu, prefix, env) {
  const node = [...prefix, nodes[arch]];
  const mocha = join(root, 'node_modules/mocha/bin/mocha.js');
  const js = run([...node, mocha, '--timeout', String(TIMEOUT_MS), ...JS_TESTS], { ...env, Q8_BINARY: addons[arch] });
  const passing = Number(/(\d+) passing/.exec(js.stdout)?.[1] ?? 0);
  recordRun(arch, level, cpu, 'JS tests', { ...js, status: js.status === 0 && passing === 0 ? 1 : js.status });

  const smoke = run([...node, '--require', 'tsx/cjs', join(root, 'test/isa/smoke.ts')], {
    ...env,
    Q8_BINARY: addons[arch],
  });
  if (smoke.status !== 0) return recordRun(arch, level, cpu, 'smoke', smoke);
  const { selected, arch: ranAs } = JSON.parse(smoke.stdout);
  if (selected !== level || ranAs !== arch) record(arch, level, cpu, 'smoke', 'failed', `ran on ${ranAs} ${selected}`);
  else record(arch, level, cpu, 'smoke', 'passed');
}

/** A level that this CPU lacks: forcing it is refused, and its instructions are illegal. */
function refuse(arch, level, cpu, prefix) {
  const script = `require(${JSON.stringify(addons[arch])})`;
  const forced = run([...prefix, nodes[arch], '-e', script], { Q8_ISA: level });
  const isRefused = forced.status !== 0 && forced.stderr.includes('ERR_Q8_UNSUPPORTED_CPU');
  record(
    arch,
    level,
    cpu,
    'refused',
    isRefused ? 'passed' : 'failed',
    isRefused ? undefined : `status ${forced.status}`,
  );
  const executed = run([...prefix, join(tests[arch], 'q8_execute_level'), level]);
  const isIllegal = executed.signal === 'SIGILL' || executed.status === 132;
  record(
    arch,
    level,
    cpu,
    'illegal',
    isIllegal ? 'passed' : 'failed',
    isIllegal ? undefined : `status ${executed.status}`,
  );
}

function levelsOf(arch, prefix) {
  const script = `console.log(JSON.stringify(require(${JSON.stringify(addons[arch])}).cpuInfo().isa))`;
  const { stdout, stderr, status } = run([...prefix, nodes[arch], '-e', script]);
  if (status !== 0) fail(`Cannot load ${addons[arch]} on ${prefix.join(' ') || 'this host'}: ${stderr}`);
  return JSON.parse(stdout);
}

/** Compares the objects that make up the addon with the rules of kernel_table.h. */
function checkObjects(arch) {
  const folder = join(addons[arch], '../../CMakeFiles');
  const { foreign, objdump } = ARCHITECTURES[arch];
  const tool = arch === host ? 'objdump' : objdump[0];
  const problems = [];
  let objects = 0;
  for (const name of readdirSync(folder, { recursive: true })) {
    if (!name.endsWith('.o') || !/q8(_core)?\.dir/.test(name)) continue;
    objects++;
    const file = join(folder, name);
    const room = /native\/kernels\/(\w+)\//.exec(name)?.[1];
    const code = run([tool, '-d', '--no-show-raw-insn', file]).stdout;
    const bad = [...code.matchAll(/^ +[0-9a-f]+:\t(.*)$/gm)].find(([, instruction]) => foreign(instruction, room));
    if (bad) problems.push(`${relative(root, file)}: ${bad[1]}`);
    if (!room) continue;
    const weak = /^\S+ +[wu].*$/m.exec(run([tool, '-tC', file]).stdout);
    if (weak) problems.push(`${relative(root, file)} shares ${weak[0]}`);
  }
  if (objects === 0) problems.push(`no objects in ${folder}`);
  record(
    arch,
    'all',
    `${objects} objects`,
    'rooms',
    problems.length === 0 ? 'passed' : 'failed',
    problems.join('; ') || undefined,
  );
}

// Running and reporting -----------------------------------------------------------------------------------------------

function run(command, env = {}) {
  // No core files of processes that die on purpose. tsx compiles through a child process, which is the host's esbuild.
  const esbuild = join(root, `node_modules/@esbuild/linux-${host}/bin/esbuild`);
  return spawnSync('sh', ['-c', 'ulimit -c 0; exec "$@"', 'sh', ...command], {
    cwd: root,
    env: { ...process.env, Q8_ISA: '', ESBUILD_BINARY_PATH: esbuild, ...env },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    timeout: TIMEOUT_MS,
  });
}

function must(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}.`);
}

function recordRun(arch, level, cpu, check, { status, signal, stdout, stderr }) {
  if (status === 0) return record(arch, level, cpu, check, 'passed');
  record(arch, level, cpu, check, 'failed', signal ?? `status ${status}`);
  // Mocha's failures are on stdout; qemu's remarks on features that it does not emulate say nothing.
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => !/^qemu-.*TCG doesn't support/.test(line));
  process.stderr.write(`${lines.slice(-40).join('\n')}\n`);
}

function record(arch, level, cpu, check, result, detail) {
  results.push({ arch, level, cpu, check, result, detail });
  say(`${arch} ${level} as ${cpu}: ${check} ${result}${detail ? ` (${detail})` : ''}`);
}

function report() {
  const rows = new Map();
  for (const { arch, level, cpu, check, result, detail } of results) {
    const key = [arch, level, cpu].join('|');
    const cells = rows.get(key) ?? [];
    cells.push(`${check} ${result}${detail && result !== 'passed' ? ` (${detail})` : ''}`);
    rows.set(key, cells);
  }
  const lines = [...rows].map(([key, cells]) => [...key.split('|'), cells.join(', ')]);
  const table = [['arch', 'level', 'ran as', 'checks'], ...lines];
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((line) => line[column].length)));
  for (const line of table) console.log(line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
  const count = (wanted) => results.filter(({ result }) => result === wanted).length;
  console.log(`\n${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`);
  process.exitCode = count('failed') === 0 && count('passed') > 0 ? 0 : 1;
}

function say(text) {
  process.stderr.write(`q8: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}

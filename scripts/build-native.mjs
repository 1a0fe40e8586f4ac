// Builds build/Release/q8.node from native/ with cmake-js, offline. An up-to-date build takes about a second.
//   node scripts/build-native.mjs [--debug] [--asan] [--rebuild] [--target linux-arm64]
// --debug   without optimisation, into build-debug/
// --asan    with AddressSanitizer and UBSan, into build-asan/; run with LD_PRELOAD=$(g++ -print-file-name=libasan.so)
// --rebuild from scratch
// --target  for another platform, with the toolchain file cmake/<target>.cmake, into build-<target>/
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: flags } = parseArgs({
  options: {
    debug: { type: 'boolean' },
    asan: { type: 'boolean' },
    rebuild: { type: 'boolean' },
    target: { type: 'string' },
  },
});
/** Toolchains of cmake/, with the processor's name in Node and the compiler to look for. */
const targets = {
  'linux-arm64': { arch: 'arm64', compiler: 'aarch64-linux-gnu-g++', package: 'g++-aarch64-linux-gnu' },
  'win32-x64': { arch: 'x64', compiler: 'x86_64-w64-mingw32-g++-posix', package: 'g++-mingw-w64-x86-64-posix' },
  'linux-x64': { arch: 'x64', compiler: 'x86_64-linux-gnu-g++', package: 'g++-x86-64-linux-gnu' },
};
const isNative = !flags.target || flags.target === `${process.platform}-${process.arch}`;
const target = isNative ? undefined : targets[flags.target];
if (!isNative && !target) fail(`Expected one of ${Object.keys(targets)} for --target but received ${flags.target}.`);

requireTool(['cmake'], 'CMake 3.18 or newer', { linux: 'apt-get install cmake', darwin: 'brew install cmake' });
if (target) {
  requireTool([target.compiler], `the cross compiler ${target.compiler}`, {
    linux: `apt-get install ${target.package}`,
  });
} else if (process.platform !== 'win32') {
  const compilers = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean);
  requireTool(compilers, 'a C++17 compiler', { linux: 'apt-get install g++', darwin: 'xcode-select --install' });
}

const folder = target ? `build-${flags.target}` : flags.asan ? 'build-asan' : flags.debug ? 'build-debug' : 'build';
const args = [
  join(root, 'node_modules', 'cmake-js', 'bin', 'cmake-js'),
  flags.rebuild ? 'rebuild' : 'build',
  ...['--directory', root, '--out', join(root, folder)],
  ...(target
    ? ['--arch', target.arch, `--CDCMAKE_TOOLCHAIN_FILE=${join(root, 'cmake', `${flags.target}.cmake`)}`]
    : []),
  ...(flags.debug ? ['--debug'] : []),
  ...(flags.asan ? ['--CDQ8_SANITIZE=address,undefined'] : []),
];
const { status, error } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
if (error) fail(`Cannot start cmake-js: ${error.message}.`);
process.exitCode = status ?? 1;

function requireTool(commands, what, installs) {
  const isThere = commands.some((command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0);
  if (isThere) return;
  const install = installs[process.platform];
  fail(`Building the addon needs ${what}, which is not on the PATH.${install ? ` Install it with: ${install}` : ''}`);
}

function fail(text) {
  console.error(`q8: ${text}`);
  process.exit(1);
}

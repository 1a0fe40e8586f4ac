// Fills prebuilds/ with the binaries that go into the package: the host's, and those of the other Linux architectures
// whose cross compiler is installed. pkg-prebuilds finds the right one at run time.
//   node scripts/prebuild.mjs [--all] [--libc musl]
// --all         an architecture that cannot be built is an error: for releases
// --libc musl   the host's binary is one for musl (Alpine), and goes beside the one for glibc
import { spawnSync } from 'node:child_process';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: flags } = parseArgs({ options: { all: { type: 'boolean' }, libc: { type: 'string' } } });
const crossTools = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

add(process.platform, process.arch, 'build', 'strip');
if (process.platform === 'linux' && !flags.libc) {
  for (const [arch, tools] of Object.entries(crossTools)) {
    if (arch === process.arch) continue;
    const isThere = spawnSync(`${tools}-g++`, ['--version'], { stdio: 'ignore' }).status === 0;
    if (isThere) add('linux', arch, `build-linux-${arch}`, `${tools}-strip`);
    else if (flags.all) fail(`No binary for linux-${arch}: ${tools}-g++ is not installed.`);
    else process.stderr.write(`q8: no binary for linux-${arch}, because ${tools}-g++ is not installed\n`);
  }
}

function add(platform, arch, folder, strip) {
  run(process.execPath, [join(root, 'scripts/build-native.mjs'), '--target', `${platform}-${arch}`]);
  // Stripped before the copy: pkg-prebuilds would use the host's tool, which cannot read the others' binaries.
  const file = join(root, folder, 'Release', 'q8.node');
  const stripped = join(dirname(file), 'q8.stripped.node');
  const hasStrip = platform !== 'win32';
  if (hasStrip)
    run(strip, platform === 'darwin' ? ['-Sx', file, '-o', stripped] : ['--strip-all', file, '-o', stripped]);
  run(process.execPath, [
    join(root, 'node_modules/pkg-prebuilds/bin/copy.mjs'),
    ...['--baseDir', relative(root, dirname(file)), '--source', hasStrip ? 'q8.stripped.node' : 'q8.node'],
    ...['--name', 'q8', '--napi_version', '8', '--platform', platform, '--arch', arch],
    ...(flags.libc ? ['--libc', flags.libc] : []),
  ]);
}

function run(command, args) {
  // The child's stdout goes to our stderr: npm pack --json owns stdout.
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(`${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}.`);
}

function fail(text) {
  process.stderr.write(`q8: ${text}\n`);
  process.exit(1);
}

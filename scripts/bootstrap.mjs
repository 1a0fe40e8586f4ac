// Makes a clone ready to run: installs the packages if node_modules is missing or stale, builds the addon if it is missing
// or older than its sources. Says what to install when a tool is missing. Plain Node, no packages; silent and fast when
// there is nothing to do, so that `npm test` and `npm run demo` can start with it.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const addon = join(root, 'build', 'Release', 'q8.node');

checkNode();
if (packagesAreStale()) installPackages();
if (!process.env.Q8_BINARY && addonIsStale()) buildAddon();

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const fits = (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22;
  if (!fits)
    fail(`q8 needs Node 20.19, 22.12 or newer; this is Node ${process.versions.node}.`, 'see https://nodejs.org');
}

/** Compares package-lock.json with what npm noted in node_modules; optional packages may be absent. */
function packagesAreStale() {
  const noted = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(noted)) return true;
  const installed = JSON.parse(readFileSync(noted, 'utf8')).packages;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).some(
    ([path, entry]) => path !== '' && !entry.optional && installed[path]?.version !== entry.version,
  );
}

function installPackages() {
  say('installing the packages (npm ci)');
  // onnxruntime-node would download CUDA libraries that nothing here uses.
  const env = { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' };
  run('npm', ['ci', '--no-fund', '--no-audit'], env, 'npm ci failed; its message is above.');
}

function addonIsStale() {
  if (!existsSync(addon)) return true;
  const built = statSync(addon).mtimeMs;
  const sources = readdirSync(join(root, 'native'), { recursive: true }).map((name) => join(root, 'native', name));
  return [...sources, join(root, 'CMakeLists.txt')].some((path) => statSync(path).mtimeMs > built);
}

function buildAddon() {
  if (!works('cmake')) {
    fail('Building the addon needs CMake 3.18 or newer.', {
      linux: 'sudo apt-get install cmake',
      darwin: 'brew install cmake',
      win32: 'winget install Kitware.CMake',
    });
  }
  const compilers = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean);
  if (process.platform !== 'win32' && !compilers.some(works)) {
    fail('Building the addon needs a C++17 compiler.', {
      linux: 'sudo apt-get install g++ make',
      darwin: 'xcode-select --install',
    });
  }
  say('building the addon (a minute or two, once)');
  run(
    process.execPath,
    [join(root, 'scripts', 'build-native.mjs')],
    process.env,
    'The addon did not build; the compiler says why above.',
  );
}

function works(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore', shell: process.platform === 'win32' }).status === 0;
}

function run(command, args, env, complaint) {
  // The child's stdout goes to our stderr: stdout belongs to what runs after us.
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    env,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32' && command === 'npm',
  });
  if (status !== 0) fail(error ? `${complaint} (${error.message})` : complaint);
}

function say(text) {
  process.stderr.write(`q8: ${text}\n`);
}

/** Ends the process. `remedy` is what to do about it, the same everywhere or by platform. */
function fail(text, remedy) {
  const way = typeof remedy === 'object' ? remedy[process.platform] : remedy;
  say(way ? `${text}\n    Install it with: ${way}` : text);
  process.exit(1);
}

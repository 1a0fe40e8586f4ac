// Makes a clone ready to run: installs the packages if node_modules is missing or stale, builds the addon if it is missing
// or older than its sources. Plain Node, no packages; silent and fast when there is nothing to do, so that `npm test` and
// `npm run demo` can start with it.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, utimesSync } from 'node:fs';
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
    fail(`Node 20.19, 22.12 or newer is needed, but this is Node ${process.versions.node}; see https://nodejs.org`);
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
  run('npm', ['ci', '--no-fund', '--no-audit'], env, 'npm ci failed; see above.');
}

function addonIsStale() {
  if (!existsSync(addon)) return true;
  const built = statSync(addon).mtimeMs;
  const sources = readdirSync(join(root, 'native'), { recursive: true }).map((name) => join(root, 'native', name));
  return [...sources, join(root, 'CMakeLists.txt')].some((path) => statSync(path).mtimeMs > built);
}

function buildAddon() {
  say('building the addon (a minute or two, once)');
  // It says itself which tool is missing, and how to get it.
  const script = join(root, 'scripts', 'build-native.mjs');
  run(process.execPath, [script], process.env, 'the addon did not build; see above.');
  // Sources that are not for this platform leave the addon as it was.
  const now = new Date();
  utimesSync(addon, now, now);
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

function fail(text) {
  say(text);
  process.exit(1);
}

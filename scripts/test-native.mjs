// Builds and runs the C++ tests of test/native. Extra arguments select tests by name.
//   node scripts/test-native.mjs [--sanitize address,undefined|thread] [name]
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values, positionals } = parseArgs({ options: { sanitize: { type: 'string' } }, allowPositionals: true });
const build = join(
  root,
  values.sanitize ? `build-native-tests-${values.sanitize.replace(/\W/g, '-')}` : 'build-native-tests',
);

const hasNinja = spawnSync('ninja', ['--version'], { stdio: 'ignore' }).status === 0;
run('cmake', [
  ...['-S', root, '-B', build, '-DQ8_BUILD_TESTS=ON', '-DCMAKE_BUILD_TYPE=Release'],
  ...(hasNinja ? ['-G', 'Ninja'] : []),
  ...(values.sanitize ? [`-DQ8_SANITIZE=${values.sanitize}`] : []),
]);
run('cmake', ['--build', build, '--parallel', '2']);
run(join(build, 'test', 'native', 'q8_native_tests'), positionals);

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) console.error(`q8: cannot run ${command}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

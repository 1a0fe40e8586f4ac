/**
 * Finds and loads the native addon, once per thread. Order: the file named by Q8_BINARY, a local build (build/Release),
 * the prebuilt binary of this platform. A failure says what was tried, what the loader said and how to build.
 */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type * as binding from '../../binding';
import { Q8Error, type Q8ErrorCode } from '../errors';

export type Binding = typeof binding;

let loaded: Binding | undefined;

/**
 * The native addon.
 * @throws Q8Error ERR_Q8_NO_BINARY when no binary can be loaded, ERR_Q8_UNSUPPORTED_CPU when Q8_ISA names an instruction
 * set that cannot run here.
 */
export function loadBinding(): Binding {
  loaded ??= loadChecked();
  return loaded;
}

/** Loads, and warns (code Q8_SELFTEST) of kernels that this CPU does not execute as it should. */
function loadChecked(): Binding {
  const native = load();
  for (const { isa, mismatch } of native.refusedLevels()) {
    process.emitWarning(`The ${isa} kernels of q8 compute wrong results on this CPU (${mismatch}).`, {
      code: 'Q8_SELFTEST',
      detail: `q8 uses the ${native.cpuInfo().isa.selected} kernels instead.`,
    });
  }
  return native;
}

/** The package's directory: the nearest one upwards that holds binding-options.js (lib/ and dist/ lie at equal depth or not). */
export function packageRoot(): string {
  for (let directory = __dirname; ; directory = dirname(directory)) {
    if (existsSync(join(directory, 'binding-options.js'))) return directory;
    if (dirname(directory) === directory) {
      throw new Q8Error('ERR_Q8_NO_BINARY', 'Cannot find the root of the q8 package.', {
        hint: 'A bundler moved the code away from its package. Mark "q8" as external.',
      });
    }
  }
}

function load(): Binding {
  const file = findBinary();
  try {
    return require(file) as Binding;
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code?.startsWith('ERR_Q8_')) throw toQ8Error(error);
    throw new Q8Error('ERR_Q8_NO_BINARY', `Cannot load ${file}: ${(error as Error).message}.`, {
      hint: BUILD_HINT,
      cause: error,
    });
  }
}

const BUILD_HINT =
  'Build it from source with `npm run build:native` in the package directory; that needs CMake and a C++17 compiler.';

function findBinary(): string {
  const forced = process.env.Q8_BINARY;
  if (forced) {
    const file = resolve(forced);
    if (existsSync(file)) return file;
    throw new Q8Error('ERR_Q8_NO_BINARY', `Q8_BINARY names ${file}, which does not exist.`, {
      hint: 'Unset Q8_BINARY to use the binary of the package.',
    });
  }
  const root = packageRoot();
  const { resolve: resolvePrebuild } = require('pkg-prebuilds') as {
    resolve(root: string, options: object, verify: boolean, throwOnMissing: boolean): string | null;
  };
  const file = resolvePrebuild(root, require(join(root, 'binding-options.js')), false, false);
  if (file !== null) return file;
  throw new Q8Error(
    'ERR_Q8_NO_BINARY',
    `There is no q8 binary for ${process.platform}-${process.arch} in ${join(root, 'prebuilds')} or ${join(root, 'build', 'Release')}.`,
    { hint: BUILD_HINT },
  );
}

/** A Q8Error of what the addon threw; anything else is returned as it is. */
export function toQ8Error(error: unknown): unknown {
  const { code, message } = error as { code?: unknown; message?: string };
  if (error instanceof Q8Error || typeof code !== 'string' || !code.startsWith('ERR_Q8_')) return error;
  return new Q8Error(code as Q8ErrorCode, message ?? '', { cause: error });
}

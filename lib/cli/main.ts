#!/usr/bin/env node
/**
 * The command `q8`. Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 an accuracy gate failed, 130 interrupted.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { Q8Error } from '../errors';
import { type CommandContext, GateError, UsageError } from './context';
import { Terminal } from './ui/terminal';

/** Loaded when asked for: `q8 cpuinfo` should not wait for the quantizer. In the order of --help. */
const COMMANDS: Readonly<Record<string, () => (program: Command, context: CommandContext) => void>> = {
  cpuinfo: () => (require('./commands/cpuinfo') as typeof import('./commands/cpuinfo')).addCpuinfo,
  quantize: () => (require('./commands/quantize') as typeof import('./commands/quantize')).addQuantize,
  run: () => (require('./commands/run') as typeof import('./commands/run')).addRun,
  inspect: () => (require('./commands/inspect') as typeof import('./commands/inspect')).addInspect,
  compare: () => (require('./commands/compare') as typeof import('./commands/compare')).addCompare,
  bench: () => (require('./commands/bench') as typeof import('./commands/bench')).addBench,
};

interface GlobalOptions {
  json?: boolean;
  quiet?: boolean;
  verbose?: boolean;
  color: boolean;
}

/** Runs the command line and returns the exit code. `args` are those after the program's name. */
export async function main(args: readonly string[], interrupt: AbortSignal): Promise<number> {
  const program = new Command('q8')
    .description('Int8 neural networks on the CPU: quantize, run, inspect, compare and measure ONNX models.')
    .version(packageVersion())
    .option('--json', 'print data as JSON')
    .option('-q, --quiet', 'print data and errors only')
    .option('--verbose', 'print stack traces')
    .option('--no-color', 'no colours (as does the environment variable NO_COLOR)')
    .exitOverride()
    .showHelpAfterError('(q8 --help shows how it is used)');
  const context: CommandContext = {
    get terminal() {
      return new Terminal(process.stdout, process.stderr, program.opts<GlobalOptions>());
    },
    get isJson() {
      return program.opts<GlobalOptions>().json === true;
    },
    interrupt,
  };
  // Global options take no values, so the command is the first other word. Help and mistakes need all of them.
  const asked = args.find((arg) => !arg.startsWith('-')) ?? '';
  for (const load of Object.hasOwn(COMMANDS, asked) ? [COMMANDS[asked]] : Object.values(COMMANDS))
    load()(program, context);
  for (const command of program.commands) command.exitOverride().showHelpAfterError('(--help shows how it is used)');

  try {
    if (args.length === 0) program.help({ error: true });
    await program.parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    // Commander has written its own message (or the help) already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (interrupt.aborted) return 130;
    complain(error, context.terminal, program.opts<GlobalOptions>().verbose === true);
    if (error instanceof UsageError) return 2;
    return error instanceof GateError ? 3 : 1;
  }
}

function complain(error: unknown, terminal: Terminal, isVerbose: boolean): void {
  const { message, hint } = explain(error);
  terminal.complain(`${terminal.err.red('error:')} ${message}`);
  if (hint) terminal.complain(`${terminal.err.cyan('hint:')} ${hint}`);
  if (isVerbose && error instanceof Error) terminal.complain(terminal.err.dim(error.stack ?? ''));
}

/** The message and the way out; Q8Error carries both in its message, for those who print only that. */
function explain(error: unknown): { message: string; hint?: string } {
  if (error instanceof Q8Error && error.hint) {
    return { message: error.message.slice(0, -` Hint: ${error.hint}`.length), hint: error.hint };
  }
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT' && 'path' in error) {
    return { message: `Cannot open ${JSON.stringify(error.path)}: there is no such file or folder.` };
  }
  return { message: error instanceof Error ? error.message : String(error) };
}

function packageVersion(): string {
  return JSON.parse(readFileSync(join(__dirname, '..', '..', 'package.json'), 'utf8')).version;
}

if (require.main === module) {
  const interrupt = new AbortController();
  process.once('SIGINT', () => interrupt.abort(new Error('interrupted')));
  // A reader that closes the pipe early (q8 inspect | head) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  void main(process.argv.slice(2), interrupt.signal).then((code) => {
    process.exitCode = code;
  });
}

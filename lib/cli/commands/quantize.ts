/** `q8 quantize`: a float ONNX model in, an int8 ONNX model out. */
import { existsSync, realpathSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Command, Option } from 'commander';
import { type QuantizeOptions, type QuantizeReport, quantizeFile, type StaticQuantizeOptions } from '../../index';
import { type CommandContext, collectSelectors, parseCount, parseNumber, UsageError } from '../context';
import { addDataOptions, DATA_HELP, type DataFlags, samplesOf } from '../data-options';
import { Progress } from '../ui/progress';
import { formatPairs } from '../ui/table';
import { formatBytes } from '../ui/units';

type QuantizeFlags = DataFlags & {
  mode: QuantizeOptions['mode'];
  output: string;
  calibration?: string;
  ranges?: string;
  saveRanges?: string;
};

/** Flags of the command that are no options of quantize(). */
const OWN_FLAGS = new Set<string>([
  'mode',
  'output',
  'saveRanges',
  'calibration',
  'random',
  'seed',
  'limit',
  'mean',
  'std',
  'shape',
]);

export function addQuantize(program: Command, context: CommandContext): void {
  const command = program
    .command('quantize')
    .description('quantize a float32 ONNX model to int8, or turn a trained Q/DQ model into integer operators')
    .argument('<model.onnx>', 'the float model')
    .requiredOption('-o, --output <file>', 'where the int8 model goes')
    .addOption(
      new Option(
        '--mode <mode>',
        'static: ranges from data; dynamic: ranges in each run; weightOnly: float activations; qat: scales of the Q/DQ model',
      )
        .choices(['static', 'dynamic', 'weightOnly', 'qat'])
        .default('static'),
    )
    .option('--bits <count>', 'for weightOnly: bits of a weight, 2, 4 or 8 (default 4)', parseCount)
    .option('--symmetric', 'for weightOnly: no zero points')
    .option('--accuracy-level <level>', 'for weightOnly: how coarse runtimes may compute, 0 to 4', parseCount)
    .addOption(
      new Option('--algorithm <algorithm>', 'for weightOnly: how a block is quantized').choices([
        'rtn',
        'kquant',
        'hqq',
      ]),
    )
    .option('--ranges <file>', 'JSON file of known ranges, of --save-ranges or of the Python tool')
    .option('--save-ranges <file>', 'where the ranges go, for --ranges of later calls')
    .option('-c, --calibration <path>', DATA_HELP);
  addDataOptions(command)
    .addOption(new Option('--format <format>', 'form of the result').choices(['qoperator', 'qdq']).default('qoperator'))
    .addOption(new Option('--activation-type <type>').choices(['uint8', 'int8', 'uint16', 'int16']).default('uint8'))

    .addOption(
      new Option('--weight-type <type>').choices(['int8', 'uint8', 'int4', 'uint4', 'int16', 'uint16']).default('int8'),
    )
    .option(
      '--block-size <count>',
      'weights of matrices have a scale for each so many rows (format qdq, weightOnly)',
      parseCount,
    )
    .option('--no-per-channel', 'one weight scale per tensor instead of one per output channel')
    .option('--activation-symmetric', 'zero points of activations in the middle of the type')
    .option('--weight-symmetric', 'zero points of weights in the middle of the type')
    .option('--no-weight-symmetric', 'the opposite, for uint8 weights')
    .option('--reduce-range', '7-bit weights, for runtimes whose kernels saturate')
    .addOption(
      new Option('--calibration-method <method>', 'how ranges follow from data')
        .choices(['minmax', 'movingAverage', 'percentile', 'entropy', 'mse'])
        .default('minmax'),
    )
    .option('--percentile <number>', 'for percentile: percentage of values within a range (default 99.99)', parseNumber)
    .option('--bins <count>', 'for percentile, entropy and mse: bins of the histograms (default 2048)', parseCount)
    .option('--momentum <number>', 'for movingAverage: least weight of a new sample (default 0.01)', parseNumber)
    .addOption(
      new Option('--engine <engine>', 'what runs the float model').choices(['auto', 'ort', 'q8']).default('auto'),
    )
    .option('--min-real-range <number>', 'floor for the width of a range', parseNumber)
    .option(
      '--include <selectors>',
      'the only nodes to quantize: name, pattern with * or ?, regex:..., type:Conv, between:tensor..tensor; comma-separated, repeatable',
      collectSelectors,
    )
    .option('--exclude <selectors>', 'nodes that stay in float, selected likewise', collectSelectors)
    .option('--external-data', 'large tensors go to a side file (default: only beyond 2 GiB)')
    .option('--threads <count>', 'threads for calibration; 0 = all', parseCount, 0)
    .action(async (model: string, flags: QuantizeFlags) => {
      checkOutput(model, flags.output);
      const { terminal } = context;
      const { mode, output } = flags;
      const data = calibrationOf(flags);
      const progress = new Progress(terminal);
      // Defaults are left to quantize(): which there are depends on the mode.
      const given = Object.entries(flags).filter(
        ([name]) => !OWN_FLAGS.has(name) && command.getOptionValueSource(name) !== 'default',
      );
      try {
        const result = await quantizeFile(model, output, {
          ...Object.fromEntries(given),
          ...data,
          mode,
          signal: context.interrupt,
          onProgress: ({ phase, done, total }) => progress.update(phase, done, total),
        } as QuantizeOptions);
        progress.clear();
        if (flags.saveRanges !== undefined) await writeFile(flags.saveRanges, JSON.stringify(result.ranges, null, 1));
        if (context.isJson) terminal.printJson(result.report);
        else terminal.print(formatReport(result.report, output, terminal.out.bold));
      } finally {
        progress.clear();
      }
    });
}

/** @throws UsageError when data is given to a mode that uses none, or none to one that needs some. */
function calibrationOf(flags: QuantizeFlags): Pick<StaticQuantizeOptions, 'calibration'> {
  const { mode, calibration, random, ranges, saveRanges } = flags;
  const hasData = calibration !== undefined || random !== undefined;
  if (mode === 'static') {
    if (!hasData && ranges !== undefined) return {};
    return { calibration: samplesOf(calibration, flags, '--calibration') };
  }
  if (!hasData && saveRanges === undefined) return {};
  throw new UsageError(`--mode ${mode} needs no data; leave out --calibration, --random and --save-ranges.`);
}

/** @throws UsageError when there is no such folder, or when output and input are one file, by whatever names. */
function checkOutput(input: string, output: string): void {
  if (!existsSync(dirname(output))) throw new UsageError(`There is no folder ${JSON.stringify(dirname(output))}.`);
  if (existsSync(output) && existsSync(input) && realpathSync(output) === realpathSync(input)) {
    throw new UsageError(`The output ${JSON.stringify(output)} is the input model; q8 does not overwrite its input.`);
  }
}

function formatReport(report: QuantizeReport, output: string, styleName: (text: string) => string): string {
  const { bytes, calibration, floatNodes, quantizedNodes } = report;
  const count = Object.values(quantizedNodes).reduce((sum, n) => sum + n, 0);
  const byType = Object.entries(quantizedNodes).map(([op, n]) => `${n} ${op}`);
  const types = report.activationType
    ? [`activations ${report.activationType}`, `weights ${report.weightType}`]
    : [report.mode === 'qat' ? 'scales of the model' : 'float activations'];
  const pairs: [string, string][] = [
    ['Written', `${output} (${[report.mode, report.format, ...types].join(', ')})`],
    [
      'Size',
      `${formatBytes(bytes.float)} -> ${formatBytes(bytes.quantized)} (${(bytes.float / bytes.quantized).toFixed(2)}x smaller)`,
    ],
    ['Quantized', `${count} nodes: ${byType.join(', ') || 'none'}`],
  ];
  if (calibration) {
    const { samples, method, engine } = calibration;
    pairs.push(['Calibrated', `${samples} samples, ${method}${engine ? `, engine ${engine}` : ''}`]);
  }
  for (const [reason, names] of groupByReason(floatNodes)) {
    pairs.push(['Float', `${names.length} nodes (${summary(names)}): ${reason}`]);
  }
  for (const warning of report.warnings) pairs.push(['Warning', warning]);
  return formatPairs(pairs, styleName);
}

function groupByReason(nodes: QuantizeReport['floatNodes']): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { reason, name } of nodes) groups.set(reason, [...(groups.get(reason) ?? []), name]);
  return groups;
}

function summary(names: readonly string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')}, ...`;
}

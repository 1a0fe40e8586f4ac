/** `q8 quantize`: a float ONNX model in, an int8 ONNX model out. */
import { existsSync, realpathSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { type Command, Option } from 'commander';
import {
  explain,
  type PlannedWeight,
  prepareModelFile,
  type QuantizationPlan,
  type QuantizeOptions,
  type QuantizeReport,
  quantizeFile,
  type StaticQuantizeOptions,
} from '../../index';
import { outputSqnr } from '../../report/analysis';
import { applyConfig } from '../config';
import {
  type CommandContext,
  collectAxes,
  collectNames,
  collectSelectors,
  parseCount,
  parseJsonFile,
  parseNumber,
  UsageError,
} from '../context';
import { addDataOptions, DATA_FLAGS, DATA_HELP, type DataFlags, samplesOf } from '../data-options';
import { checkReportPath, writeReport } from '../report-file';
import { Progress } from '../ui/progress';
import { formatPairs, formatTable } from '../ui/table';
import type { Terminal } from '../ui/terminal';
import { formatBytes, formatCount, formatDuration } from '../ui/units';

type QuantizeFlags = DataFlags & {
  algorithm?: string;
  mode: QuantizeOptions['mode'];
  output?: string;
  calibration?: string;
  ranges?: string;
  saveRanges?: string;
  config?: string;
  dryRun?: boolean;
  prepareOnly?: boolean;
  externalData?: boolean;
  opset?: number;
  report?: string;
  latency?: boolean;
  minSqnr?: number;
};

/** Flags of the command that are no options of quantize(). */
const OWN_FLAGS = new Set<string>([
  ...DATA_FLAGS,
  'mode',
  'output',
  'saveRanges',
  'calibration',
  'config',
  'dryRun',
  'prepareOnly',
  'report',
  'latency',
  'minSqnr',
]);

export function addQuantize(program: Command, context: CommandContext): void {
  const command = program
    .command('quantize')
    .description('quantize a float32 ONNX model to int8, or turn a trained Q/DQ model into integer operators')
    .argument('<model.onnx>', 'the float model')
    .option('-o, --output <file>', 'where the int8 model goes')
    .option('--config <file>', 'JSON with any of these options as keys, in camelCase; flags win')
    .option('--dry-run', 'show what would be quantized, how, and what not and why; needs no data and writes nothing')
    .option('--report <file>', 'write errors by layer, ranges and settings to an .html or .json file')
    .option('--latency', 'time both models for the report')
    .addOption(
      new Option(
        '--mode <mode>',
        'static: ranges from data; dynamic: ranges in each run; weightOnly: float activations; qat: scales of the Q/DQ model',
      )
        .choices(['static', 'dynamic', 'weightOnly', 'qat'])
        .default('static'),
    )
    .addOption(
      new Option(
        '--target <target>',
        'what the model is made for: sets types and form, but for those given here',
      ).choices(['vnni', 'avx2', 'arm', 'generic', 'tensorrt', 'nnapi', 'qnn']),
    )
    .option('--subgraphs', 'bodies of If and Loop too, with --compat')
    .option('--no-subgraphs', 'bodies of If and Loop stay in float')
    .option('--fuse-transformers', 'attention, embeddings, Gelu and normalized sums become operators of com.microsoft')
    .option('--no-fuse-transformers', 'the opposite, for mode dynamic')
    .option('--verify', 'open the result in onnxruntime-node and q8 before it is written')
    .option('--bits <count>', 'for weightOnly: bits of a weight, 2, 4 or 8 (default 4)', parseCount)
    .option('--symmetric', 'for weightOnly: no zero points')
    .option('--accuracy-level <level>', 'for weightOnly: how coarse runtimes may compute, 0 to 4', parseCount)
    .addOption(
      new Option('--algorithm <algorithm>', 'for weightOnly: how a block is quantized; gptq wants data').choices([
        'rtn',
        'kquant',
        'hqq',
        'gptq',
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
        .choices(['minmax', 'movingAverage', 'percentile', 'entropy', 'mse', 'distribution'])
        .default('minmax'),
    )
    .option('--percentile <number>', 'for percentile: percentage of values within a range (default 99.99)', parseNumber)
    .option(
      '--bins <count>',
      'for percentile, entropy, mse and distribution: bins of the histograms (default 2048)',
      parseCount,
    )
    .option(
      '--exact-bins',
      'for percentile, entropy, mse and distribution: read data twice, so that bins divide the range exactly',
    )
    .option('--momentum <number>', 'for movingAverage: least weight of a new sample (default 0.01)', parseNumber)
    .addOption(
      new Option('--engine <engine>', 'what runs the float model').choices(['auto', 'ort', 'q8']).default('auto'),
    )
    .option('--min-real-range <number>', 'floor for the width of a range', parseNumber)
    .option('--restrict-zero-points', 'uint8 activations have zero points 0 and 128 only')
    .option(
      '--channel-axis <op=axis>',
      'axis of weight scales of an operator type (format qdq); repeatable',
      collectAxes,
    )
    .option('--no-quantize-bias', 'biases stay float (format qdq)')
    .option('--no-guard-bias', 'weight scales do not grow where a bias would not fit int32')
    .option('--constant-weights-only', 'products of two activations stay in float')
    .option(
      '--float-outputs-of <types>',
      'operator types whose outputs stay in float; comma-separated, repeatable',
      collectNames,
    )
    .option('--nnapi-sigmoid', 'Sigmoid gives codes of scale 1/256, for NNAPI')
    .option('--pair-per-consumer', 'a Q/DQ pair for every reader of a tensor (format qdq)')
    .option('--weight-pairs', 'weights stay float behind Q and DQ (format qdq)')
    .addOption(
      new Option('--pair-domain <domain>', 'domain of Q and DQ (format qdq)')
        .choices(['ai.onnx', 'com.microsoft'])
        .default('ai.onnx'),
    )
    .addOption(new Option('--compat <tool>', 'scales and codes of another tool, bit for bit').choices(['onnxruntime']))
    .option('--overrides <file>', 'JSON with exceptions by tensor', parseJsonFile)
    .addOption(
      new Option(
        '--operators <which>',
        'integer: those that CPUs run on codes; all: also those that stay float between Q/DQ',
      )
        .choices(['integer', 'all'])
        .default('integer'),
    )
    .addOption(
      new Option('--share-scales <where>', 'operands of Concat, Where, Max, Min: free: where it costs nothing')
        .choices(['free', 'always', 'never'])
        .default('free'),
    )
    .option(
      '--include <selectors>',
      'the only nodes to quantize: name, pattern with * or ?, regex:..., type:Conv, between:tensor..tensor; comma-separated, repeatable',
      collectSelectors,
    )
    .option('--exclude <selectors>', 'nodes that stay in float, selected likewise', collectSelectors)
    .option(
      '--prepare-only',
      'write the float model as it is before quantization, whose names of nodes are those to select by',
    )
    .option('--opset <version>', 'for --prepare-only: opset to reach, 17 (default) to 26', parseCount)
    .option('--external-data', 'large tensors go to a side file (default: only beyond 2 GiB)')
    .option(
      '--algorithms <names>',
      'what saves accuracy: equalize, smoothQuant, clipWeights, roundWeights, correctBias; comma-separated, repeatable',
      collectNames,
    )
    .option(
      '--smooth-quant-alpha <number>',
      'for smoothQuant: share of outliers that weights take (default 0.5)',
      parseNumber,
    )
    .option('--min-sqnr <dB>', 'layers go back to float, worst first, until outputs are this good', parseNumber)
    .option('--threads <count>', 'threads for calibration; 0 = all', parseCount, 0)
    .action(async (model: string, { config }: QuantizeFlags) => {
      if (config !== undefined) applyConfig(command, config);
      const flags = command.opts<QuantizeFlags>();
      // Defaults are left to quantize(): which there are depends on the mode.
      const given = Object.fromEntries(
        Object.entries(flags).filter(
          ([name]) => !OWN_FLAGS.has(name) && command.getOptionValueSource(name) !== 'default',
        ),
      );
      const options = { ...given, mode: flags.mode } as QuantizeOptions;
      if (flags.prepareOnly) await prepareOnly(model, flags, context);
      else if (flags.dryRun) await dryRun(model, options, context);
      else
        await run(
          model,
          { ...options, ...refinement(flags), ...calibrationOf(flags) } as QuantizeOptions,
          flags,
          context,
        );
    });
}

async function dryRun(model: string, options: QuantizeOptions, { terminal, isJson }: CommandContext): Promise<void> {
  const plan = await explain(model, options);
  noteTarget(plan.settings, terminal);
  if (isJson) terminal.printJson(plan);
  else terminal.print(formatPlan(plan, terminal.out.bold));
}

async function run(
  model: string,
  options: QuantizeOptions,
  flags: QuantizeFlags,
  { terminal, isJson, interrupt }: CommandContext,
): Promise<void> {
  const { output, report: reportPath, saveRanges } = flags;
  if (output === undefined) throw new UsageError('Say with --output where the int8 model goes.');
  checkOutput(model, output);
  checkReportPath(reportPath);
  const { algorithms = [] } = options as StaticQuantizeOptions;
  if (saveRanges !== undefined && [algorithms].flat().some((name) => name === 'equalize' || name === 'smoothQuant')) {
    throw new UsageError(
      'equalize and smoothQuant change activations: --save-ranges would write ranges of another model.',
    );
  }
  const progress = new Progress(terminal);
  try {
    const result = await quantizeFile(model, output, {
      ...options,
      signal: interrupt,
      onProgress: ({ phase, done, total }) => progress.update(phase, done, total),
    } as QuantizeOptions);
    progress.clear();
    noteTarget(result.report.settings, terminal);
    if (saveRanges !== undefined) await writeFile(saveRanges, JSON.stringify(result.ranges, null, 1));
    if (reportPath) {
      const page = {
        title: basename(output),
        subtitle: `quantized from ${basename(model)}`,
        quantization: result.report,
      };
      await writeReport(reportPath, page, result.report);
      terminal.note(`Wrote ${reportPath}.`);
    }
    if (isJson) terminal.printJson(result.report);
    else terminal.print(formatReport(result.report, output, terminal.out.bold));
  } finally {
    progress.clear();
  }
}

/** Says what --target has set, what flags have set instead, and why. */
function noteTarget(settings: QuantizeReport['settings'], terminal: Terminal): void {
  const target = settings?.find(({ name }) => name === 'target');
  if (!settings || !target) return;
  const rows = settings
    .filter((setting) => setting !== target && setting.from !== 'default')
    .map(({ name, value, from, reason }) => [
      name,
      typeof value === 'object' ? JSON.stringify(value) : String(value),
      from === 'target' ? reason : 'as you said',
    ]);
  const head = ['setting', 'value', 'because'];
  terminal.note(`Target ${target.value}:\n${formatTable(head, rows, { styleHeader: terminal.err.bold })}\n`);
}

/** What --report, --latency and --min-sqnr mean for quantize(). */
function refinement({ mode, report, latency, minSqnr }: QuantizeFlags): Partial<StaticQuantizeOptions> {
  if (mode !== 'static') {
    if (latency || minSqnr !== undefined)
      throw new UsageError('--latency and --min-sqnr are for --mode static; see q8 compare.');
    return {};
  }
  if (latency && !report) throw new UsageError('--latency is for --report.');
  return {
    ...(report ? { analyze: { latency: latency === true } } : {}),
    ...(minSqnr === undefined ? {} : { accuracy: { minSqnr } }),
  };
}

/** Writes the float model as the quantizer would take it. */
async function prepareOnly(
  model: string,
  { output, externalData, opset: wanted }: QuantizeFlags,
  { terminal, isJson }: CommandContext,
): Promise<void> {
  if (output === undefined) throw new UsageError('Give the place of the prepared model with --output.');
  checkOutput(model, output);
  const { opset, nodes } = await prepareModelFile(model, output, {
    externalData,
    ...(wanted !== undefined && { opset: wanted }),
  });
  if (isJson) terminal.printJson({ opset, nodes });
  else terminal.print(`${output}: opset ${opset}, ${nodes.before} -> ${nodes.after} nodes`);
}

/** @throws UsageError when data is given to a mode that uses none, or none to one that needs some. */
function calibrationOf(flags: QuantizeFlags): Pick<StaticQuantizeOptions, 'calibration'> {
  const { mode, algorithm, calibration, random, ranges, saveRanges } = flags;
  const hasData = calibration !== undefined || random !== undefined;
  if (mode === 'static') {
    if (!hasData && ranges !== undefined) return {};
    return { calibration: samplesOf(calibration, flags, '--calibration') };
  }
  if (!hasData && saveRanges === undefined) return {};
  if (mode === 'weightOnly' && algorithm === 'gptq' && saveRanges === undefined)
    return { calibration: samplesOf(calibration, flags, '--calibration') };
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
    ['Size', formatSizes(bytes)],
    ['Quantized', `${formatCount(count, 'node')}: ${byType.join(', ') || 'none'}`],
  ];
  const shared = report.tensors.filter(({ sharesScaleWith }) => sharesScaleWith !== undefined);
  if (shared.length > 0) {
    const list = summary(shared.map(({ name, sharesScaleWith }) => `${name} that of ${sharesScaleWith}`));
    pairs.push(['Scales', `${formatCount(shared.length, 'tensor')} with the scale of another: ${list}`]);
  }
  if (calibration) {
    const { samples, method, engine } = calibration;
    pairs.push(['Calibrated', `${formatCount(samples, 'sample')}, ${method}${engine ? `, engine ${engine}` : ''}`]);
  }
  for (const { name, nodes } of report.algorithms ?? [])
    pairs.push(['Algorithm', `${name}: ${formatCount(nodes.length, 'node')} changed`]);
  if (report.accuracy) {
    const { before, after, wanted, reverted, attempts } = report.accuracy;
    const change =
      reverted.length === 0
        ? 'all layers stay'
        : `${formatCount(reverted.length, 'layer')} back to float: ${after.toFixed(2)} dB`;
    pairs.push([
      'Accuracy',
      `${before.toFixed(2)} dB for ${wanted} dB wanted; ${change} (${formatCount(attempts, 'attempt')})`,
    ]);
  }
  if (report.analysis) {
    const { analysis } = report;
    pairs.push([
      'Error',
      `${outputSqnr(analysis).toFixed(2)} dB SQNR at the worst output, ${formatCount(analysis.samples, 'sample')}`,
    ]);
    if (analysis.latency) {
      const { reference, other } = analysis.latency;
      pairs.push([
        'Latency',
        `${formatDuration(reference)} -> ${formatDuration(other)} (${(reference / other).toFixed(2)}x as fast)`,
      ]);
    }
  }
  pairs.push(...floatPairs(floatNodes));
  for (const warning of report.warnings) pairs.push(['Warning', warning]);
  return formatPairs(pairs, styleName);
}

function floatPairs(floatNodes: QuantizeReport['floatNodes']): [string, string][] {
  return [...groupByReason(floatNodes)].map(([reason, names]) => [
    'Float',
    `${formatCount(names.length, 'node')} (${summary(names)}): ${reason}`,
  ]);
}

function formatPlan(plan: QuantizationPlan, bold: (text: string) => string): string {
  const { mode, format, activationType, weightType, quantizedNodes, floatNodes, nodes, calibrated } = plan;
  const { sharedScales = {}, weights = [], bytes } = plan;
  const count = Object.values(quantizedNodes).reduce((sum, n) => sum + n, 0);
  const byType = Object.entries(quantizedNodes).map(([op, n]) => `${n} ${op}`);
  const types = activationType ? `, activations ${activationType}, weights ${weightType}` : '';
  const pairs: [string, string][] = [
    ['Plan', `${mode}, ${format}${types}`],
    ...(bytes ? [['Size', formatSizes(bytes)] as [string, string]] : []),
    ['Quantized', `${formatCount(count, 'node')}: ${byType.join(', ') || 'none'}`],
    ...(calibrated ? [['Calibrated', formatCount(calibrated.length, 'tensor')] as [string, string]] : []),
    ...floatPairs(floatNodes),
  ];
  const parts = [formatPairs(pairs, bold)];
  const describeCodes = (name: string): string =>
    Object.hasOwn(sharedScales, name) ? `${name} (scale of ${sharedScales[name]})` : name;
  if (nodes && nodes.length > 0) {
    const rows = nodes.map(({ name, op, inputs, weights, outputs }) => [
      name,
      op,
      weights.map(describeWeight).join(', '),
      inputs.length === 0 && weights.length === 0 ? 'part of the node before' : outputs.map(describeCodes).join(', '),
    ]);
    parts.push(formatTable(['node', 'operator', 'weights', 'gives codes of'], rows, { styleHeader: bold }));
  }
  if (weights.length > 0) {
    const rows = weights.map((weight) => [weight.name, describeWeight(weight)]);
    parts.push(formatTable(['weight', 'codes'], rows, { styleHeader: bold }));
  }
  if (floatNodes.length > 0) {
    const rows = floatNodes.map(({ name, op, reason }) => [name, op, reason]);
    parts.push(formatTable(['stays in float', 'operator', 'because'], rows, { styleHeader: bold }));
  }
  return parts.join('\n\n');
}

function formatSizes({ float, quantized }: QuantizeReport['bytes']): string {
  return `${formatBytes(float)} -> ${formatBytes(quantized)} (${(float / quantized).toFixed(2)}x smaller)`;
}

function describeWeight({ type, scales, block }: PlannedWeight): string {
  return `${type} per ${scales}${block ? ` of ${block}` : ''}`;
}

function groupByReason(nodes: QuantizeReport['floatNodes']): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const { reason, name } of nodes) groups.set(reason, [...(groups.get(reason) ?? []), name]);
  return groups;
}

function summary(names: readonly string[]): string {
  return names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')}, ...`;
}

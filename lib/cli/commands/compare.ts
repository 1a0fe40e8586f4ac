/** `q8 compare`: how far two models are apart on the same data: outputs, every tensor that they share, and weights. */
import { basename } from 'node:path';
import type { Command } from 'commander';
import { compareModels } from '../../index';
import { type Analysis, outputSqnr, type TensorAnalysis } from '../../report/analysis';
import { type CommandContext, GateError, parseNumber } from '../context';
import { addDataOptions, DATA_HELP, type DataFlags, samplesOf } from '../data-options';
import { checkReportPath, writeReport } from '../report-file';
import { Progress } from '../ui/progress';
import { formatTable } from '../ui/table';
import { formatDuration } from '../ui/units';

type CompareFlags = DataFlags & {
  data?: string;
  minSqnr?: number;
  tensors?: boolean;
  latency?: boolean;
  report?: string;
};

/** How many of the layers that add most error are shown. */
const WEAKEST = 5;

export function addCompare(program: Command, context: CommandContext): void {
  const command = program
    .command('compare')
    .description('run two models on the same data and show how far their outputs and inner tensors are apart')
    .argument('<reference.onnx>', 'the model taken as right')
    .argument('<other.onnx>', 'the model to judge: quantized from it, in any form')
    .option('-d, --data <path>', DATA_HELP)
    .option('--tensors', 'show every tensor, not only outputs and the weakest layers')
    .option('--latency', 'also time both models')
    .option('--report <file>', 'write all that was measured to an .html or .json file')
    .option('--min-sqnr <dB>', 'exit with code 3 when an output is worse than this', parseNumber);
  addDataOptions(command).action(async (reference: string, other: string, flags: CompareFlags) => {
    checkReportPath(flags.report);
    const { terminal } = context;
    const progress = new Progress(terminal);
    const feeds = samplesOf(flags.data, flags, '--data');
    let analysis: Analysis;
    try {
      analysis = await compareModels(reference, other, feeds, {
        latency: flags.latency,
        signal: context.interrupt,
        onSample: (done) => progress.update('compare', done, flags.random ?? flags.limit),
      });
    } finally {
      progress.clear();
    }
    if (flags.report) {
      const title = `${basename(other)} beside ${basename(reference)}`;
      await writeReport(flags.report, { title, analysis }, analysis);
      terminal.note(`Wrote ${flags.report}.`);
    }
    if (context.isJson) terminal.printJson(analysis);
    else terminal.print(formatAnalysis(analysis, flags.tensors === true, terminal.out.bold));
    if (flags.random !== undefined) {
      terminal.note('Random numbers are not what a model was calibrated for: judge accuracy with --data.');
    }
    const worst = outputSqnr(analysis);
    if (flags.minSqnr !== undefined && !(worst >= flags.minSqnr)) {
      throw new GateError(`The worst SQNR is ${worst.toFixed(2)} dB; --min-sqnr asks for ${flags.minSqnr} dB.`);
    }
  });
}

function formatAnalysis(analysis: Analysis, all: boolean, styleHeader: (text: string) => string): string {
  const { tensors, weights, latency } = analysis;
  const outputs = tensors.filter(({ isOutput }) => isOutput);
  const parts = [tableOf('output', outputs, styleHeader)];
  const layers = tensors.filter(({ local }) => local !== undefined);
  if (all) parts.push(tableOf('tensor', tensors, styleHeader));
  else if (layers.length > 0) {
    const weakest = [...layers].sort((a, b) => a.local!.sqnr - b.local!.sqnr).slice(0, WEAKEST);
    parts.push(tableOf(`weakest of ${layers.length} layers`, weakest, styleHeader));
  }
  if (all && weights.length > 0) {
    const rows = weights.map(({ name, type, sqnr, cosine, maxAbsError }) => [
      name,
      type,
      decibels(sqnr),
      cosine.toFixed(6),
      maxAbsError.toPrecision(4),
    ]);
    parts.push(
      formatTable(['weight', 'type', 'SQNR dB', 'cosine', 'max error'], rows, { align: 'llrrr', styleHeader }),
    );
  }
  if (latency) {
    const { reference, other } = latency;
    const ratio = (reference / other).toFixed(2);
    parts.push(`latency  ${formatDuration(reference)} -> ${formatDuration(other)} (${ratio}x as fast)`);
  }
  return parts.join('\n\n');
}

/** SQNR of the layer alone ("own") and end to end. */
function tableOf(what: string, tensors: readonly TensorAnalysis[], styleHeader: (text: string) => string): string {
  const rows = tensors.map(({ name, node, runsAs, local, accumulated }) => [
    name,
    runsAs ?? node?.op ?? '',
    local ? decibels(local.sqnr) : null,
    decibels(accumulated.sqnr),
    accumulated.cosine.toFixed(6),
    accumulated.maxAbsError.toPrecision(4),
  ]);
  const header = [what, 'made by', 'own SQNR dB', 'SQNR dB', 'cosine', 'max error'];
  return formatTable(header, rows, { align: 'llrrrr', styleHeader });
}

function decibels(value: number): string {
  return value === Number.POSITIVE_INFINITY ? 'equal' : value.toFixed(2);
}

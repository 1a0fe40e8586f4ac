/** prepareModel(): the form that the quantizer works on, as a model of its own. */
import { checkOptionKeys, expected } from '../errors';
import { graphFromProto } from '../graph/from-proto';
import { graphToProto } from '../graph/to-proto';
import { readModel } from '../onnx/read';
import type { ModelProto } from '../onnx/proto';
import { keepFiles, type WriteOptions, writeModel, writeModelFile } from '../onnx/write';
import { prepare } from '../passes';
import { NEWEST_TARGET, upgradeOpset } from '../passes/upgrade-opset';
import { forgetLoaded } from '../tensor/tensor';

export interface PrepareOptions {
  /** Opset of ai.onnx to reach, 17 to 26; newer models stay as they are. Default: the one that quantize() works with. */
  opset?: number;
  /** Folder of the model's side files, for a model given as bytes. */
  baseDirectory?: string;
}

export interface PreparedModel {
  /** The bytes of the prepared float model. */
  model: Uint8Array;
  /** Its opset of ai.onnx. */
  opset: number;
  /** How many nodes there were, and are. */
  nodes: { before: number; after: number };
}

/**
 * Prepares a float model as quantize() does before anything else: constants become initializers, old opsets new ones, shapes
 * are inferred (symbolic sizes too), constants folded, BatchNormalization and constant Mul, Div, Add and Sub folded into the
 * convolution or Gemm before them, HardSwish and LayerNormalization recognized, and what does nothing is removed. Every node
 * gets a stable name: names to select by are those of this model. Inputs and outputs stay, results up to float32 rounding.
 *
 * @param model path of an .onnx file, or its bytes.
 * @throws ERR_Q8_INVALID_ARGUMENT for wrong options; ERR_Q8_BAD_MODEL and ERR_Q8_UNSUPPORTED_OP for models that cannot be
 * read or upgraded.
 */
export async function prepareModel(model: string | Uint8Array, options: PrepareOptions = {}): Promise<PreparedModel> {
  const { proto, sideFiles: _, ...result } = await prepareToProto(model, options, 'prepareModel()');
  const bytes = writeModel(proto);
  forgetLoaded();
  return { model: bytes, ...result };
}

/**
 * {@link prepareModel}, from file to file: large tensors are read and written one at a time.
 *
 * @throws ERR_Q8_INVALID_ARGUMENT also when a file of the input would be overwritten.
 */
export async function prepareModelFile(
  model: string,
  output: string,
  { externalData, ...options }: PrepareOptions & WriteOptions = {},
): Promise<Omit<PreparedModel, 'model'> & { files: string[] }> {
  if (typeof model !== 'string') throw expected('a path', 'the model', model);
  if (typeof output !== 'string' || output === '') throw expected('a path', 'the output', output);
  const { proto, sideFiles, ...result } = await prepareToProto(model, options, 'prepareModelFile()');
  keepFiles([model, ...sideFiles], output, { externalData });
  const files = await writeModelFile(proto, output, { externalData });
  forgetLoaded();
  return { ...result, files };
}

async function prepareToProto(
  model: string | Uint8Array,
  options: PrepareOptions,
  where: string,
): Promise<Omit<PreparedModel, 'model'> & { proto: ModelProto; sideFiles: readonly string[] }> {
  checkOptionKeys(options, new Set(['opset', 'baseDirectory']), where);
  const { opset, baseDirectory } = options;
  if (typeof model !== 'string' && !(model instanceof Uint8Array))
    throw expected('a path or a Uint8Array', 'the model', model);
  if (opset !== undefined && !(Number.isSafeInteger(opset) && opset >= 17 && opset <= NEWEST_TARGET)) {
    throw expected(`an opset from 17 to ${NEWEST_TARGET}`, 'the option opset', opset);
  }
  if (baseDirectory !== undefined && typeof baseDirectory !== 'string') {
    throw expected('a string', 'the option baseDirectory', baseDirectory);
  }
  const loaded = await readModel(model, { isLazy: true, ...(baseDirectory !== undefined && { baseDirectory }) });
  const graph = graphFromProto(loaded.model);
  const before = graph.nodes.size;
  prepare(graph);
  if (opset !== undefined) upgradeOpset(graph, opset);
  return {
    proto: graphToProto(graph),
    sideFiles: loaded.sideFiles ?? [],
    opset: graph.opset(),
    nodes: { before, after: graph.nodes.size },
  };
}

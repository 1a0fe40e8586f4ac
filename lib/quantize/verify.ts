/** Opens a quantized model by every runtime at hand, so that a model that does not load is never handed out. */
import { Q8Error } from '../errors';
import { InferenceSession } from '../runtime/session';
import { loadOrt } from './engines/ort';

const ORT = { executionProviders: ['cpu'], logSeverityLevel: 3 } as const;

/** Which runtimes opened the model, bytes or a path. @throws ERR_Q8_BAD_MODEL when one refuses it, with the node if it says so. */
export async function verifyModel(
  model: Uint8Array | string,
  nodeNames: ReadonlySet<string>,
): Promise<('ort' | 'q8')[]> {
  const opened: ('ort' | 'q8')[] = [];
  const ort = await loadOrt();
  if (ort) {
    const session = await refusing('onnxruntime-node', nodeNames, () =>
      // Overloads by type of the model.
      typeof model === 'string' ? ort.InferenceSession.create(model, ORT) : ort.InferenceSession.create(model, ORT),
    );
    await session.release();
    opened.push('ort');
  }
  const session = await refusing('q8', nodeNames, () =>
    typeof model === 'string' ? InferenceSession.create(model) : InferenceSession.create(model),
  );
  await session.release();
  opened.push('q8');
  return opened;
}

async function refusing<T>(runtime: string, nodeNames: ReadonlySet<string>, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (cause) {
    const { message } = cause as Error;
    const known = cause instanceof Q8Error ? cause.node : undefined;
    // Messages of onnxruntime hold the name in parentheses or quotes.
    const node =
      known ?? [...message.matchAll(/[('"]([^()'"]+)[)'"]/g)].map(([, name]) => name).find((n) => nodeNames.has(n));
    throw new Q8Error('ERR_Q8_BAD_MODEL', `${runtime} does not open the quantized model: ${message}`, {
      ...(node === undefined ? {} : { node, hint: `leave the node out: exclude: [${JSON.stringify(node)}].` }),
      cause,
    });
  }
}

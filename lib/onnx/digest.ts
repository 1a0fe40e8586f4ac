/** Which model something belongs to: a hash of all of it. */
import { createHash } from 'node:crypto';
import { tensorsOfModel } from './proto';
import type { LoadedModel } from './read';

/** SHA-256, in hex, of the message as it was read and of the tensors in its side files. Wherever the files are. */
export function digestOf({ bytes, model }: LoadedModel): string {
  const hash = createHash('sha256').update(bytes);
  for (const { rawData } of tensorsOfModel(model)) if (rawData && rawData.buffer !== bytes.buffer) hash.update(rawData);
  return hash.digest('hex');
}

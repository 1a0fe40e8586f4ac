/** Which model something belongs to: a hash of all of it. */
import { createHash } from 'node:crypto';
import { lazyBytesOf } from './lazy-bytes';
import { tensorsOfModel } from './proto';
import type { LoadedModel } from './read';

/** SHA-256, in hex, of the message as it was read and of the tensors in its side files. Wherever the files are. */
export function digestOf({ bytes, model }: LoadedModel): string {
  const hash = createHash('sha256').update(bytes);
  for (const tensor of tensorsOfModel(model)) {
    const data = lazyBytesOf(tensor)?.read() ?? tensor.rawData;
    if (data && data.buffer !== bytes.buffer) hash.update(data);
  }
  return hash.digest('hex');
}

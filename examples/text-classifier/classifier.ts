/** The text classifier: where it is, how text becomes tokens, and running it. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type InferenceSession, Tensor } from '../../lib';

export const MODEL = path.join(__dirname, 'text-classifier.onnx');

/** Sections of the Debian archive; the classes. */
export const SECTIONS = ['doc', 'fonts', 'games', 'graphics', 'net', 'perl', 'python', 'science', 'sound', 'web'];

/** Tokens are hashes of words, so there is no vocabulary; train.py does the same. */
const TOKENS = 2048;
const LENGTH = 24;
const BATCH = 50;

export interface LabelledText {
  text: string;
  /** Index into {@link SECTIONS}. */
  label: number;
}

export function readTexts(name: 'test' | 'calibration'): LabelledText[] {
  const lines = readFileSync(path.join(__dirname, `${name}.tsv`), 'utf8')
    .trimEnd()
    .split('\n');
  return lines.map((line) => {
    const [section, text] = line.split('\t');
    return { text, label: SECTIONS.indexOf(section) };
  });
}

/** int64 [texts, 24]: FNV-1a of each word in 1..2047, zeros behind the last. */
export function tokenize(texts: readonly string[]): Tensor<'int64'> {
  const ids = new BigInt64Array(texts.length * LENGTH);
  texts.forEach((text, row) => {
    const words = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
    words.slice(0, LENGTH).forEach((word, i) => {
      let hash = 0x811c9dc5;
      for (const byte of Buffer.from(word)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
      ids[row * LENGTH + i] = BigInt(1 + (hash % (TOKENS - 1)));
    });
  });
  return new Tensor('int64', ids, [texts.length, LENGTH]);
}

/** Texts that are not tested on, one a feed. */
export function calibrationFeeds(): { ids: Tensor<'int64'> }[] {
  return readTexts('calibration').map(({ text }) => ({ ids: tokenize([text]) }));
}

/** The class of each text. */
export async function classify(session: InferenceSession, texts: readonly string[]): Promise<number[]> {
  const classes: number[] = [];
  for (let from = 0; from < texts.length; from += BATCH) {
    const batch = texts.slice(from, from + BATCH);
    const { logits } = await session.run({ ids: tokenize(batch) });
    const scores = logits.data as Float32Array;
    for (let i = 0; i < batch.length; i++) {
      const row = scores.subarray(i * SECTIONS.length, (i + 1) * SECTIONS.length);
      classes.push(row.indexOf(Math.max(...row)));
    }
  }
  return classes;
}

/** Share of the texts (0 to 1) whose class is right. */
export async function accuracyOf(session: InferenceSession, texts: readonly LabelledText[]): Promise<number> {
  const classes = await classify(
    session,
    texts.map(({ text }) => text),
  );
  return classes.filter((label, i) => label === texts[i].label).length / texts.length;
}

/**
 * `npm run demo:text -- "some words"`: quantizes the text classifier without data (mode dynamic), tells its accuracy
 * beside float, and classifies the words.
 */
import { readFileSync } from 'node:fs';
import { InferenceSession, quantize } from '../../lib';
import { accuracyOf, classify, MODEL, readTexts, SECTIONS } from './classifier';

async function main(text: string): Promise<void> {
  const float = new Uint8Array(readFileSync(MODEL));
  const { model: int8 } = await quantize(float, { mode: 'dynamic' });
  const test = readTexts('test');
  for (const [label, bytes] of Object.entries({ float32: float, int8 })) {
    const session = await InferenceSession.create(bytes);
    const [section] = await classify(session, [text]);
    const accuracy = await accuracyOf(session, test);
    console.log(
      `${label.padEnd(8)} ${(bytes.length / 1e3).toFixed(0).padStart(4)} kB  accuracy ${(100 * accuracy).toFixed(1)} %  ` +
        `"${text}" -> ${SECTIONS[section]}`,
    );
    session.dispose();
  }
}

void main(process.argv.slice(2).join(' ') || 'a chess program with a graphical board');

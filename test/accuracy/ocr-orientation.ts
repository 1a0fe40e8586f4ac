/** Accuracy of PP-OCR's text-direction classifier, by level of noise. */
import { agreement, calibrationFeeds, classify, MODEL, NOISE_LEVELS } from '../../examples/ocr-orientation/classifier';
import { renderLines } from '../../examples/ocr-orientation/lines';
import { portion, type Task } from './task';

const LINES = 1000;

export const ocrOrientation: Task = {
  name: 'ocr orientation',
  metric: 'accuracy',
  model: MODEL,
  calibration: calibrationFeeds,
  best: { algorithms: ['correctBias'] },
  async evaluate(session, share) {
    const scores: Record<string, number> = {};
    for (const noise of NOISE_LEVELS) {
      const lines = renderLines(0, portion(LINES, share), noise);
      const classes = await classify(session, lines);
      scores[`noise ${noise}`] =
        agreement(
          classes,
          lines.map(({ label }) => label),
        ) / 100;
    }
    return scores;
  },
};

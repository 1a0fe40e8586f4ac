/** Accuracy of the small transformer of examples/text-classifier. */
import { accuracyOf, calibrationFeeds, MODEL, readTexts } from '../../examples/text-classifier/classifier';
import { portion, type Task } from './task';

export const textClassifier: Task = {
  name: 'text classifier',
  metric: 'accuracy',
  model: MODEL,
  calibration: calibrationFeeds,
  dynamic: true,
  async evaluate(session, share) {
    const texts = readTexts('test');
    return { texts: await accuracyOf(session, texts.slice(0, portion(texts.length, share))) };
  },
};

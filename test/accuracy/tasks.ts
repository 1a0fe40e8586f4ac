/** All tasks, quick ones first. */
import { blazeFace } from './blazeface';
import { fashionMnist } from './fashion-mnist';
import { ocrDetection } from './ocr-detection';
import { ocrOrientation } from './ocr-orientation';
import { ocrRecognition } from './ocr-recognition';
import type { Task } from './task';
import { textClassifier } from './text-classifier';

export const TASKS: readonly Task[] = [
  textClassifier,
  ...fashionMnist,
  blazeFace,
  ocrOrientation,
  ocrRecognition,
  ocrDetection,
];

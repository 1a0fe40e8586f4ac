/** Floor (ai.onnx 6, 13): the largest integer not above x. */
import { defineUnary } from './families/elementwise';

export const Floor = defineUnary({ type: 'Floor', since: [6, 13], kind: 'floor', compute: Math.floor });

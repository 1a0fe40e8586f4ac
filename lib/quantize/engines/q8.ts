/** Calibration on q8 itself: needs nothing else, and leaves the event loop free. */
import { InferenceSession } from '../../runtime/session';
import type { OpenEngine } from './engine';

export const openQ8: OpenEngine = async (graph, { threads }) => {
  const session = InferenceSession.fromGraph(graph, { threads });
  return {
    run: (feed) => session.run(feed),
    release: () => session.release(),
  };
};

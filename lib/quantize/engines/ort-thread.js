/**
 * The thread that onnxruntime-node runs on: a plain script, so that a Worker can start it from the sources as well as from
 * the package. Messages in: { call, verb, ... }; out: { call, result } or { call, failure }.
 */
const { parentPort, workerData } = require('node:worker_threads');
const ort = require(workerData.onnxruntime);

const sessions = new Map();

const verbs = {
  async open({ session, model, options }) {
    const created = await ort.InferenceSession.create(model, options);
    sessions.set(session, created);
    return { outputNames: created.outputNames };
  },

  async run({ session, feed }) {
    const feeds = Object.entries(feed).map(([name, { type, data, dims }]) => [name, new ort.Tensor(type, data, dims)]);
    const { outputNames } = sessions.get(session);
    const results = await sessions.get(session).run(Object.fromEntries(feeds));
    return packed(outputNames.map((name) => results[name].data));
  },

  async close({ session }) {
    await sessions.get(session)?.release();
    sessions.delete(session);
  },
};

/** Arrays of float32 up to this length go over in one: each array of its own costs two microseconds. */
const SMALL = 64;

/** The arrays, where lengths stand for small ones, whose elements are in `packed` one after the other. */
function packed(arrays) {
  const isSmall = (array) => array instanceof Float32Array && array.length <= SMALL;
  const all = new Float32Array(arrays.reduce((sum, array) => sum + (isSmall(array) ? array.length : 0), 0));
  let at = 0;
  const list = arrays.map((array) => {
    if (!isSmall(array)) return array;
    all.set(array, at);
    at += array.length;
    return array.length;
  });
  return { arrays: list, packed: all };
}

parentPort.on('message', async ({ call, verb, ...message }) => {
  try {
    const result = await verbs[verb](message);
    // Results go over as they are; nobody here needs them any more.
    const buffers = (result?.arrays ?? []).flatMap((array) => array.buffer ?? []);
    parentPort.postMessage({ call, result }, [...new Set(buffers)]);
  } catch (error) {
    parentPort.postMessage({ call, failure: error instanceof Error ? error.message : String(error) });
  }
});

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
    return packed(outputNames.map((name) => results[name]));
  },

  async close({ session }) {
    await sessions.get(session)?.release();
    sessions.delete(session);
  },
};

/**
 * What tells results apart: { data, dims }, or null for a float32 number, which is in `numbers` in the same order. Each array
 * that goes over by itself costs two microseconds, and extremes are a thousand numbers.
 */
function packed(tensors) {
  const isNumber = ({ data, dims }) => data instanceof Float32Array && dims.length === 0;
  return {
    numbers: Float32Array.from(tensors.filter(isNumber), ({ data }) => data[0]),
    results: tensors.map((tensor) => (isNumber(tensor) ? null : { data: tensor.data, dims: tensor.dims })),
  };
}

parentPort.on('message', async ({ call, verb, ...message }) => {
  try {
    const result = await verbs[verb](message);
    // Results go over as they are; nobody here needs them any more.
    const buffers = (result?.results ?? []).flatMap((tensor) => tensor?.data.buffer ?? []);
    parentPort.postMessage({ call, result }, [...new Set(buffers)]);
  } catch (error) {
    parentPort.postMessage({ call, failure: error instanceof Error ? error.message : String(error) });
  }
});

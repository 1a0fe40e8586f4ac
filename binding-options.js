/** Names of the prebuilt binaries: prebuilds/q8-<platform>-<arch>/node-napi-v8.node. Read by pkg-prebuilds. */
module.exports = { name: 'q8', napi_versions: [8] };

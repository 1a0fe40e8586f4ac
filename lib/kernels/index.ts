/** The kernels that users call directly. */
export { type CpuInfo, cpuInfo, type KernelInfo } from './cpu-info';
export { PackedWeights, packWeights, type PackWeightsOptions } from './packed-weights';
export {
  type DequantizeOptions,
  qgemm,
  qgemmAsync,
  type QgemmAsyncOptions,
  type QgemmOptions,
  type QgemmResult,
  type RequantizeOptions,
} from './qgemm';

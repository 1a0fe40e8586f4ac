// SPDX-License-Identifier: MIT
/// Matrix products serve GEMM only: depthwise convolution is that of neondot, the vector operators
/// those of neon.
#include "kernels/kernel_table.h"

namespace q8::neon {
extern const VectorKernels kVector;
}
namespace q8::neondot {
extern const ConvKernels kConv;
}

namespace q8::neoni8mm {

extern const GemmKernels kGemm;

extern const KernelTable kTable;
const KernelTable kTable = {"neoni8mm", &kGemm, nullptr, &neondot::kConv, &neon::kVector};

}  // namespace q8::neoni8mm

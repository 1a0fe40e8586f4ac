// SPDX-License-Identifier: MIT
/// The vector operators have no use for the dot product: they are those of neon.
#include "kernels/kernel_table.h"

namespace q8::neon {
extern const VectorKernels kVector;
}

namespace q8::neondot {

extern const GemmKernels kGemm;
extern const ConvKernels kConv;

extern const KernelTable kTable;
const KernelTable kTable = {"neondot", &kGemm, nullptr, &kConv, &neon::kVector};

}  // namespace q8::neondot

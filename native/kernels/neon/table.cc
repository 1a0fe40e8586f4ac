// SPDX-License-Identifier: MIT
#include "kernels/kernel_table.h"

namespace q8::neon {

extern const GemmKernels kGemm;
extern const ConvKernels kConv;
extern const VectorKernels kVector;

extern const KernelTable kTable;
const KernelTable kTable = {"neon", &kGemm, nullptr, &kConv, &kVector};

}  // namespace q8::neon

// SPDX-License-Identifier: MIT
#include "kernels/kernel_table.h"

namespace q8::avx2 {

extern const GemmKernels kGemm;
extern const GemmKernels kGemmBounded;
extern const ConvKernels kConv;
extern const VectorKernels kVector;

extern const KernelTable kTable;
const KernelTable kTable = {"avx2", &kGemm, &kGemmBounded, &kConv, &kVector};

}  // namespace q8::avx2

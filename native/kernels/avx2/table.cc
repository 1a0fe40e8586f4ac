// SPDX-License-Identifier: MIT
#include "kernels/kernel_table.h"

namespace q8::avx2 {

extern const GemmKernels kGemm;

extern const KernelTable kTable;
const KernelTable kTable = {"avx2", &kGemm, nullptr, nullptr};

}  // namespace q8::avx2

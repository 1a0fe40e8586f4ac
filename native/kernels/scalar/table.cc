// SPDX-License-Identifier: MIT
#include "kernels/kernel_table.h"

namespace q8::scalar {

extern const GemmKernels kGemm;

extern const KernelTable kTable;
const KernelTable kTable = {"scalar", &kGemm, nullptr, nullptr};

}  // namespace q8::scalar

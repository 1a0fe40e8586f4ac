// SPDX-License-Identifier: MIT
/// The vector operators have no use for the dot product: they are those of avx2.
#include "kernels/kernel_table.h"

namespace q8::avx2 {
extern const VectorKernels kVector;
}

namespace q8::avxvnni {

extern const GemmKernels kGemm;
extern const ConvKernels kConv;

extern const KernelTable kTable;
const KernelTable kTable = {"avxvnni", &kGemm, nullptr, &kConv, &avx2::kVector};

}  // namespace q8::avxvnni

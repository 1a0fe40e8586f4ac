// SPDX-License-Identifier: MIT
/// The vector operators have no use for the dot product: they are those of avx512bw.
#include "kernels/kernel_table.h"

namespace q8::avx512bw {
extern const VectorKernels kVector;
}

namespace q8::avx512vnni {

extern const GemmKernels kGemm;
extern const ConvKernels kConv;

extern const KernelTable kTable;
const KernelTable kTable = {"avx512vnni", &kGemm, nullptr, &kConv, &avx512bw::kVector};

}  // namespace q8::avx512vnni

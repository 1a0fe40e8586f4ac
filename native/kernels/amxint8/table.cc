// SPDX-License-Identifier: MIT
/// Matrix products on the tile registers; all else is that of avx512vbmi.
#include "kernels/kernel_table.h"

namespace q8::avx512vnni {
extern const ConvKernels kConv;
}
namespace q8::avx512vbmi {
extern const VectorKernels kVector;
}

namespace q8::amxint8 {

extern const GemmKernels kGemm;

extern const KernelTable kTable;
const KernelTable kTable = {"amxint8", &kGemm, nullptr, &avx512vnni::kConv, &avx512vbmi::kVector};

}  // namespace q8::amxint8

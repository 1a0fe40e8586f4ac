// SPDX-License-Identifier: MIT
/// The contract that every instruction set fills in: one const table per ISA, defined in
/// kernels/<isa>/table.cc as q8::<isa>::kTable from the room's kGemm (gemm.cc), kGemmBounded
/// (gemm_bounded.cc, where there is one), kConv (depthwise.cc) and kVector (vector.cc). An ISA may
/// take entries of its parent where it has nothing faster.
///
/// ODR rule: the files of a room are compiled with ISA flags, so they include only intrinsics
/// headers, <cstddef>, <cstdint>, <cmath> declarations, the kernels/*.h contracts and
/// kernels/common/*-inl.h, and put everything into their own namespace. An inline function shared
/// with other files could otherwise be linked in its AVX-512 copy and crash older CPUs.
#pragma once

#include "kernels/conv_kernels.h"
#include "kernels/gemm_kernels.h"
#include "kernels/vector_kernels.h"

namespace q8 {

struct KernelTable {
  const char* isa;
  /// For any weights.
  const GemmKernels* gemm;
  /// Faster, for bounded weights only; null where `gemm` is as fast.
  const GemmKernels* gemm_bounded;
  const ConvKernels* conv;
  const VectorKernels* vector;
};

}  // namespace q8

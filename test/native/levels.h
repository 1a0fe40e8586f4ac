// SPDX-License-Identifier: MIT
/// The instruction sets whose kernels can run here: those of the CPU, and emulated builds of the
/// others.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernel_table.h"

namespace q8::test {

/// Kernels that an emulated room has from another one are null: they are tested there.
struct Level {
  /// That of the ISA, with " (emulated)" if it is.
  std::string name;
  const GemmKernels* gemm;
  /// Null also where there is none.
  const GemmKernels* gemm_bounded;
  const ConvKernels* conv;
  const VectorKernels* vector;
};

/// Levels without either are reported as skipped.
std::vector<Level> runnable_levels();

}  // namespace q8::test

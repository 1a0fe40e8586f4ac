// SPDX-License-Identifier: MIT
/// The instruction sets whose kernels can run here: those of the CPU, and emulated builds of the
/// others.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernel_table.h"

namespace q8::test {

struct Level {
  /// That of the ISA, with " (emulated)" if it is.
  std::string name;
  const GemmKernels* gemm;
  /// Null where the room has none.
  const GemmKernels* gemm_bounded;
  const ConvKernels* conv;
  /// Null where an emulated room has none of its own.
  const VectorKernels* vector;
};

/// Levels without either are reported as skipped.
std::vector<Level> runnable_levels();

}  // namespace q8::test

// SPDX-License-Identifier: MIT
/// Compares the integer kernels of an instruction set with the scalar ones. Emulators, compilers
/// and microcode have bugs; a level that computes something else must not be used.
#pragma once

#include <string>

#include "kernels/kernel_table.h"

namespace q8 {

/// Runs every GEMM tile, both packings and depthwise convolution of `table` on small random and
/// worst-case data and compares with `reference`. Takes less than a millisecond.
/// @returns what differs ("tile 6x16", "depthwise", ...), or an empty string.
std::string self_test(const KernelTable& table, const KernelTable& reference);

}  // namespace q8

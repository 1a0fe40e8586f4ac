// SPDX-License-Identifier: MIT
/// How fast one core reads memory: the limit of products with few rows, whose weights are read
/// once.
#pragma once

#include <cstddef>

namespace q8 {

/// Bytes per second, in 10^9, at which one thread reads a buffer of `bytes` again and again: of the
/// cache level that holds it, or of main memory. Takes about 50 ms. Returns 0 when there is no
/// memory for the buffer. The loads are as wide as every CPU of the architecture has them, so that
/// a first-level cache may be faster.
double measure_read_bandwidth(size_t bytes);

}  // namespace q8

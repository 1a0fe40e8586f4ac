// SPDX-License-Identifier: MIT
/// Which tile of an ISA to use for an M x N result, and how to cut the result into tasks for
/// threads. Pure functions.
#pragma once

#include <cstddef>

#include "kernels/gemm_kernels.h"

namespace q8 {

/// The tile with the least estimated time for M x N (both at least 1). Ragged M and N count: 16
/// rows are two strips of 8, not 14 + 2.
/// segments: only among tiles that take rows as segments.
const GemmTile& choose_tile(const GemmKernels& kernels, size_t m, size_t n, bool segments = false);

/// A grid of tasks over the result: `rows` x `columns` cells of nearly equal size, in strips and
/// column tiles.
struct TaskGrid {
  size_t rows = 1;
  size_t columns = 1;
};

/// Cuts strips x tiles into about `tasks` cells: the slowest of `threads` threads first, then the
/// bytes each task reads. strip_bytes and tile_bytes are what one strip of A and one column tile of
/// B hold.
TaskGrid choose_grid(size_t strips, size_t tiles, size_t strip_bytes, size_t tile_bytes,
                     size_t tasks, size_t threads);

}  // namespace q8

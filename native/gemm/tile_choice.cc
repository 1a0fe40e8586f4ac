// SPDX-License-Identifier: MIT
#include "gemm/tile_choice.h"

#include <algorithm>

namespace q8 {
namespace {

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

/// Time of one K step of a tile of vectors in quarters of a multiply-add: the products, a quarter
/// for each load of A, three for each of B, which comes from farther away, and a constant for the
/// loop. Only the order of the results matters.
size_t step_cost(size_t rows, size_t panels) { return 4 * rows * panels + rows + 3 * panels + 8; }

}  // namespace

const GemmTile& choose_tile(const GemmKernels& kernels, size_t m, size_t n, bool segments) {
  const auto cost_of = kernels.step_cost != nullptr ? kernels.step_cost : step_cost;
  const GemmTile* best = kernels.tiles;
  size_t best_cost = SIZE_MAX;
  for (size_t i = 0; i < kernels.tile_count; ++i) {
    const GemmTile& tile = kernels.tiles[i];
    if (segments && !tile.takes_segments) continue;
    const size_t panels = ceil_div(n, kPanelWidth);
    const size_t tile_panels = tile.nr / kPanelWidth;
    size_t cost = panels / tile_panels * cost_of(tile.mr, tile_panels);
    if (panels % tile_panels != 0) cost += cost_of(tile.mr, panels % tile_panels);
    cost *= ceil_div(m, tile.mr);
    if (cost < best_cost) {
      best_cost = cost;
      best = &tile;
    }
  }
  return *best;
}

TaskGrid choose_grid(size_t strips, size_t tiles, size_t strip_bytes, size_t tile_bytes,
                     size_t tasks, size_t threads) {
  TaskGrid best;
  size_t best_time = SIZE_MAX;
  size_t best_bytes = SIZE_MAX;
  for (size_t rows = 1; rows <= std::min(strips, tasks); ++rows) {
    const size_t columns = std::min(tiles, ceil_div(tasks, rows));
    const size_t cell_strips = ceil_div(strips, rows);
    const size_t cell_tiles = ceil_div(tiles, columns);
    const size_t time = ceil_div(rows * columns, threads) * cell_strips * cell_tiles;
    const size_t bytes = cell_strips * strip_bytes + cell_tiles * tile_bytes;
    if (time < best_time || (time == best_time && bytes < best_bytes)) {
      best_time = time;
      best_bytes = bytes;
      best = {rows, columns};
    }
  }
  return best;
}

}  // namespace q8

// SPDX-License-Identifier: MIT
/// The self-test passes what is right, names what is wrong, and is quick.
#include "cpu/self_test.h"

#include <chrono>
#include <string>

#include "check.h"
#include "cpu/dispatch.h"
#include "levels.h"

namespace q8::test {
namespace {

const KernelTable& scalar() { return *compiled_levels().back().table; }

void tile_with_a_wrong_last_output(size_t rows, size_t cols, size_t k, const TileA& a,
                                   const TileB& b, const Epilogue& epilogue, void* c, size_t ldc) {
  scalar().gemm->tiles[0].run(rows, cols, k, a, b, epilogue, c, ldc);
  if (epilogue.kind == OutKind::kS32) {
    static_cast<int32_t*>(c)[(rows - 1) * ldc + cols - 1] += 1;
  }
}

void lookup_with_a_wrong_last_code(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  scalar().vector->lut(n, x, table, y);
  y[n - 1] ^= 1;
}

void depthwise_with_a_wrong_output(const DepthwiseArgs& args) {
  scalar().conv->depthwise(args);
  static_cast<uint8_t*>(args.out)[args.channels - 1] ^= 1;
}

}  // namespace

Q8_TEST(self_test_passes_every_level) {
  for (const Level& level : runnable_levels()) {
    KernelTable table = scalar();
    if (level.gemm != nullptr) table.gemm = level.gemm;
    if (level.conv != nullptr) table.conv = level.conv;
    if (level.vector != nullptr) table.vector = level.vector;
    table.gemm_bounded = level.gemm_bounded;
    const std::string mismatch = self_test(table, scalar());
    Q8_CHECK(mismatch.empty(), level.name + ": " + mismatch);
  }
}

Q8_TEST(self_test_names_what_differs) {
  const GemmTile wrong_tile[] = {{"4x16", 4, 16, tile_with_a_wrong_last_output, true}};
  GemmKernels gemm = *scalar().gemm;
  gemm.tiles = wrong_tile;
  KernelTable table = scalar();
  table.gemm = &gemm;
  Q8_CHECK(self_test(table, scalar()) == "tile 4x16 of imul", self_test(table, scalar()));
  table = scalar();
  table.gemm_bounded = &gemm;
  Q8_CHECK(self_test(table, scalar()) == "tile 4x16 of imul", self_test(table, scalar()));

  VectorKernels vector = *scalar().vector;
  vector.lut = lookup_with_a_wrong_last_code;
  table = scalar();
  table.vector = &vector;
  Q8_CHECK(self_test(table, scalar()) == "lookup", self_test(table, scalar()));

  ConvKernels conv = *scalar().conv;
  conv.depthwise = depthwise_with_a_wrong_output;
  table = scalar();
  table.conv = &conv;
  Q8_CHECK(self_test(table, scalar()) == "depthwise", self_test(table, scalar()));
}

/// It takes about a millisecond. The bound only tells a hang from an emulated CPU, which is a
/// hundred times slower; nothing here depends on how fast the machine is.
Q8_TEST(self_test_ends_soon) {
  const auto start = std::chrono::steady_clock::now();
  Q8_CHECK(self_test(selected_table(), scalar()).empty(), selected_table().isa);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  Q8_CHECK(seconds.count() < 10, std::to_string(seconds.count()) + " s");
}

}  // namespace q8::test

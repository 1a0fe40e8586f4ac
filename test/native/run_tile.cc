// SPDX-License-Identifier: MIT
/// Runs one GEMM tile of one instruction set again and again, and nothing else:
/// scripts/kernels-report.mjs counts under emulation the instructions that this takes. Without a
/// tile's name it lists the tiles, as "name rows columns" lines.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/aligned_buffer.h"
#include "cpu/dispatch.h"

namespace {

int run(const q8::GemmKernels& kernels, const q8::GemmTile& tile, size_t k, size_t times) {
  const size_t depth = kernels.padded_k(k);
  const size_t lda = depth * kernels.a_element_bytes;
  // Whatever lies in the operands: the count does not depend on it.
  q8::AlignedBuffer a(tile.mr * lda);
  q8::AlignedBuffer b(tile.nr * depth);
  std::memset(a.data(), 1, a.size());
  std::memset(b.data(), 1, b.size());
  const std::vector<int32_t> bias(tile.nr);
  std::vector<int32_t> c(size_t{tile.mr} * tile.nr);
  q8::Epilogue epilogue = {};
  epilogue.kind = q8::OutKind::kS32;
  epilogue.bias = bias.data();
  if (kernels.enter != nullptr) kernels.enter(tile.mr);
  for (size_t i = 0; i < times; ++i) {
    tile.run(tile.mr, tile.nr, k, {a.data(), lda, nullptr, 0, 0},
             {reinterpret_cast<const int8_t*>(b.data()), depth * q8::kPanelWidth, nullptr},
             epilogue, c.data(), tile.nr);
  }
  if (kernels.leave != nullptr) kernels.leave();
  return std::all_of(c.begin(), c.end(), [&](int32_t sum) { return sum == c[0]; }) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const q8::KernelTable* table = argc > 1 ? q8::find_supported_table(argv[1]) : nullptr;
  if (table == nullptr || (argc != 2 && argc != 5)) {
    std::fprintf(stderr, "usage: q8_run_tile <level of this CPU> [<tile> <k> <times>]\n");
    return 2;
  }
  const q8::GemmKernels& kernels = *table->gemm;
  for (size_t t = 0; t < kernels.tile_count; ++t) {
    const q8::GemmTile& tile = kernels.tiles[t];
    if (argc == 2) std::printf("%s %u %u\n", tile.name, unsigned{tile.mr}, unsigned{tile.nr});
    if (argc == 5 && std::strcmp(tile.name, argv[2]) == 0) {
      return run(kernels, tile, std::strtoul(argv[3], nullptr, 10),
                 std::strtoul(argv[4], nullptr, 10));
    }
  }
  return argc == 2 ? 0 : 2;
}

// SPDX-License-Identifier: MIT
/// Every tile of every instruction set against the definition, with guard pages around all
/// operands. Levels that this CPU lacks run emulated where a build of them for emulation exists,
/// and are reported as skipped otherwise.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "guarded_buffer.h"
#include "levels.h"
#include "reference.h"

namespace q8::test {
namespace {

constexpr size_t round_up(size_t a, size_t b) { return (a + b - 1) / b * b; }

enum class Fill { kRandom, kHigh, kLow, kAlternating };

uint8_t code(Fill fill, size_t i, Random& random) {
  switch (fill) {
    case Fill::kRandom:
      return static_cast<uint8_t>(random.below(256));
    case Fill::kHigh:
      return 0xff;
    case Fill::kLow:
      return 0x80;
    case Fill::kAlternating:
      return i % 2 ? 0x80 : 0x7f;
  }
  return 0;
}

/// A form of the GEMM of a level.
struct Form {
  std::string name;
  const GemmKernels* kernels;
};

std::vector<Form> runnable_forms() {
  std::vector<Form> forms;
  for (const Level& level : runnable_levels()) {
    if (level.gemm != nullptr) forms.push_back({level.name, level.gemm});
    if (level.gemm != nullptr && level.gemm->signed_a != nullptr) {
      forms.push_back({level.name + " signed", level.gemm->signed_a});
    }
    if (level.gemm_bounded != nullptr) {
      forms.push_back({level.name + " bounded", level.gemm_bounded});
    }
  }
  return forms;
}

bool is_bounded(int first, int second) {
  return std::max(first, 0) + std::max(second, 0) <= 128 &&
         std::min(first, 0) + std::min(second, 0) >= -128;
}

/// Rows for some steps of each panel, to be multiplied besides the panels.
struct Fixes {
  std::vector<PanelFix> panels;
  std::vector<std::vector<uint32_t>> steps;
  std::vector<std::vector<int8_t>> rows;

  Fixes(const GemmKernels& kernels, size_t panel_count, size_t k, Random& random)
      : panels(panel_count), steps(panel_count), rows(panel_count) {
    for (size_t p = 0; p < panel_count; ++p) {
      for (size_t step = 0; step * kernels.kr < k; ++step) {
        if (random.below(3) == 0) steps[p].push_back(static_cast<uint32_t>(step));
      }
      rows[p].resize(steps[p].size() * kernels.kr * kPanelWidth);
      // Either weight of a pair alone is bounded.
      for (size_t i = random.below(2); i < rows[p].size(); i += 2) {
        rows[p][i] = static_cast<int8_t>(random.below(256));
      }
      panels[p] = {steps[p].data(), rows[p].data(), steps[p].size()};
    }
  }

  int32_t weight(const GemmKernels& kernels, size_t p, size_t i, size_t column, size_t j) const {
    return rows[p][i * kernels.kr * kPanelWidth + column * kernels.kr + j];
  }
};

void check_tile(const Form& form, const GemmTile& tile, size_t rows, size_t cols, size_t k,
                Random& random) {
  const GemmKernels& kernels = *form.kernels;
  const Fill fill = static_cast<Fill>(random.below(4));
  const auto touch = random.below(4) == 0 ? GuardedBuffer<uint8_t>::Touch::kBegin
                                          : GuardedBuffer<uint8_t>::Touch::kEnd;
  const uint8_t flip_a = random.below(2) ? 0x80 : 0;
  const uint8_t flip_b = random.below(2) ? 0x80 : 0;

  // Sources: A with a stride, B in either order.
  const size_t stride_a = k + random.below(3);
  GuardedBuffer<uint8_t> a(rows == 0 ? 0 : (rows - 1) * stride_a + k, touch);
  for (size_t i = 0; i < a.size(); ++i) a[i] = code(fill, i, random);
  const bool transposed = random.below(2) != 0;
  GuardedBuffer<uint8_t> b(k * cols, touch);
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = code(fill == Fill::kHigh ? Fill::kLow : fill, i, random);
  if (kernels.find_unbounded != nullptr) {
    for (uint8_t& byte : b) {
      byte = static_cast<uint8_t>(static_cast<int8_t>(byte ^ flip_b) / 2) ^ flip_b;
    }
  }
  const size_t stride_k = transposed ? 1 : cols;
  const size_t stride_n = transposed ? k : 1;

  // Packed B and its column sums.
  const size_t panel_stride = kernels.padded_k(k) * kPanelWidth;
  const size_t panels = round_up(cols, kPanelWidth) / kPanelWidth;
  GuardedBuffer<int8_t> packed_b(panels * panel_stride);
  std::vector<int32_t> column_sum(panels * kPanelWidth);
  for (size_t p = 0; p < panels; ++p) {
    const size_t first = p * kPanelWidth;
    kernels.pack_b_panel(k, std::min(kPanelWidth, cols - first), b.data() + first * stride_n,
                         stride_k, stride_n, flip_b, packed_b.data() + p * panel_stride,
                         column_sum.data() + first);
  }

  // A in place where the kernel allows it, else packed in segments.
  std::vector<int32_t> row_sum(rows);
  const bool in_place = kernels.a_in_place && flip_a == 0 && random.below(2) != 0;
  const size_t packed_lda = kernels.padded_k(k) * kernels.a_element_bytes;
  GuardedBuffer<uint8_t> packed_a(in_place ? 0 : rows * packed_lda);
  if (!in_place) {
    const size_t segments = k != 0 && k % 3 == 0 ? 3 : 1;
    std::vector<const uint8_t*> source;
    for (size_t r = 0; r < rows; ++r) {
      for (size_t s = 0; s < segments; ++s)
        source.push_back(a.data() + r * stride_a + s * (k / segments));
    }
    kernels.pack_a(rows, segments, k / segments, source.data(), flip_a, packed_a.data(), packed_lda,
                   row_sum.data());
  }

  // A as segments of this many elements, 0 = as plain rows.
  size_t segment = 0;
  std::vector<const uint8_t*> source;
  if (tile.takes_segments && k != 0 && k % kernels.kr == 0 && random.below(2) != 0) {
    segment = k % (3 * kernels.kr) == 0 ? k / 3 : random.below(2) ? k : kernels.kr;
    const size_t element_bytes = in_place ? 1 : kernels.a_element_bytes;
    const uint8_t* first = in_place ? a.data() : packed_a.data();
    for (size_t r = 0; r < rows; ++r) {
      for (size_t i = 0; i < k; i += segment) {
        source.push_back(first + r * (in_place ? stride_a : packed_lda) + i * element_bytes);
      }
    }
  }

  const Fixes fixes(kernels, panels, k, random);
  const bool has_fix = kernels.find_unbounded != nullptr && random.below(2) != 0;

  // The epilogue.
  const size_t padded = panels * kPanelWidth;
  GuardedBuffer<int32_t> bias(padded);
  GuardedBuffer<int32_t> zero_point(padded);
  GuardedBuffer<float> scale(padded);
  GuardedBuffer<float> float_bias(padded);
  for (size_t n = 0; n < padded; ++n) {
    bias[n] = static_cast<int32_t>(random.below(4001)) - 2000;
    zero_point[n] = static_cast<int32_t>(random.below(256)) - 128;
    scale[n] = random.below(2) ? 0.5f : static_cast<float>(1 + random.below(500)) / 32768.0f;
    float_bias[n] = static_cast<float>(random.below(1000)) / 7.0f;
  }
  std::vector<int32_t> true_row_sum(rows);
  Epilogue epilogue = {};
  epilogue.kind = static_cast<OutKind>(random.below(4));
  epilogue.bias = bias.data();
  epilogue.scale = scale.data();
  epilogue.float_bias = random.below(2) ? float_bias.data() : nullptr;
  const bool is_signed = epilogue.kind == OutKind::kS8;
  int32_t least = is_signed ? -128 : 0;
  int32_t most = is_signed ? 127 : 255;
  if (random.below(3) != 0) epilogue.zero_point = least + static_cast<int32_t>(random.below(256));
  if (random.below(4) == 0) {
    least += static_cast<int32_t>(random.below(100));
    most -= static_cast<int32_t>(random.below(100));
  }
  epilogue.lo = static_cast<float>(least - epilogue.zero_point);
  epilogue.hi = static_cast<float>(most - epilogue.zero_point);
  epilogue.scales_below_one = random.below(2) != 0;

  // The definition.
  const size_t ldc = cols + random.below(3);
  std::vector<uint32_t> accumulators(rows * cols);
  std::vector<int32_t> true_column_sum(padded);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < k; ++i) {
      const uint8_t canonical = a[r * stride_a + i] ^ flip_a;
      const int32_t left = kernels.a_signed ? static_cast<int8_t>(canonical) : canonical;
      true_row_sum[r] += left;
      for (size_t n = 0; n < cols; ++n) {
        const int32_t right = static_cast<int8_t>(b[i * stride_k + n * stride_n] ^ flip_b);
        accumulators[r * cols + n] += static_cast<uint32_t>(left * right);
      }
    }
    for (size_t n = 0; n < cols && has_fix; ++n) {
      const size_t p = n / kPanelWidth;
      for (size_t i = 0; i < fixes.steps[p].size(); ++i) {
        for (size_t j = 0; j < kernels.kr; ++j) {
          const size_t at = fixes.steps[p][i] * kernels.kr + j;
          if (at >= k) continue;
          const int32_t left = static_cast<uint8_t>(a[r * stride_a + at] ^ flip_a);
          const int32_t right = fixes.weight(kernels, p, i, n % kPanelWidth, j);
          accumulators[r * cols + n] += static_cast<uint32_t>(left * right);
        }
      }
    }
  }
  for (size_t i = 0; i < k; ++i) {
    for (size_t n = 0; n < cols; ++n)
      true_column_sum[n] += static_cast<int8_t>(b[i * stride_k + n * stride_n] ^ flip_b);
  }
  const std::string what = form.name + " " + tile.name + " rows " + std::to_string(rows) +
                           " cols " + std::to_string(cols) + " k " + std::to_string(k) + " kind " +
                           std::to_string(static_cast<int>(epilogue.kind)) + " segment " +
                           std::to_string(segment) + (has_fix ? " fixed" : "");
  Q8_CHECK(column_sum == true_column_sum, what);
  if (!in_place) Q8_CHECK(row_sum == true_row_sum, what);
  if (kernels.sum_a != nullptr) {
    std::vector<const uint8_t*> runs = source;
    for (size_t r = 0; r < rows && segment == 0; ++r)
      runs.push_back(in_place ? a.data() + r * stride_a : packed_a.data() + r * packed_lda);
    std::vector<int32_t> sums(rows);
    kernels.sum_a(rows, segment == 0 ? 1 : k / segment, segment == 0 ? k : segment, runs.data(),
                  sums.data());
    Q8_CHECK(sums == true_row_sum, what + " sums");
  }
  if (random.below(2) != 0) {
    epilogue.b_zero_point = zero_point.data();
    epilogue.row_sum = true_row_sum.data();
  }

  const size_t element = output_bytes(epilogue.kind);
  constexpr uint8_t kUntouched = 0xa5;
  GuardedBuffer<uint8_t> c(((rows - 1) * ldc + cols) * element, touch);
  std::fill(c.begin(), c.end(), kUntouched);
  TileA tile_a = {in_place ? a.data() : packed_a.data(), in_place ? stride_a : packed_lda, nullptr,
                  0, 0};
  tile_a.is_padded = !in_place;
  if (segment != 0) tile_a = {nullptr, 0, source.data(), k / segment, segment};
  if (kernels.enter != nullptr) kernels.enter(rows);
  tile.run(rows, cols, k, tile_a,
           {packed_b.data(), panel_stride, has_fix ? fixes.panels.data() : nullptr}, epilogue,
           c.data(), ldc);
  if (kernels.leave != nullptr) kernels.leave();
  size_t wrong = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t n = 0; n < ldc && (r * ldc + n) * element < c.size(); ++n) {
      uint8_t wanted[4] = {kUntouched, kUntouched, kUntouched, kUntouched};
      if (n < cols) {
        const uint32_t word = reference_output(epilogue, accumulators[r * cols + n], r, n);
        std::memcpy(wanted, &word, sizeof(wanted));
      }
      if (std::memcmp(wanted, c.data() + (r * ldc + n) * element, element) != 0) ++wrong;
    }
  }
  Q8_CHECK(wrong == 0, what + ": " + std::to_string(wrong) + " outputs differ");
}

}  // namespace

Q8_TEST(gemm_tiles_match_the_definition) {
  const size_t depths[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 21, 31, 33, 64, 67, 130};
  for (const Form& form : runnable_forms()) {
    Random random(7);
    for (size_t t = 0; t < form.kernels->tile_count; ++t) {
      const GemmTile& tile = form.kernels->tiles[t];
      const size_t most = tile.takes_blocks ? 2 * tile.mr + 1 : tile.mr;
      for (size_t rows = 1; rows <= most; ++rows) {
        for (const size_t k : depths) {
          check_tile(form, tile, rows, tile.nr, k, random);
          check_tile(form, tile, rows, 1 + random.below(tile.nr), k, random);
          check_tile(form, tile, rows, 1 + random.below(3 * tile.nr), k, random);
        }
      }
    }
  }
}

Q8_TEST(peak_loops_return_their_work) {
  for (const Form& form : runnable_forms()) Q8_CHECK(form.kernels->peak_loop(3) > 0, form.name);
}

Q8_TEST(unbounded_pairs_are_found) {
  constexpr size_t kRow = 64;
  for (const Form& form : runnable_forms()) {
    const FindUnboundedFn find = form.kernels->find_unbounded;
    if (find == nullptr) continue;
    size_t wrong = 0;
    for (int first = -128; first < 128; ++first) {
      for (int second = -128; second < 128; ++second) {
        // A pair anywhere in the second of three rows.
        int8_t panel[3 * kRow] = {};
        const size_t at = kRow + static_cast<size_t>(first + 256 * (second + 128) + 128) % 32 * 2;
        panel[at] = static_cast<int8_t>(first);
        panel[at + 1] = static_cast<int8_t>(second);
        uint32_t found[3] = {};
        const size_t count = find(3, panel, found);
        if (count != (is_bounded(first, second) ? 0u : 1u)) ++wrong;
        if (count == 1 && found[0] != 1) ++wrong;
        if (find(3, panel, nullptr) != count) ++wrong;
      }
    }
    Q8_CHECK(wrong == 0, form.name + ": " + std::to_string(wrong) + " pairs");
  }
}

}  // namespace q8::test

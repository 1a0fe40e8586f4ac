// SPDX-License-Identifier: MIT
/// run_gemm on every level of this CPU: blocking, threads, indirect rows, cancellation; and the
/// pure choices behind it.
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "gemm/gemm.h"
#include "gemm/tile_choice.h"

namespace q8::test {
namespace {

struct Problem {
  size_t m;
  size_t n;
  size_t k;
  std::vector<uint8_t> a;
  std::vector<uint8_t> b;
  std::vector<int32_t> zero_point;

  Problem(size_t m_size, size_t n_size, size_t k_size, Random& random)
      : m(m_size), n(n_size), k(k_size), a(m * k), b(k * n), zero_point(n) {
    for (uint8_t& code : a) code = static_cast<uint8_t>(random.below(256));
    for (uint8_t& code : b) code = static_cast<uint8_t>(random.below(256));
    for (int32_t& code : zero_point) code = static_cast<int32_t>(random.below(256));
  }

  /// u8 x u8 with za = 9 and a zero point per column.
  std::vector<int32_t> expected() const {
    std::vector<uint32_t> c(m * n);
    for (size_t i = 0; i < m; ++i) {
      for (size_t x = 0; x < k; ++x) {
        const int32_t left = a[i * k + x] - 9;
        for (size_t j = 0; j < n; ++j)
          c[i * n + j] += static_cast<uint32_t>(left * (b[x * n + j] - zero_point[j]));
      }
    }
    return std::vector<int32_t>(c.begin(), c.end());
  }
};

std::vector<int32_t> multiply(const KernelTable& table, const Problem& p, RowSource source,
                              size_t threads) {
  PackedB packed;
  const Status status =
      PackedB::pack(table, p.b.data(), /*b_signed=*/false, p.k, p.n, p.n, /*transposed=*/false,
                    p.zero_point.data(), p.n, &packed, threads);
  Q8_CHECK(status.ok(), status.message());
  std::vector<int32_t> bias(packed.padded_n());
  fold_bias(packed, 9, /*a_signed=*/false, nullptr, bias.data());
  std::vector<int32_t> c(p.m * p.n, -1);
  GemmCall call;
  call.m = p.m;
  call.a = source;
  call.b = &packed;
  call.epilogue = {};
  call.epilogue.kind = OutKind::kS32;
  call.epilogue.bias = bias.data();
  call.c = c.data();
  call.ldc = p.n;
  call.threads = threads;
  Q8_CHECK(run_gemm(call).ok(), "run_gemm");
  return c;
}

}  // namespace

Q8_TEST(driver_matches_the_definition_for_rows_in_place_and_indirect) {
  Random random(21);
  for (const IsaLevel& level : compiled_levels()) {
    if (find_supported_table(level.name) == nullptr) {
      skip(level.name, "this CPU lacks it");
      continue;
    }
    const size_t sizes[][3] = {{1, 1, 1},     {7, 130, 36}, {100, 70, 45},   {260, 33, 600},
                               {3, 400, 900}, {5, 6, 0},    {129, 64, 4096}, {2300, 20, 72}};
    for (const auto& size : sizes) {
      const Problem p(size[0], size[1], size[2], random);
      const std::vector<int32_t> expected = p.expected();
      RowSource plain;
      plain.data = p.a.data();
      plain.row_bytes = p.k;
      const std::string what = std::string(level.name) + " " + std::to_string(p.m) + "x" +
                               std::to_string(p.n) + "x" + std::to_string(p.k);
      Q8_CHECK(multiply(*level.table, p, plain, 1) == expected, what);
      Q8_CHECK(multiply(*level.table, p, plain, 0) == expected, what + " on all threads");
      if (p.k % 3 != 0 || p.k == 0) continue;
      std::vector<const uint8_t*> table;
      for (size_t s = 0; s < p.m * 3; ++s) table.push_back(p.a.data() + s * (p.k / 3));
      RowSource indirect;
      indirect.table = table.data();
      indirect.segments = 3;
      indirect.segment_bytes = p.k / 3;
      Q8_CHECK(multiply(*level.table, p, indirect, 2) == expected, what + " through a table");
    }
  }
}

Q8_TEST(driver_packs_rows_that_overlap) {
  Random random(22);
  for (const IsaLevel& level : compiled_levels()) {
    if (find_supported_table(level.name) == nullptr) continue;
    // Windows of 3 image rows and 5 pixels of 6 channels, two pixels apart.
    constexpr size_t kSegments = 3;
    constexpr size_t kRun = 30;
    constexpr size_t kStep = 12;
    constexpr size_t kImageRow = 700;
    constexpr size_t kLine = 64;
    Problem p(50, 37, kSegments * kRun, random);
    std::vector<uint8_t> image(kSegments * kImageRow + kLine);
    for (uint8_t& code : image) code = static_cast<uint8_t>(random.below(256));
    for (size_t r = 0; r < p.m; ++r) {
      for (size_t i = 0; i < p.k; ++i)
        p.a[r * p.k + i] = image[i / kRun * kImageRow + r * kStep + i % kRun];
    }
    PackedB packed;
    Q8_CHECK(
        PackedB::pack(*level.table, p.b.data(), false, p.k, p.n, p.n, false, nullptr, 0, &packed)
            .ok(),
        level.name);
    if (packed.kernels().pack_runs == nullptr) continue;
    RowSource overlapping;
    overlapping.data = image.data();
    overlapping.row_bytes = kStep;
    overlapping.segments = kSegments;
    overlapping.segment_bytes = kRun;
    overlapping.run_stride = kImageRow;
    for (const size_t threads : {1, 2}) {
      Q8_CHECK(multiply(*level.table, p, overlapping, threads) == p.expected(), level.name);
    }
  }
}

namespace {

/// k x n signed weights, of which every `spacing`-th pair, if there are so many, is the worst there
/// is.
std::vector<uint8_t> weights_with_violators(size_t k, size_t n, size_t spacing, Random& random) {
  std::vector<uint8_t> b(k * n);
  for (uint8_t& code : b) code = static_cast<uint8_t>(static_cast<int8_t>(random.below(256)) / 2);
  for (size_t pair = spacing / 2; pair < k / 2 * n; pair += spacing) {
    const size_t at = pair / n * 2 * n + pair % n;
    b[at] = b[at + n] = random.below(2) ? 0x80 : 0x7f;
  }
  return b;
}

}  // namespace

Q8_TEST(driver_splits_weights_that_would_saturate) {
  Random random(11);
  for (const IsaLevel& level : compiled_levels()) {
    if (find_supported_table(level.name) == nullptr || level.table->gemm_bounded == nullptr)
      continue;
    const size_t sizes[][3] = {{7, 40, 37}, {1, 70, 130}, {30, 16, 64}, {13, 100, 258}};
    for (const auto& size : sizes) {
      const size_t m = size[0], n = size[1], k = size[2];
      for (const size_t spacing : {k * n, size_t{700}, size_t{1}}) {
        const std::vector<uint8_t> b = weights_with_violators(k, n, spacing, random);
        // All of A at its largest makes every pair that can saturate do so.
        const std::vector<uint8_t> a(m * k, 255);
        std::vector<int32_t> expected(m * n);
        for (size_t i = 0; i < m * n; ++i) {
          for (size_t x = 0; x < k; ++x) {
            expected[i] += 255 * static_cast<int8_t>(b[x * n + i % n]);
          }
        }
        PackedB packed;
        Q8_CHECK(
            PackedB::pack(*level.table, b.data(), true, k, n, n, false, nullptr, 0, &packed).ok(),
            "pack");
        const bool is_fast = &packed.kernels() == level.table->gemm_bounded;
        const std::string what = std::string(level.name) + " " + std::to_string(m) + "x" +
                                 std::to_string(n) + "x" + std::to_string(k) + " every " +
                                 std::to_string(spacing);
        Q8_CHECK(is_fast == (spacing != 1), what);
        Q8_CHECK((packed.fix_share() > 0) == (spacing == 700), what);
        const std::vector<int32_t> bias(packed.padded_n());
        std::vector<int32_t> c(m * n);
        GemmCall call;
        call.m = m;
        call.a.data = a.data();
        call.a.row_bytes = k;
        call.b = &packed;
        call.epilogue = {};
        call.epilogue.bias = bias.data();
        call.c = c.data();
        call.ldc = n;
        Q8_CHECK(run_gemm(call).ok() && c == expected, what);
        if (k % 8 != 2) continue;
        // The same rows as two segments; K ends inside a step, so that they are packed.
        std::vector<const uint8_t*> table;
        for (size_t s = 0; s < m * 2; ++s) table.push_back(a.data() + s * (k / 2));
        call.a = {};
        call.a.table = table.data();
        call.a.segments = 2;
        call.a.segment_bytes = k / 2;
        Q8_CHECK(run_gemm(call).ok() && c == expected, what + " through a table");
      }
    }
  }
}

Q8_TEST(driver_stops_when_cancelled) {
  Random random(3);
  const Problem p(64, 64, 64, random);
  PackedB packed;
  Q8_CHECK(
      PackedB::pack(selected_table(), p.b.data(), true, p.k, p.n, p.n, false, nullptr, 0, &packed)
          .ok(),
      "pack");
  std::vector<int32_t> bias(packed.padded_n());
  std::vector<int32_t> c(p.m * p.n);
  const int32_t cancel = 1;
  GemmCall call;
  call.m = p.m;
  call.a.data = p.a.data();
  call.a.row_bytes = p.k;
  call.b = &packed;
  call.epilogue = {};
  call.epilogue.bias = bias.data();
  call.c = c.data();
  call.ldc = p.n;
  call.cancel = &cancel;
  Q8_CHECK(run_gemm(call).code() == Code::kAborted, "aborted");
}

Q8_TEST(packing_refuses_what_cannot_fit) {
  PackedB packed;
  const Status status = PackedB::pack(selected_table(), nullptr, true, SIZE_MAX / 8, 100, 100,
                                      false, nullptr, 0, &packed);
  Q8_CHECK(status.code() == Code::kOutOfMemory, "out of memory");
}

Q8_TEST(tiles_split_rows_evenly) {
  const GemmTileFn none = nullptr;
  const GemmTile tiles[] = {{"14x32", 14, 32, none, false},
                            {"8x48", 8, 48, none, true},
                            {"4x64", 4, 64, none, true},
                            {"1x128", 1, 128, none, true}};
  GemmKernels kernels = {};
  kernels.tiles = tiles;
  kernels.tile_count = 4;
  const auto name = [&](size_t m, size_t n) {
    return std::string(choose_tile(kernels, m, n).name);
  };
  Q8_CHECK(name(1, 1024) == "1x128", name(1, 1024));
  Q8_CHECK(name(4, 1024) == "4x64", name(4, 1024));
  Q8_CHECK(name(8, 1024) == "8x48", name(8, 1024));
  Q8_CHECK(name(16, 1024) == "8x48", name(16, 1024));
  Q8_CHECK(name(1400, 1024) == "14x32", name(1400, 1024));
  Q8_CHECK(std::string(choose_tile(kernels, 1400, 1024, /*segments=*/true).name) == "8x48",
           "segments");
}

Q8_TEST(grids_share_the_work) {
  // A wide result of few strips is cut along N, a tall one along M.
  const TaskGrid wide = choose_grid(1, 64, 1000, 1000, 4, 4);
  Q8_CHECK(wide.rows == 1 && wide.columns == 4, "wide");
  const TaskGrid tall = choose_grid(64, 1, 1000, 1000, 4, 4);
  Q8_CHECK(tall.rows == 4 && tall.columns == 1, "tall");
  // 128 x 768 x 768 on 4 threads: four column blocks read less than 2 x 2.
  const TaskGrid bert = choose_grid(12, 24, 11 * 768, 32 * 768, 4, 4);
  Q8_CHECK(bert.rows * bert.columns == 4, "four tasks");
}

}  // namespace q8::test

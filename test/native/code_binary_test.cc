// SPDX-License-Identifier: MIT
/// CodeBinary against the definition, for every pair of codes.
#include "ops/code_binary.h"

#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "levels.h"
#include "reference.h"

namespace q8::test {
namespace {

constexpr size_t kPairs = 65536;

/// Codes that differ over all pairs, and whether a fused form was found.
size_t count_differences(const VectorKernels& kernels, BinaryKind kind, const CodeParams& a,
                         const CodeParams& b, const QuantizeParams& y, bool* is_fused) {
  std::vector<uint8_t> codes_a(kPairs);
  std::vector<uint8_t> codes_b(kPairs);
  for (size_t i = 0; i < kPairs; ++i) {
    codes_a[i] = static_cast<uint8_t>(i >> 8);
    codes_b[i] = static_cast<uint8_t>(i);
  }
  std::vector<uint8_t> wanted(kPairs);
  std::vector<uint8_t> made(kPairs);
  kernels.qbinary(kind, kPairs, codes_a.data(), 1, a, codes_b.data(), 1, b, y, wanted.data());
  const CodeBinary binary(kernels, kind, a, b, y, /*elements=*/SIZE_MAX);
  *is_fused = binary.is_fused();
  // Not in whole vectors.
  const size_t first = 4321;
  binary.run(first, codes_a.data(), 1, codes_b.data(), 1, made.data());
  binary.run(kPairs - first, codes_a.data() + first, 1, codes_b.data() + first, 1,
             made.data() + first);
  size_t differences = 0;
  for (size_t i = 0; i < kPairs; ++i) differences += made[i] != wanted[i];
  return differences;
}

}  // namespace

Q8_TEST(code_binary_equals_the_definition) {
  for (const Level& level : runnable_levels()) {
    if (level.vector == nullptr) continue;
    Random random(11);
    size_t tried = 0;
    size_t fused = 0;
    for (const BinaryKind kind : {BinaryKind::kAdd, BinaryKind::kSub, BinaryKind::kMul}) {
      for (size_t round = 0; round < 12; ++round) {
        const bool is_signed = random.below(2) != 0;
        const auto scale = [&] {
          return 0.01f * static_cast<float>(1 + random.below(100000)) / 30000.0f;
        };
        const auto zero_point = [&] {
          return random.below(3) == 0 ? 0 : static_cast<int32_t>(random.below(256));
        };
        const uint8_t flip = is_signed ? 0x80 : 0;
        const CodeParams a = {scale(), zero_point(), flip};
        // Subtraction is also made of a negative scale.
        const CodeParams b = {random.below(5) == 0 ? -scale() : scale(), zero_point(), flip};
        const int32_t least = is_signed ? -128 : 0;
        const int32_t zp = least + zero_point();
        const float product = kind == BinaryKind::kMul ? 100 * a.scale * b.scale : 0;
        const QuantizeParams y = {product + scale(), static_cast<float>(least - zp),
                                  static_cast<float>(least + 255 - zp), zp};
        bool is_fused = false;
        const size_t differences = count_differences(*level.vector, kind, a, b, y, &is_fused);
        Q8_CHECK(differences == 0, level.name + " round " + std::to_string(round) + ": " +
                                       std::to_string(differences) + " pairs");
        ++tried;
        fused += is_fused;
      }
    }
    // What makes networks faster: nearly all ordinary scales have factors.
    if (level.vector->qbinary_fused != nullptr) {
      Q8_CHECK(fused * 10 >= tried * 8, level.name + ": " + std::to_string(fused) + " of " +
                                            std::to_string(tried) + " fused");
    }
  }
}

Q8_TEST(code_binary_keeps_to_the_definition_where_no_factor_fits) {
  for (const Level& level : runnable_levels()) {
    if (level.vector == nullptr) continue;
    bool is_fused = true;
    // Every other sum is a tie.
    const CodeParams half = {0.1f, 3, 0};
    const size_t ties = count_differences(*level.vector, BinaryKind::kAdd, half, half,
                                          {0.2f, -7, 248, 7}, &is_fused);
    Q8_CHECK(ties == 0, level.name + " ties");
    // Sums beyond int32.
    const size_t huge = count_differences(*level.vector, BinaryKind::kAdd, {1e30f, 0, 0},
                                          {1.0f, 0, 0}, {1e-3f, -7, 248, 7}, &is_fused);
    Q8_CHECK(huge == 0 && !is_fused, level.name + " huge");
  }
}

}  // namespace q8::test

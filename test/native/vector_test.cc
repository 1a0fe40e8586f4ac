// SPDX-License-Identifier: MIT
/// Vector kernels on codes, of every instruction set that this CPU has or that is emulated, against
/// those of scalar, with guard pages behind operands and output.
#include <cmath>
#include <string>

#include "check.h"
#include "cpu/dispatch.h"
#include "guarded_buffer.h"
#include "kernels/kernel_table.h"
#include "levels.h"

namespace q8::test {
namespace {

/// From the range of trained networks, with a few that overflow or underflow.
float scale(Random& random) {
  const int exponent = random.below(8) == 0 ? static_cast<int>(random.below(240)) - 120
                                            : -static_cast<int>(random.below(12));
  return std::ldexp(1.0f + static_cast<float>(random.below(1 << 20)) / (1 << 20), exponent);
}

CodeParams operand(Random& random) {
  return {scale(random), static_cast<int32_t>(random.below(256)),
          static_cast<uint8_t>(random.below(2) * 0x80)};
}

QuantizeParams result(Random& random) {
  const int32_t least = random.below(2) ? 0 : -128;
  const int32_t zero_point = least + static_cast<int32_t>(random.below(256));
  return {scale(random), static_cast<float>(least - zero_point),
          static_cast<float>(least + 255 - zero_point), zero_point};
}

}  // namespace

Q8_TEST(qbinary_matches_scalar) {
  const VectorKernels& scalar = *find_supported_table("scalar")->vector;
  for (const Level& level : runnable_levels()) {
    if (level.vector == nullptr || level.vector == &scalar) continue;
    Random random(11);
    size_t wrong = 0;
    for (int round = 0; round < 4000; ++round) {
      const size_t n = 1 + random.below(300);
      GuardedBuffer<uint8_t> a(n);
      GuardedBuffer<uint8_t> b(n);
      GuardedBuffer<uint8_t> y(n);
      GuardedBuffer<uint8_t> wanted(n);
      for (uint8_t& code : a) code = static_cast<uint8_t>(random.below(256));
      for (uint8_t& code : b) code = static_cast<uint8_t>(random.below(256));
      const BinaryKind kinds[] = {BinaryKind::kAdd, BinaryKind::kSub, BinaryKind::kMul,
                                  BinaryKind::kDiv};
      const BinaryKind kind = kinds[random.below(4)];
      const ptrdiff_t a_step = random.below(4) != 0;
      const ptrdiff_t b_step = random.below(4) != 0;
      const CodeParams pa = operand(random);
      const CodeParams pb = operand(random);
      const QuantizeParams py = result(random);
      scalar.qbinary(kind, n, a.data(), a_step, pa, b.data(), b_step, pb, py, wanted.data());
      level.vector->qbinary(kind, n, a.data(), a_step, pa, b.data(), b_step, pb, py, y.data());
      for (size_t i = 0; i < n; ++i) wrong += y.data()[i] != wanted.data()[i];
    }
    Q8_CHECK(wrong == 0, level.name + ": " + std::to_string(wrong) + " codes differ");
  }
}

Q8_TEST(lut_looks_up) {
  const VectorKernels& scalar = *find_supported_table("scalar")->vector;
  for (const Level& level : runnable_levels()) {
    if (level.vector == nullptr || level.vector == &scalar) continue;
    Random random(12);
    size_t wrong = 0;
    for (int round = 0; round < 400; ++round) {
      const size_t n = 1 + random.below(1000);
      GuardedBuffer<uint8_t> x(n);
      GuardedBuffer<uint8_t> y(n);
      GuardedBuffer<uint8_t> table(256);
      for (uint8_t& code : x) code = static_cast<uint8_t>(random.below(256));
      for (uint8_t& code : table) code = static_cast<uint8_t>(random.below(256));
      level.vector->lut(n, x.data(), table.data(), y.data());
      for (size_t i = 0; i < n; ++i) wrong += y.data()[i] != table.data()[x.data()[i]];
    }
    Q8_CHECK(wrong == 0, level.name + ": " + std::to_string(wrong) + " codes differ");
  }
}

Q8_TEST(sum_rows_sums) {
  for (const Level& level : runnable_levels()) {
    if (level.vector == nullptr) continue;
    Random random(13);
    size_t wrong = 0;
    for (int round = 0; round < 60; ++round) {
      const size_t rows = 1 + random.below(round % 4 == 0 ? 1100 : 9);
      const size_t channels = 1 + random.below(150);
      const size_t stride = channels + random.below(3);
      const uint8_t flip = round % 2 == 0 ? 0 : 0x80;
      // Now and then the largest codes, which are the first to overflow.
      const bool is_worst = round % 8 == 0;
      GuardedBuffer<uint8_t> x((rows - 1) * stride + channels);
      for (uint8_t& code : x)
        code = is_worst ? 0xff ^ flip : static_cast<uint8_t>(random.below(256));
      GuardedBuffer<int32_t> sum(channels);
      for (int32_t& value : sum) value = 1000;
      level.vector->sum_rows(rows, channels, stride, x.data(), flip, sum.data());
      for (size_t c = 0; c < channels; ++c) {
        int32_t wanted = 1000;
        for (size_t r = 0; r < rows; ++r) wanted += x.data()[r * stride + c] ^ flip;
        wrong += sum.data()[c] != wanted;
      }
    }
    Q8_CHECK(wrong == 0, level.name + ": " + std::to_string(wrong) + " sums differ");
  }
}

Q8_TEST(transpose_8_transposes) {
  for (const Level& level : runnable_levels()) {
    if (level.vector == nullptr) continue;
    Random random(14);
    size_t wrong = 0;
    for (int round = 0; round < 300; ++round) {
      const size_t rows = 1 + random.below(70);
      const size_t cols = 1 + random.below(70);
      const size_t x_stride = cols + random.below(3);
      const size_t y_stride = rows + random.below(3);
      GuardedBuffer<uint8_t> x((rows - 1) * x_stride + cols);
      GuardedBuffer<uint8_t> y((cols - 1) * y_stride + rows);
      for (uint8_t& code : x) code = static_cast<uint8_t>(random.below(256));
      for (uint8_t& code : y) code = 0x5a;
      level.vector->transpose_8(rows, cols, x.data(), x_stride, y.data(), y_stride);
      for (size_t i = 0; i < y.size(); ++i) {
        const size_t r = i % y_stride;
        const uint8_t wanted = r < rows ? x.data()[r * x_stride + i / y_stride] : 0x5a;
        wrong += y.data()[i] != wanted;
      }
    }
    Q8_CHECK(wrong == 0, level.name + ": " + std::to_string(wrong) + " bytes differ");
  }
}

}  // namespace q8::test

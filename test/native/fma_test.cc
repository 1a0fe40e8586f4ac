// SPDX-License-Identifier: MIT
/// The fused multiply-add of CPUs without the instruction: this file is compiled without the flags
/// of any room.
#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"
#include "kernels/common/fma-inl.h"
#include "reference.h"

namespace q8::test {
namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// A float with a mantissa of few or many bits, and an exponent within `spread` of that of 1.
float number(Random& random, int spread) {
  const uint32_t mantissa = random.below(1 << 23) & ~((1u << random.below(24)) - 1);
  const uint32_t exponent =
      static_cast<uint32_t>(127 - spread) + random.below(static_cast<uint32_t>(2 * spread));
  const uint32_t bits = random.below(2) << 31 | exponent << 23 | mantissa;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Rounded by way of long double, whose 64 bits hold product and sum when exponents are close.
float by_long_double(float a, float b, float c) {
  return static_cast<float>(static_cast<long double>(a) * b + c);
}

}  // namespace

Q8_TEST(fused_multiply_add_rounds_once) {
  // 1 + 2^-23 + 2^-24 + 2^-60: in double just the tie, which would go to even.
  const float next = std::nextafter(1.0f, 2.0f);
  const float tiny = std::ldexp(1.0f, -30);
  Q8_CHECK(fused_multiply_add(tiny, tiny, 0) == std::ldexp(1.0f, -60), "2^-60");
  const float sum = fused_multiply_add(next, next, -next);
  Q8_CHECK(bits_of(sum) == bits_of(std::ldexp(1.0f, -23) + std::ldexp(1.0f, -46)),
           "(1 + e)^2 - (1 + e)");
  // Beyond 2^24 odd numbers are ties; 2^-40 decides, which double has no room for.
  const float odd = 16777218.0f;
  const float up = 1.0f + std::ldexp(1.0f, -20);
  const float down = 1.0f - std::ldexp(1.0f, -20);
  Q8_CHECK(fused_multiply_add(up, down, odd) == odd, "just below a tie");
  Q8_CHECK(fused_multiply_add(-up, down, odd) == odd, "just above a tie");
  Q8_CHECK(fused_multiply_add(-up, down, -odd) == -odd, "just below a tie, negative");
  const float infinity = std::numeric_limits<float>::infinity();
  Q8_CHECK(fused_multiply_add(infinity, 1, 1) == infinity, "infinity");
  Q8_CHECK(std::isnan(fused_multiply_add(infinity, 0, 1)), "infinity times 0");
  Q8_CHECK(std::isnan(fused_multiply_add(infinity, 1, -infinity)), "infinity minus infinity");
  Q8_CHECK(fused_multiply_add(3e38f, 3e38f, 0) == infinity, "overflow");
  if (std::numeric_limits<long double>::digits < 64) {
    skip("comparison with long double", "it is no wider than double here");
    return;
  }
  Random random(11);
  size_t wrong = 0;
  for (size_t i = 0; i < 2000000; ++i) {
    // Within 2^6 of each other everything is exact in 64 bits; a factor of 2^24 makes ties.
    const float a = number(random, 3);
    const float b = number(random, 3);
    const float c = number(random, 3) * (random.below(2) ? 1.0f : 8388608.0f);
    const long double exact = static_cast<long double>(a) * b;
    // Only where the long double sum is exact is it a judge.
    const long double total = exact + c;
    if (total - exact != c || total - c != exact) continue;
    if (bits_of(fused_multiply_add(a, b, c)) != bits_of(by_long_double(a, b, c))) ++wrong;
  }
  Q8_CHECK(wrong == 0, std::to_string(wrong) + " results differ");
}

}  // namespace q8::test

// SPDX-License-Identifier: MIT
/// The smallest test runner that does: a list of named functions, a check that reports and goes on,
/// skips with a reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace q8::test {

struct Test {
  const char* name;
  void (*run)();
};

/// Registers a test at start-up.
struct Registration {
  Registration(const char* name, void (*run)());
};

/// Records a failure of the running test; prints the first few.
void fail(const char* file, int line, const std::string& message);

/// Says that something could not be tested here and why. It does not count as passed.
void skip(const std::string& what, const std::string& reason);

/// xorshift64*: the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  /// 0 <= value < limit.
  uint32_t below(uint32_t limit) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1dull) >> 32) % limit;
  }

 private:
  uint64_t state_;
};

}  // namespace q8::test

#define Q8_TEST(name)                                               \
  static void name();                                               \
  static const q8::test::Registration register_##name(#name, name); \
  static void name()

#define Q8_CHECK(condition, message)                                                  \
  do {                                                                                \
    if (!(condition))                                                                 \
      q8::test::fail(__FILE__, __LINE__, std::string(#condition) + ": " + (message)); \
  } while (false)

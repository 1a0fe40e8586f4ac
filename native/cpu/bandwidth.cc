// SPDX-License-Identifier: MIT
#include "cpu/bandwidth.h"

#include <chrono>
#include <cstdint>
#include <cstring>

#include "core/aligned_buffer.h"

namespace q8 {
namespace {

constexpr size_t kBlockWords = 16;
constexpr size_t kBlockBytes = kBlockWords * sizeof(uint64_t);

/// Exclusive or of all words, in as many chains as a block has: no chain waits for another. `count`
/// is a multiple of kBlockWords.
uint64_t read_all(const uint64_t* words, size_t count) {
  uint64_t chain[kBlockWords] = {};
  for (size_t i = 0; i < count; i += kBlockWords) {
    for (size_t w = 0; w < kBlockWords; ++w) chain[w] ^= words[i + w];
  }
  uint64_t all = 0;
  for (const uint64_t word : chain) all ^= word;
  return all;
}

}  // namespace

double measure_read_bandwidth(size_t bytes) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kBudget(50);
  /// Read between two looks at the clock.
  constexpr size_t kChunkBytes = 1 << 22;
  const size_t size = (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  AlignedBuffer buffer(size);
  if (buffer.data() == nullptr || size == 0) return 0;
  std::memset(buffer.data(), 1, size);
  const uint64_t* words = reinterpret_cast<const uint64_t*>(buffer.data());
  const size_t times = size < kChunkBytes ? kChunkBytes / size : 1;
  [[maybe_unused]] static volatile uint64_t sink;
  double best = 0;
  for (const Clock::time_point start = Clock::now(); Clock::now() - start < kBudget;) {
    const Clock::time_point before = Clock::now();
    for (size_t i = 0; i < times; ++i) sink = read_all(words, size / sizeof(uint64_t));
    const std::chrono::duration<double, std::nano> elapsed = Clock::now() - before;
    const double rate = static_cast<double>(size * times) / elapsed.count();
    if (rate > best) best = rate;
  }
  return best;
}

}  // namespace q8

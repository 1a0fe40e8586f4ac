// SPDX-License-Identifier: MIT
/// Reading of A, one 32-bit word at a time: a word is what a multiply-add takes from a row (four u8
/// or two s16) and broadcasts to all lanes.
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace q8 {
namespace Q8_TARGET {
namespace {

inline int32_t load_word(const void* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}

/// The last k % 4 bytes of a row of k bytes, zero-extended; nothing outside the row is read.
inline int32_t load_tail(const uint8_t* row, size_t k) {
  const size_t tail = k % 4;
  uint32_t word = 0;
  if (k > 4) {
    std::memcpy(&word, row + k - 4, sizeof(word));
    word >>= 8 * (4 - tail);
  } else {
    for (size_t i = 0; i < tail; ++i) word |= static_cast<uint32_t>(row[i]) << (8 * i);
  }
  return static_cast<int32_t>(word);
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

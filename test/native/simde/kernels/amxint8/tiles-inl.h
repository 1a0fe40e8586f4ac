// SPDX-License-Identifier: MIT
/// Stands in for native/kernels/amxint8/tiles-inl.h in emulated builds: the tile registers as plain
/// memory of the thread. What the configuration does not allow ends the program, as it does on the
/// CPU.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

struct TileConfig {
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

struct TileRegisters {
  bool is_configured = false;
  TileConfig config;
  uint8_t data[8][16][64];
};
thread_local TileRegisters registers;

inline void load_config(const TileConfig& config) {
  registers.is_configured = true;
  registers.config = config;
  std::memset(registers.data, 0, sizeof(registers.data));
}

inline void release_tiles() { registers.is_configured = false; }

inline void fence_writes() {}

inline size_t rows_of(size_t tile) {
  const size_t rows = registers.config.rows[tile];
  if (!registers.is_configured || rows == 0 || rows > 16) std::abort();
  return rows;
}

inline size_t row_bytes_of(size_t tile) {
  const size_t bytes = registers.config.row_bytes[tile];
  if (bytes == 0 || bytes > 64 || bytes % 4 != 0) std::abort();
  return bytes;
}

template <size_t kTile>
void zero_tile() {
  rows_of(kTile);
  std::memset(registers.data[kTile], 0, sizeof(registers.data[kTile]));
}

template <size_t kTile>
void load_tile(const void* from, size_t stride) {
  std::memset(registers.data[kTile], 0, sizeof(registers.data[kTile]));
  for (size_t r = 0; r < rows_of(kTile); ++r) {
    std::memcpy(registers.data[kTile][r], static_cast<const uint8_t*>(from) + r * stride,
                row_bytes_of(kTile));
  }
}

template <size_t kTile>
void stream_tile(const void* from, size_t stride) {
  load_tile<kTile>(from, stride);
}

template <size_t kTile>
void store_tile_register(void* to, size_t stride) {
  for (size_t r = 0; r < rows_of(kTile); ++r) {
    std::memcpy(static_cast<uint8_t*>(to) + r * stride, registers.data[kTile][r],
                row_bytes_of(kTile));
  }
}

template <bool kSignedA, size_t kAcc, size_t kA, size_t kB>
void multiply_tiles() {
  if (rows_of(kAcc) != rows_of(kA) || row_bytes_of(kA) != 4 * rows_of(kB) ||
      row_bytes_of(kAcc) != row_bytes_of(kB)) {
    std::abort();
  }
  for (size_t r = 0; r < rows_of(kA); ++r) {
    for (size_t n = 0; n < row_bytes_of(kAcc) / 4; ++n) {
      uint32_t sum;
      std::memcpy(&sum, &registers.data[kAcc][r][4 * n], sizeof(sum));
      for (size_t i = 0; i < row_bytes_of(kA); ++i) {
        const uint8_t code = registers.data[kA][r][i];
        const int32_t a = kSignedA ? static_cast<int8_t>(code) : code;
        const int32_t b = static_cast<int8_t>(registers.data[kB][i / 4][4 * n + i % 4]);
        sum += static_cast<uint32_t>(a * b);
      }
      std::memcpy(&registers.data[kAcc][r][4 * n], &sum, sizeof(sum));
    }
  }
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

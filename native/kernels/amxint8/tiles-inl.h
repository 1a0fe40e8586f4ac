// SPDX-License-Identifier: MIT
/// The tile registers of AMX and the instructions on them. A header of its own so that emulated
/// builds can put another in its place (test/native/simde).
///
/// The intrinsics are written out: GCC's are macros, which take no template arguments. None of them
/// tells the compiler what it reads from memory; fence_writes() comes between plain stores and the
/// loads of tiles that have to see them.
#include <cstddef>
#include <cstdint>

#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// The operand of LDTILECFG: rows of each register and bytes of a row.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

/// Takes about 180 cycles and zeroes every register.
inline void load_config(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

/// Without it, every context switch of the thread would save 8 KiB.
inline void release_tiles() { __asm__ volatile("tilerelease"); }

inline void fence_writes() { __asm__ volatile("" ::: "memory"); }

template <size_t kTile>
Q8_ALWAYS_INLINE void zero_tile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

/// Rows `stride` bytes apart; those that do not begin at a line of the cache cost six times as
/// much.
template <size_t kTile>
Q8_ALWAYS_INLINE void load_tile(const void* from, size_t stride) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(stride));
}

/// The same for what will be evicted before it is needed again, without a copy in the first-level
/// cache: with B from the second, a product of 2x2 tiles takes 20 cycles instead of 26.
template <size_t kTile>
Q8_ALWAYS_INLINE void stream_tile(const void* from, size_t stride) {
  __asm__ volatile("tileloaddt1 (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(stride));
}

template <size_t kTile>
Q8_ALWAYS_INLINE void store_tile_register(void* to, size_t stride) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to), "r"(stride) : "memory");
}

/// acc += A * B: 16 x 16 sums of 64 products each, of s8 B and of u8 or s8 A.
template <bool kSignedA, size_t kAcc, size_t kA, size_t kB>
Q8_ALWAYS_INLINE void multiply_tiles() {
  if constexpr (kSignedA) {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kAcc), "i"(kA), "i"(kB));
  } else {
    __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kAcc), "i"(kA), "i"(kB));
  }
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

// SPDX-License-Identifier: MIT
/// s8 x s8 -> s32 GEMM for ARMv8.0, which has no dot product.
///
/// Packed B is K2N16. SMULL multiplies 8 bytes to 8 exact 16-bit products, SADALP adds neighbours
/// (the two k of a column) to 32-bit accumulators. SMLAL in between would save instructions, but
/// two products of -128 do not fit 16 bits.
///
/// Per K2 step of the 4x16 tile: 2 loads of B, 4 DUP of a pair of A, 16 SMULL, 16 SADALP. On a
/// Cortex-A72, where one pipe multiplies and the other accumulates, the loop is bound by these.
/// Registers: 16 accumulators + 4 A + 2 B + 1 pair + products = 25 and more of 32.
#define Q8_TARGET neon
#include <arm_neon.h>

#include "kernels/common/gemm-pack-inl.h"
#include "kernels/common/neon-epilogue-inl.h"

namespace q8::neon {
namespace {

constexpr size_t kKr = 2;
constexpr size_t kMaxRows = 4;

constexpr size_t panels_for(size_t rows) { return rows <= 2 ? 2 : 1; }

/// Two bytes of a block of A to all pairs of lanes. Written out because GCC 12 would load them
/// again, through a general register.
template <int kPair>
inline int8x16_t broadcast_pair(int8x16_t a) {
  const int16x8_t pairs = vreinterpretq_s16_s8(a);
#if defined(__GNUC__) && !defined(__clang__)
  int16x8_t all;
  __asm__("dup %0.8h, %1.h[%2]" : "=w"(all) : "w"(pairs), "i"(kPair));
  return vreinterpretq_s8_s16(all);
#else
  return vreinterpretq_s8_s16(vdupq_laneq_s16(pairs, kPair));
#endif
}

/// acc += the sums of neighbouring products. Written out to tie the accumulator to its register.
inline int32x4_t accumulate_pairs(int32x4_t acc, int16x8_t products) {
#if defined(__GNUC__) && !defined(__clang__)
  __asm__("sadalp %0.4s, %1.8h" : "+w"(acc) : "w"(products));
  return acc;
#else
  return vpadalq_s16(acc, products);
#endif
}

/// One K2 step: the row of B at `b_offset` by pair kStep of the rows of A.
template <int kStep, size_t kRows, size_t kPanels>
Q8_ALWAYS_INLINE void multiply_step(int32x4_t (&acc)[kRows][kPanels][kQuads],
                                    const int8x16_t (&a)[kRows],
                                    const int8_t* const (&panel)[kPanels], size_t b_offset) {
  int8x16_t b[kPanels][2];
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    unroll<0, 2>([&](auto half)
                     Q8_INLINE_LAMBDA { b[p][half] = vld1q_s8(panel[p] + b_offset + 16 * half); });
  });
  unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
    const int8x16_t pair = broadcast_pair<kStep>(a[r]);
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      unroll<0, 2>([&](auto half) Q8_INLINE_LAMBDA {
        int32x4_t* const quad = acc[r][p] + 2 * half;
        quad[0] = accumulate_pairs(quad[0], vmull_s8(vget_low_s8(b[p][half]), vget_low_s8(pair)));
        quad[1] = accumulate_pairs(quad[1], vmull_high_s8(b[p][half], pair));
      });
    });
  });
}

}  // namespace
}  // namespace q8::neon

#include "kernels/common/neon-gemm-inl.h"
#include "kernels/common/neon-row-major-inl.h"

namespace q8::neon {
namespace {

constexpr GemmTile kTiles[] = {
    {"4x16", 4, 16, gemm<>, /*takes_segments=*/true},
    {"3x16", 3, 16, gemm<>, /*takes_segments=*/true},
    {"2x32", 2, 32, gemm<>, /*takes_segments=*/true},
    {"1x32", 1, 32, gemm<>, /*takes_segments=*/true},
};

size_t peak_loop(size_t iterations) {
  return run_peak_loop<24, 8>(
      iterations, [](int32x4_t acc, int8x16_t a, int8x16_t b) Q8_INLINE_LAMBDA {
        return accumulate_pairs(acc, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
      });
}

}  // namespace

extern const GemmKernels kGemm;
const GemmKernels kGemm = {
    "smull + sadalp",
    /*kr=*/kKr,
    /*a_element_bytes=*/1,
    /*a_in_place=*/true,
    /*a_signed=*/true,
    pack_a<int8_t, kKr>,
    sum_a<int8_t>,
    pack_b_panel<kKr>,
    kTiles,
    sizeof(kTiles) / sizeof(kTiles[0]),
    peak_loop,
    /*find_unbounded=*/nullptr,
};

}  // namespace q8::neon

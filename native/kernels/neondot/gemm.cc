// SPDX-License-Identifier: MIT
/// s8 x s8 -> s32 GEMM for ARMv8.2 with the dot product (SDOT).
///
/// Packed B is K4N16: a row is four vectors of 4 columns x 4 k. A is read in place, 16 k of a row
/// at a time; SDOT by element multiplies a vector of B by the four bytes of A that its index names,
/// so that nothing is broadcast.
///
/// Per 16 k of the 6x16 tile: 6 loads of A + 16 of B for 96 SDOT, 0.23 loads each (8x12: 0.21, but
/// it does not divide a panel). 24 accumulators are reused after 12 cycles of two SDOT (Neoverse
/// N1, latency 4) or 6 of four (V1, latency 3). Registers: 24 accumulators + 6 A + 2 B = 32 of 32.
/// Few rows take several panels, to have 16 chains at least.
#define Q8_TARGET neondot
#include <arm_neon.h>

#include "kernels/common/gemm-pack-inl.h"
#include "kernels/common/neon-epilogue-inl.h"

namespace q8::neondot {
namespace {

constexpr size_t kKr = 4;
constexpr size_t kMaxRows = 6;

constexpr size_t panels_for(size_t rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }

/// acc += four products per lane, with element kElement of `a`. Written out because GCC 12 does not
/// tie the intrinsic's accumulator to one register: it copies accumulators in every round and
/// spills some.
template <int kElement>
inline int32x4_t multiply_add(int32x4_t acc, int8x16_t b, int8x16_t a) {
#if defined(__GNUC__) && !defined(__clang__)
  __asm__("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(acc) : "w"(b), "w"(a), "i"(kElement));
  return acc;
#else
  return vdotq_laneq_s32(acc, b, a, kElement);
#endif
}

/// One K4 step: the rows of B at `b_offset` by element kStep of the rows of A.
template <int kStep, size_t kRows, size_t kPanels>
Q8_ALWAYS_INLINE void multiply_step(int32x4_t (&acc)[kRows][kPanels][kQuads],
                                    const int8x16_t (&a)[kRows],
                                    const int8_t* const (&panel)[kPanels], size_t b_offset) {
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
    unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
      const int8x16_t b = vld1q_s8(panel[p] + b_offset + 16 * q);
      unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
        acc[r][p][q] = multiply_add<kStep>(acc[r][p][q], b, a[r]);
      });
    });
  });
}

}  // namespace
}  // namespace q8::neondot

#include "kernels/common/neon-gemm-inl.h"
#include "kernels/common/neon-row-major-inl.h"

namespace q8::neondot {
namespace {

constexpr GemmTile kTiles[] = {
    {"6x16", 6, 16, gemm<>, /*takes_segments=*/true},
    {"5x16", 5, 16, gemm<>, /*takes_segments=*/true},
    {"4x16", 4, 16, gemm<>, /*takes_segments=*/true},
    {"3x32", 3, 32, gemm<>, /*takes_segments=*/true},
    {"2x32", 2, 32, gemm<>, /*takes_segments=*/true},
    {"1x64", 1, 64, gemm<>, /*takes_segments=*/true},
};

size_t peak_loop(size_t iterations) {
  return run_peak_loop<24, 16>(iterations,
                               [](int32x4_t acc, int8x16_t a, int8x16_t b)
                                   Q8_INLINE_LAMBDA { return multiply_add<0>(acc, a, b); });
}

}  // namespace

extern const GemmKernels kGemm;
const GemmKernels kGemm = {
    "sdot",
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

}  // namespace q8::neondot

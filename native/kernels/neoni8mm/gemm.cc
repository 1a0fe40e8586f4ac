// SPDX-License-Identifier: MIT
/// s8 x s8 -> s32 GEMM for ARMv8.6 with the matrix product (SMMLA), which multiplies 2 rows x 8 k
/// by 8 k x 2 columns.
///
/// Packed B is K8N16: a row is eight vectors of 2 columns x 8 k. A is always packed: two rows
/// interleaved by 8 bytes, so that a load gives an operand; a last row without partner stays plain
/// and is loaded into the lower half of a vector.
///
/// Per K8 step of the 6x16 tile: 3 loads of A + 8 of B for 24 SMMLA, 0.46 loads each. Registers: 24
/// accumulators + 3 A + up to 5 B = 32 of 32. A single row costs as much as a pair: one SMMLA per
/// vector of B, and the loads of B are what bounds it.
#define Q8_TARGET neoni8mm
#include <arm_neon.h>

#include "kernels/common/gemm-pack-inl.h"
#include "kernels/common/neon-epilogue-inl.h"

namespace q8::neoni8mm {
namespace {

constexpr size_t kKr = 8;
constexpr size_t kMaxRows = 6;

constexpr size_t panels_for(size_t rows) { return rows <= 2 ? 2 : 1; }

/// GemmKernels::pack_a: byte i of row r goes to byte (i / 8 * 2 + r % 2) * 8 + i % 8 of the pair's
/// block.
void pack_a(size_t rows, size_t segments, size_t segment_bytes, const uint8_t* const* source,
            uint8_t flip, void* dst, size_t dst_stride, int32_t* row_sum) {
  const size_t k = segments * segment_bytes;
  const size_t padded_k = (k + kKr - 1) / kKr * kKr;
  const uint64_t flip8 = flip * 0x0101010101010101u;
  for (size_t r = 0; r < rows; ++r) {
    const bool has_partner = r % 2 == 1 || r + 1 < rows;
    uint8_t* const out = static_cast<uint8_t*>(dst) + r / 2 * 2 * dst_stride + r % 2 * kKr;
    const auto place = [&](size_t i) {
      return out + (has_partner ? i / kKr * 2 * kKr : i / kKr * kKr) + i % kKr;
    };
    size_t i = 0;
    for (size_t s = 0; s < segments; ++s) {
      const uint8_t* in = source[r * segments + s];
      const uint8_t* const end = in + segment_bytes;
      while (in != end) {
        if (i % kKr == 0 && static_cast<size_t>(end - in) >= kKr) {
          uint64_t bytes;
          memcpy(&bytes, in, kKr);
          bytes ^= flip8;
          memcpy(place(i), &bytes, kKr);
          in += kKr;
          i += kKr;
        } else {
          *place(i++) = *in++ ^ flip;
        }
      }
    }
    for (; i < padded_k; ++i) *place(i) = 0;
    if (row_sum == nullptr) continue;
    uint32_t sum = 0;
    for (size_t j = 0; j < k; ++j) sum += static_cast<uint32_t>(static_cast<int8_t>(*place(j)));
    row_sum[r] = static_cast<int32_t>(sum);
  }
}

/// acc += the products of a block. Written out because GCC 12 does not tie the intrinsic's
/// accumulator to one register: it copies accumulators in every round and spills some.
inline int32x4_t multiply_add(int32x4_t acc, int8x16_t a, int8x16_t b) {
#if defined(__GNUC__) && !defined(__clang__)
  __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(a), "w"(b));
  return acc;
#else
  return vmmlaq_s32(acc, a, b);
#endif
}

template <size_t kRows, size_t kPanels>
Q8_ALWAYS_INLINE void accumulate(size_t k, const TileA& a, const TileB& b,
                                 int32x4_t (&acc)[kRows][kPanels][kQuads]) {
  constexpr size_t kPairs = (kRows + 1) / 2;
  constexpr size_t kVectors = kPanelWidth / 2;
  // Lanes: (row 0, column 0), (row 0, column 1), (row 1, column 0), (row 1, column 1).
  int32x4_t block[kPairs][kPanels][kVectors];
  unroll<0, kPairs>([&](auto r) Q8_INLINE_LAMBDA {
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      unroll<0, kVectors>([&](auto v) Q8_INLINE_LAMBDA { block[r][p][v] = vdupq_n_s32(0); });
    });
  });
  const int8_t* pair[kPairs];
  const int8_t* panel[kPanels];
  unroll<0, kPairs>([&](auto r) Q8_INLINE_LAMBDA {
    pair[r] = static_cast<const int8_t*>(a.data) + 2 * r * a.lda;
  });
  unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA { panel[p] = b.data + p * b.panel_stride; });
  for (size_t i = 0; i < k; i += kKr) {
    int8x16_t a_pair[kPairs];
    unroll<0, kPairs>([&](auto r) Q8_INLINE_LAMBDA {
      if constexpr (2 * decltype(r)::kIndex + 1 < kRows) {
        a_pair[r] = vld1q_s8(pair[r] + 2 * i);
      } else {
        a_pair[r] = vcombine_s8(vld1_s8(pair[r] + i), vdup_n_s8(0));
      }
    });
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      unroll<0, kVectors>([&](auto v) Q8_INLINE_LAMBDA {
        const int8x16_t b_pair = vld1q_s8(panel[p] + i * kPanelWidth + 16 * v);
        unroll<0, kPairs>([&](auto r) Q8_INLINE_LAMBDA {
          block[r][p][v] = multiply_add(block[r][p][v], a_pair[r], b_pair);
        });
      });
    });
  }
  unroll<0, kRows>([&](auto r) Q8_INLINE_LAMBDA {
    unroll<0, kPanels>([&](auto p) Q8_INLINE_LAMBDA {
      unroll<0, kQuads>([&](auto q) Q8_INLINE_LAMBDA {
        const int64x2_t left = vreinterpretq_s64_s32(block[r / 2][p][2 * q]);
        const int64x2_t right = vreinterpretq_s64_s32(block[r / 2][p][2 * q + 1]);
        acc[r][p][q] =
            vreinterpretq_s32_s64(r % 2 == 0 ? vzip1q_s64(left, right) : vzip2q_s64(left, right));
      });
    });
  });
}

}  // namespace
}  // namespace q8::neoni8mm

#include "kernels/common/neon-gemm-inl.h"

namespace q8::neoni8mm {
namespace {

constexpr GemmTile kTiles[] = {
    {"6x16", 6, 16, gemm<>, /*takes_segments=*/false},
    {"4x16", 4, 16, gemm<>, /*takes_segments=*/false},
    {"2x32", 2, 32, gemm<>, /*takes_segments=*/false},
};

size_t peak_loop(size_t iterations) {
  return run_peak_loop<24, 32>(iterations,
                               [](int32x4_t acc, int8x16_t a, int8x16_t b)
                                   Q8_INLINE_LAMBDA { return multiply_add(acc, a, b); });
}

}  // namespace

extern const GemmKernels kGemm;
const GemmKernels kGemm = {
    "smmla",
    /*kr=*/kKr,
    /*a_element_bytes=*/1,
    /*a_in_place=*/false,
    /*a_signed=*/true,
    pack_a,
    /*sum_a=*/nullptr,
    pack_b_panel<kKr>,
    kTiles,
    sizeof(kTiles) / sizeof(kTiles[0]),
    peak_loop,
    /*find_unbounded=*/nullptr,
};

}  // namespace q8::neoni8mm

// SPDX-License-Identifier: MIT
/// The reference GEMM: u8 x s8 -> s32, one column of a tile after the other, plain C++. Every other
/// room must give these bits. Packed B is K1N16. Sums are made as uint32 so that they wrap, as
/// int32 accumulators of SIMD do.
#define Q8_TARGET scalar
#include "kernels/common/gemm-pack-inl.h"

namespace q8::scalar {
namespace {

constexpr size_t kRows = 4;

/// Round half to even for |x| < 2^22: the sum's unit in the last place is 1, so the addition does
/// the rounding.
inline int32_t round_half_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  const float shifted = x + kMagic;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  return bits - 0x4b400000;
}

inline void store(const Epilogue& e, size_t row, size_t column, uint32_t acc, void* c, size_t ldc) {
  const size_t index = row * ldc + column;
  if (e.b_zero_point != nullptr) {
    acc -= static_cast<uint32_t>(e.b_zero_point[column]) * static_cast<uint32_t>(e.row_sum[row]);
  }
  acc += static_cast<uint32_t>(e.bias[column]);
  const int32_t value = static_cast<int32_t>(acc);
  if (e.kind == OutKind::kS32) {
    static_cast<int32_t*>(c)[index] = value;
    return;
  }
  float y = static_cast<float>(value) * e.scale[column];
  if (e.kind == OutKind::kF32) {
    if (e.float_bias != nullptr) y += e.float_bias[column];
    static_cast<float*>(c)[index] = y;
    return;
  }
  y = y > e.lo ? y : e.lo;
  y = y < e.hi ? y : e.hi;
  // The clamp has put the code into its type's range; u8 and s8 share the byte.
  static_cast<uint8_t*>(c)[index] = static_cast<uint8_t>(round_half_even(y) + e.zero_point);
}

void gemm_4x16(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
               const Epilogue& epilogue, void* c, size_t ldc) {
  const size_t runs = a.segments > 1 ? a.segments : 1;
  const size_t run_k = runs > 1 ? a.segment : k;
  const auto multiply_row = [&](size_t r, size_t column) {
    uint32_t acc[kPanelWidth] = {};
    const int8_t* b_row = b.data + column / kPanelWidth * b.panel_stride;
    for (size_t s = 0; s < runs; ++s) {
      const uint8_t* a_run =
          a.source != nullptr ? a.source[r * runs + s]
                              : static_cast<const uint8_t*>(a.data) + r * a.lda + s * a.run_stride;
      for (size_t i = 0; i < run_k; ++i, b_row += kPanelWidth) {
        const int32_t value = a_run[i];
        for (size_t n = 0; n < kPanelWidth; ++n) acc[n] += static_cast<uint32_t>(value * b_row[n]);
      }
    }
    const size_t end = cols - column < kPanelWidth ? cols : column + kPanelWidth;
    for (size_t n = column; n < end; ++n) store(epilogue, r, n, acc[n - column], c, ldc);
  };
  for (size_t column = 0; column < cols; column += kPanelWidth) {
    for (size_t r = 0; r < rows; ++r) multiply_row(r, column);
  }
}

size_t peak_loop(size_t iterations) {
  // Volatile ends keep the compiler from computing the loop itself.
  static volatile uint32_t source = 3;
  uint32_t acc[8] = {};
  const uint32_t a = source;
  uint32_t b = source;
  for (size_t i = 0; i < iterations; ++i) {
    for (uint32_t& sum : acc) sum += a * b;
    b += sizeof(acc);
  }
  uint32_t total = 0;
  for (const uint32_t sum : acc) total += sum;
  [[maybe_unused]] static volatile uint32_t sink;
  sink = total;
  return sizeof(acc) / sizeof(acc[0]);
}

constexpr GemmTile kTiles[] = {{"4x16", kRows, kPanelWidth, gemm_4x16, /*takes_segments=*/true}};

}  // namespace

extern const GemmKernels kGemm;
const GemmKernels kGemm = {
    "imul",
    /*kr=*/1,
    /*a_element_bytes=*/1,
    /*a_in_place=*/true,
    /*a_signed=*/false,
    pack_a<uint8_t, 1>,
    sum_a<uint8_t>,
    pack_b_panel<1>,
    kTiles,
    /*tile_count=*/1,
    peak_loop,
    /*find_unbounded=*/nullptr,
};

}  // namespace q8::scalar

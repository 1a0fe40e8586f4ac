// SPDX-License-Identifier: MIT
/// Implementation of VectorKernels, compiled into each room with the room's flags. Plain loops that
/// compilers vectorize; float GEMM and convolution use the room's `F32Lanes` (defined before this
/// file is included): a type V of kWidth floats, load, store, broadcast, add, div, fma, clamp (NaN
/// stays), and the rows and panels of the GEMM tile that fit its registers. Table lookups use its
/// `CodeLanes`: kWidth codes, 1 if it has nothing, and a Table that is made from 256 codes and maps
/// kWidth codes at a time; transposition of bytes its `ByteLanes`: kWidth bytes, 1 if it has
/// nothing, a type V of them, load, store, zip_low and zip_high. Likewise `QBinaryLanes` maps
/// kWidth codes of two operands of one type. Everything has internal linkage.
#pragma once

#include "kernels/common/fma-inl.h"
#include "kernels/common/independent-inl.h"
#include "kernels/common/math-inl.h"
#include "kernels/vector_kernels.h"

namespace q8 {
namespace {

// --------------------------------------------------------------------------------------------------------------------
// Quantization.

inline uint8_t quantize_one(float x, const QuantizeParams& p) {
  return static_cast<uint8_t>(static_cast<int32_t>(nearest(clamp(x / p.scale, p.lo, p.hi))) +
                              p.zero_point);
}

inline float dequantize_one(uint8_t code, const CodeParams& p) {
  return static_cast<float>(static_cast<int32_t>(code ^ p.flip) - p.zero_point) * p.scale;
}

void quantize(size_t n, const float* x, const QuantizeParams& params, uint8_t* y) {
  const QuantizeParams p = params;
  Q8_INDEPENDENT
  for (size_t i = 0; i < n; ++i) y[i] = quantize_one(x[i], p);
}

void quantize_columns(size_t n, const float* x, const float* scale, const int32_t* zero_point,
                      int32_t min, int32_t max, uint8_t* y) {
  Q8_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    const int32_t zp = zero_point[i];
    const float q =
        nearest(clamp(x[i] / scale[i], static_cast<float>(min - zp), static_cast<float>(max - zp)));
    y[i] = static_cast<uint8_t>(static_cast<int32_t>(q) + zp);
  }
}

void dequantize(size_t n, const uint8_t* x, const CodeParams& params, float* y) {
  const CodeParams p = params;
  Q8_INDEPENDENT
  for (size_t i = 0; i < n; ++i) y[i] = dequantize_one(x[i], p);
}

void dequantize_columns(size_t n, const uint8_t* x, uint8_t flip, const float* scale,
                        const int32_t* zero_point, float* y) {
  Q8_INDEPENDENT
  for (size_t i = 0; i < n; ++i) {
    y[i] = static_cast<float>(static_cast<int32_t>(x[i] ^ flip) - zero_point[i]) * scale[i];
  }
}

inline int32_t wrapping_sub(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
}

void dequantize_s32(size_t n, const int32_t* x, float scale, int32_t zero_point, float* y) {
  Q8_INDEPENDENT
  for (size_t i = 0; i < n; ++i) y[i] = static_cast<float>(wrapping_sub(x[i], zero_point)) * scale;
}

void dequantize_s32_columns(size_t n, const int32_t* x, const float* scale,
                            const int32_t* zero_point, float* y) {
  Q8_INDEPENDENT
  for (size_t i = 0; i < n; ++i)
    y[i] = static_cast<float>(wrapping_sub(x[i], zero_point[i])) * scale[i];
}

template <class Lanes>
void lut(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) {
  size_t i = 0;
  if constexpr (Lanes::kWidth > 1) {
    // Fewer codes do not pay for the preparation.
    if (n >= 4 * Lanes::kWidth) {
      const typename Lanes::Table prepared(table);
      for (; i + Lanes::kWidth <= n; i += Lanes::kWidth) prepared.map(x + i, y + i);
    }
  }
  for (; i < n; ++i) y[i] = table[x[i]];
}

/// Operations of qbinary, on floats and on the room's vectors of them.
struct AddOp {
  float operator()(float u, float v) const { return u + v; }
  template <class Lanes>
  typename Lanes::V on_lanes(typename Lanes::V u, typename Lanes::V v) const {
    return Lanes::add(u, v);
  }
};
struct SubOp {
  float operator()(float u, float v) const { return u - v; }
  template <class Lanes>
  typename Lanes::V on_lanes(typename Lanes::V u, typename Lanes::V v) const {
    return Lanes::sub(u, v);
  }
};
struct MulOp {
  float operator()(float u, float v) const { return u * v; }
  template <class Lanes>
  typename Lanes::V on_lanes(typename Lanes::V u, typename Lanes::V v) const {
    return Lanes::mul(u, v);
  }
};
struct DivOp {
  float operator()(float u, float v) const { return u / v; }
  template <class Lanes>
  typename Lanes::V on_lanes(typename Lanes::V u, typename Lanes::V v) const {
    return Lanes::div(u, v);
  }
};

template <class Lanes, class Op>
void qbinary_with(Op op, size_t n, const uint8_t* a, ptrdiff_t a_step, const CodeParams& a_params,
                  const uint8_t* b, ptrdiff_t b_step, const CodeParams& b_params,
                  const QuantizeParams& y_params, uint8_t* y) {
  const CodeParams pa = a_params;
  const CodeParams pb = b_params;
  const QuantizeParams py = y_params;
  if (a_step == 1 && b_step == 1) {
    size_t i = 0;
    if constexpr (Lanes::kWidth > 1) {
      const Lanes lanes(pa, pb, py);
      const size_t whole = n / Lanes::kWidth * Lanes::kWidth;
      if (pa.flip == 0 && pb.flip == 0) {
        for (; i < whole; i += Lanes::kWidth) lanes.template map<false>(op, a + i, b + i, y + i);
      } else if (pa.flip != 0 && pb.flip != 0) {
        for (; i < whole; i += Lanes::kWidth) lanes.template map<true>(op, a + i, b + i, y + i);
      }
    }
    Q8_INDEPENDENT
    for (size_t rest = i; rest < n; ++rest)
      y[rest] = quantize_one(op(dequantize_one(a[rest], pa), dequantize_one(b[rest], pb)), py);
  } else if (a_step == 1 && b_step == 0) {
    const float vb = dequantize_one(b[0], pb);
    Q8_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = quantize_one(op(dequantize_one(a[i], pa), vb), py);
  } else if (a_step == 0 && b_step == 1) {
    const float va = dequantize_one(a[0], pa);
    Q8_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = quantize_one(op(va, dequantize_one(b[i], pb)), py);
  } else {
    for (size_t i = 0; i < n; ++i) {
      const float va = dequantize_one(a[static_cast<ptrdiff_t>(i) * a_step], pa);
      const float vb = dequantize_one(b[static_cast<ptrdiff_t>(i) * b_step], pb);
      y[i] = quantize_one(op(va, vb), py);
    }
  }
}

void qbinary(BinaryKind kind, size_t n, const uint8_t* a, ptrdiff_t a_step,
             const CodeParams& a_params, const uint8_t* b, ptrdiff_t b_step,
             const CodeParams& b_params, const QuantizeParams& y_params, uint8_t* y) {
  const auto run = [&](auto op) {
    qbinary_with<QBinaryLanes>(op, n, a, a_step, a_params, b, b_step, b_params, y_params, y);
  };
  switch (kind) {
    case BinaryKind::kAdd:
      return run(AddOp{});
    case BinaryKind::kSub:
      return run(SubOp{});
    case BinaryKind::kMul:
      return run(MulOp{});
    default:
      return run(DivOp{});
  }
}

struct Yes {
  static constexpr bool value = true;
};
struct No {
  static constexpr bool value = false;
};

template <bool kProduct, bool kSigned, bool kSignedY, class Lanes>
void map_fused(size_t n, const uint8_t* a, const uint8_t* b, const FusedParams& params,
               uint8_t* y) {
  const FusedParams p = params;
  const Lanes lanes(p);
  size_t i = 0;
  for (; i + Lanes::kWidth <= n; i += Lanes::kWidth) {
    lanes.template map<kProduct, kSigned, kSignedY>(a + i, b + i, y + i);
  }
  constexpr float kLeast = kSignedY ? -128.0f : 0.0f;
  for (; i < n; ++i) {
    const float u = kSigned ? static_cast<int8_t>(a[i]) : a[i];
    const float v = kSigned ? static_cast<int8_t>(b[i]) : b[i];
    const float sum =
        kProduct ? fused_multiply_add((u - p.a_zero) * (v - p.b_zero), p.a_factor, p.offset)
                 : fused_multiply_add(u, p.a_factor, fused_multiply_add(v, p.b_factor, p.offset));
    y[i] = static_cast<uint8_t>(static_cast<int32_t>(nearest(clamp(sum, kLeast, kLeast + 255))));
  }
}

template <class Lanes>
void qbinary_fused(size_t n, const uint8_t* a, const uint8_t* b, const FusedParams& params,
                   uint8_t* y) {
  const auto with_type = [&](auto product, auto is_signed) {
    constexpr bool kProduct = decltype(product)::value;
    constexpr bool kSigned = decltype(is_signed)::value;
    params.y_signed ? map_fused<kProduct, kSigned, true, Lanes>(n, a, b, params, y)
                    : map_fused<kProduct, kSigned, false, Lanes>(n, a, b, params, y);
  };
  const auto with_kind = [&](auto product) {
    params.is_signed ? with_type(product, Yes{}) : with_type(product, No{});
  };
  params.is_product ? with_kind(Yes{}) : with_kind(No{});
}

template <class Lanes>
constexpr auto choose_qbinary_fused() -> decltype(VectorKernels::qbinary_fused) {
  if constexpr (Lanes::kWidth > 1) {
    return qbinary_fused<Lanes>;
  } else {
    return nullptr;
  }
}

// --------------------------------------------------------------------------------------------------------------------
// Pooling.

/// So many codes cannot overflow a 16-bit sum.
constexpr size_t kShortRows = 257;

/// Columns few enough for their sums to stay in registers.
template <size_t kColumns>
void sum_columns(size_t rows, size_t stride, const uint8_t* x, uint8_t flip, int32_t* sum) {
  for (size_t first = 0; first < rows; first += kShortRows) {
    const size_t last = rows - first < kShortRows ? rows : first + kShortRows;
    uint16_t part[kColumns] = {};
    for (size_t r = first; r < last; ++r) {
      for (size_t c = 0; c < kColumns; ++c)
        part[c] = static_cast<uint16_t>(part[c] + static_cast<uint8_t>(x[r * stride + c] ^ flip));
    }
    for (size_t c = 0; c < kColumns; ++c)
      sum[c] = static_cast<int32_t>(static_cast<uint32_t>(sum[c]) + part[c]);
  }
}

void sum_rows(size_t rows, size_t channels, size_t stride, const uint8_t* x, uint8_t flip,
              int32_t* sum) {
  size_t c = 0;
  for (; c + 64 <= channels; c += 64) sum_columns<64>(rows, stride, x + c, flip, sum + c);
  for (; c + 16 <= channels; c += 16) sum_columns<16>(rows, stride, x + c, flip, sum + c);
  for (; c + 8 <= channels; c += 8) sum_columns<8>(rows, stride, x + c, flip, sum + c);
  for (; c < channels; ++c) sum_columns<1>(rows, stride, x + c, flip, sum + c);
}

/// Calls body(first, count) for blocks of at most kColumnBlock columns.
template <class Body>
inline void for_column_blocks(size_t n, Body body) {
  for (size_t first = 0; first < n; first += kColumnBlock) {
    body(first, n - first < kColumnBlock ? n - first : kColumnBlock);
  }
}

void qaverage_pool(size_t channels, size_t taps, const uint8_t* const* source,
                   const CodeParams& x_params, float divisor, const QuantizeParams& y_params,
                   uint8_t* y) {
  const CodeParams px = x_params;
  const QuantizeParams py = y_params;
  for_column_blocks(channels, [&](size_t first, size_t count) {
    float sum[kColumnBlock] = {};
    for (size_t t = 0; t < taps; ++t) {
      const uint8_t* row = source[t] + first;
      Q8_INDEPENDENT
      for (size_t c = 0; c < count; ++c) sum[c] += dequantize_one(row[c], px);
    }
    Q8_INDEPENDENT
    for (size_t c = 0; c < count; ++c) y[first + c] = quantize_one(sum[c] / divisor, py);
  });
}

template <size_t kValue>
struct Constant {
  static constexpr size_t value = kValue;
};

/// kVectors vectors of channels from `first` on: y = sum / divisor, in registers.
template <size_t kVectors>
inline void average_pool_tile(size_t first, size_t taps, const float* const* source, float divisor,
                              float* y) {
  using V = F32Lanes::V;
  constexpr size_t kWidth = F32Lanes::kWidth;
  V sum[kVectors];
  for (size_t v = 0; v < kVectors; ++v) sum[v] = F32Lanes::broadcast(0.0f);
  for (size_t t = 0; t < taps; ++t) {
    const float* row = source[t] + first;
    for (size_t v = 0; v < kVectors; ++v)
      sum[v] = F32Lanes::add(sum[v], F32Lanes::load(row + v * kWidth));
  }
  const V by = F32Lanes::broadcast(divisor);
  for (size_t v = 0; v < kVectors; ++v)
    F32Lanes::store(y + first + v * kWidth, F32Lanes::div(sum[v], by));
}

/// Calls tile(Constant<vectors>, channel) for runs of four and of one vector, then one(channel) for
/// the channels that are left.
template <class Tile, class One>
inline void for_channels(size_t channels, Tile tile, One one) {
  constexpr size_t kWidth = F32Lanes::kWidth;
  size_t c = 0;
  for (; c + 4 * kWidth <= channels; c += 4 * kWidth) tile(Constant<4>{}, c);
  for (; c + kWidth <= channels; c += kWidth) tile(Constant<1>{}, c);
  for (; c < channels; ++c) one(c);
}

void average_pool(size_t channels, size_t taps, const float* const* source, float divisor,
                  float* y) {
  for_channels(
      channels,
      [&](auto vectors, size_t c) {
        average_pool_tile<decltype(vectors)::value>(c, taps, source, divisor, y);
      },
      [&](size_t c) {
        float sum = 0.0f;
        for (size_t t = 0; t < taps; ++t) sum += source[t][c];
        y[c] = sum / divisor;
      });
}

template <size_t kVectors>
inline void weighted_sum_tile(size_t first, size_t taps, const float* const* source,
                              const float* weights, float* y) {
  using V = F32Lanes::V;
  constexpr size_t kWidth = F32Lanes::kWidth;
  V sum[kVectors];
  for (size_t v = 0; v < kVectors; ++v) sum[v] = F32Lanes::broadcast(0.0f);
  for (size_t t = 0; t < taps; ++t) {
    const float* row = source[t] + first;
    const V weight = F32Lanes::broadcast(weights[t]);
    for (size_t v = 0; v < kVectors; ++v)
      sum[v] = F32Lanes::fma(weight, F32Lanes::load(row + v * kWidth), sum[v]);
  }
  for (size_t v = 0; v < kVectors; ++v) F32Lanes::store(y + first + v * kWidth, sum[v]);
}

void weighted_sum(size_t channels, size_t taps, const float* const* source, const float* weights,
                  float* y) {
  for_channels(
      channels,
      [&](auto vectors, size_t c) {
        weighted_sum_tile<decltype(vectors)::value>(c, taps, source, weights, y);
      },
      [&](size_t c) {
        float sum = 0.0f;
        for (size_t t = 0; t < taps; ++t) sum = fused_multiply_add(weights[t], source[t][c], sum);
        y[c] = sum;
      });
}

template <class T>
inline void max_pool(size_t channels, size_t taps, const T* const* source, T* y) {
  if (taps == 1) {
    memcpy(y, source[0], channels * sizeof(T));
    return;
  }
  size_t t = 0;
  const T* a = source[t++];
  const T* b = source[t++];
  Q8_INDEPENDENT
  for (size_t c = 0; c < channels; ++c) y[c] = a[c] > b[c] ? a[c] : b[c];
  // Two taps a pass halve the traffic through y.
  for (; t + 2 <= taps; t += 2) {
    a = source[t];
    b = source[t + 1];
    Q8_INDEPENDENT
    for (size_t c = 0; c < channels; ++c) {
      const T wider = y[c] > a[c] ? y[c] : a[c];
      y[c] = wider > b[c] ? wider : b[c];
    }
  }
  if (t < taps) {
    a = source[t];
    Q8_INDEPENDENT
    for (size_t c = 0; c < channels; ++c) y[c] = y[c] > a[c] ? y[c] : a[c];
  }
}

void max_pool_u8(size_t channels, size_t taps, const uint8_t* const* source, uint8_t* y) {
  max_pool(channels, taps, source, y);
}
void max_pool_s8(size_t channels, size_t taps, const int8_t* const* source, int8_t* y) {
  max_pool(channels, taps, source, y);
}
void max_pool_f32(size_t channels, size_t taps, const float* const* source, float* y) {
  max_pool(channels, taps, source, y);
}

// --------------------------------------------------------------------------------------------------------------------
// Float GEMM and depthwise convolution.

inline float clamp_keep_nan(float x, float lo, float hi) {
  const float raised = x < lo ? lo : x;
  return raised > hi ? hi : raised;
}

inline F32Lanes::V finish_f32(F32Lanes::V sum, const FloatEpilogue& e, size_t column) {
  if (e.bias != nullptr) sum = F32Lanes::add(sum, F32Lanes::load(e.bias + column));
  return F32Lanes::clamp(sum, F32Lanes::broadcast(e.lo), F32Lanes::broadcast(e.hi));
}

/// The epilogue is only reached through its reference, or its bounds would take registers from the
/// accumulators.
template <size_t kRows, size_t kPanels>
void gemm_f32_tile(size_t cols, size_t segments, size_t segment, const float* const* source,
                   const float* b, const FloatEpilogue& e, float* c, size_t ldc) {
  using V = F32Lanes::V;
  constexpr size_t kWidth = F32Lanes::kWidth;
  constexpr size_t kVectors = 16 / kWidth;
  const size_t panel_stride = segments * segment * 16;
  V acc[kRows][kPanels * kVectors];
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kPanels * kVectors; ++v) acc[r][v] = F32Lanes::broadcast(0.0f);
  }
  for (size_t s = 0; s < segments; ++s) {
    const float* row[kRows];
    for (size_t r = 0; r < kRows; ++r) row[r] = source[r * segments + s];
    for (size_t i = 0; i < segment; ++i, b += 16) {
      V vb[kPanels * kVectors];
      for (size_t v = 0; v < kPanels * kVectors; ++v)
        vb[v] = F32Lanes::load(b + v / kVectors * panel_stride + v % kVectors * kWidth);
      for (size_t r = 0; r < kRows; ++r) {
        const V va = F32Lanes::broadcast(row[r][i]);
        for (size_t v = 0; v < kPanels * kVectors; ++v)
          acc[r][v] = F32Lanes::fma(va, vb[v], acc[r][v]);
      }
    }
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kPanels * kVectors; ++v)
      acc[r][v] = finish_f32(acc[r][v], e, v * kWidth);
  }
  if (cols == kPanels * 16) {
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kPanels * kVectors; ++v)
        F32Lanes::store(c + r * ldc + v * kWidth, acc[r][v]);
    }
    return;
  }
  for (size_t r = 0; r < kRows; ++r) {
    float staged[kPanels * 16];
    for (size_t v = 0; v < kPanels * kVectors; ++v) F32Lanes::store(staged + v * kWidth, acc[r][v]);
    memcpy(c + r * ldc, staged, cols * sizeof(float));
  }
}

template <size_t kRows = F32Lanes::kRows>
void gemm_f32(size_t rows, size_t cols, size_t segments, size_t segment, const float* const* source,
              const float* b, const FloatEpilogue& e, float* c, size_t ldc) {
  if (rows == kRows) {
    if constexpr (F32Lanes::kPanels > 1) {
      if (cols <= 16) return gemm_f32_tile<kRows, 1>(cols, segments, segment, source, b, e, c, ldc);
    }
    gemm_f32_tile<kRows, F32Lanes::kPanels>(cols, segments, segment, source, b, e, c, ldc);
  } else if constexpr (kRows > 1) {
    gemm_f32<kRows - 1>(rows, cols, segments, segment, source, b, e, c, ldc);
  }
}

/// kPixels pixels of kVectors vectors of channels from `first` on.
template <size_t kPixels, size_t kVectors>
inline void depthwise_f32_tile(size_t first, size_t channels, size_t taps,
                               const float* const* source, const float* weights,
                               const FloatEpilogue& e, float* y) {
  using V = F32Lanes::V;
  constexpr size_t kWidth = F32Lanes::kWidth;
  V acc[kPixels][kVectors];
  for (size_t p = 0; p < kPixels; ++p) {
    for (size_t v = 0; v < kVectors; ++v) acc[p][v] = F32Lanes::broadcast(0.0f);
  }
  for (size_t t = 0; t < taps; ++t) {
    V w[kVectors];
    for (size_t v = 0; v < kVectors; ++v)
      w[v] = F32Lanes::load(weights + t * channels + first + v * kWidth);
    for (size_t p = 0; p < kPixels; ++p) {
      const float* x = source[p * taps + t] + first;
      for (size_t v = 0; v < kVectors; ++v)
        acc[p][v] = F32Lanes::fma(F32Lanes::load(x + v * kWidth), w[v], acc[p][v]);
    }
  }
  for (size_t p = 0; p < kPixels; ++p) {
    for (size_t v = 0; v < kVectors; ++v) {
      const size_t column = first + v * kWidth;
      F32Lanes::store(y + p * channels + column, finish_f32(acc[p][v], e, column));
    }
  }
}

/// Tiles of 3 pixels x 4 vectors: 12 accumulators + 4 of weights, products of memory operands.
void depthwise_f32(size_t pixels, size_t channels, size_t taps, const float* const* source,
                   const float* weights, const FloatEpilogue& e, float* y) {
  constexpr size_t kWidth = F32Lanes::kWidth;
  constexpr size_t kPixels = 3;
  size_t p = 0;
  const auto tile = [&](auto count) {
    constexpr size_t kCount = decltype(count)::value;
    const float* const* taps_of = source + p * taps;
    float* out = y + p * channels;
    size_t c = 0;
    for (; c + 4 * kWidth <= channels; c += 4 * kWidth)
      depthwise_f32_tile<kCount, 4>(c, channels, taps, taps_of, weights, e, out);
    for (; c + kWidth <= channels; c += kWidth)
      depthwise_f32_tile<kCount, 1>(c, channels, taps, taps_of, weights, e, out);
    for (; c < channels; ++c) {
      for (size_t q = 0; q < kCount; ++q) {
        float sum = 0.0f;
        for (size_t t = 0; t < taps; ++t)
          sum = fused_multiply_add(taps_of[q * taps + t][c], weights[t * channels + c], sum);
        if (e.bias != nullptr) sum += e.bias[c];
        out[q * channels + c] = clamp_keep_nan(sum, e.lo, e.hi);
      }
    }
  };
  for (; p + kPixels <= pixels; p += kPixels) tile(Constant<kPixels>{});
  for (; p < pixels; ++p) tile(Constant<1>{});
}

// --------------------------------------------------------------------------------------------------------------------
// Float elementwise.

template <class Op>
inline void map(size_t n, const float* x, float* y, Op op) {
  Q8_INDEPENDENT
  for (size_t i = 0; i < n; ++i) y[i] = op(x[i]);
}

void unary(UnaryKind kind, size_t n, const float* x, float alpha, float beta, float* y) {
  switch (kind) {
    case UnaryKind::kAbs:
      return map(n, x, y, [](float v) { return bits_to_float(float_to_bits(v) & 0x7fffffff); });
    case UnaryKind::kNeg:
      return map(n, x, y, [](float v) { return -v; });
    case UnaryKind::kRelu:
      return map(n, x, y, [](float v) { return v < 0.0f ? 0.0f : v; });
    case UnaryKind::kLeakyRelu:
      return map(n, x, y, [alpha](float v) {
        const float scaled = alpha * v;
        return v < 0.0f ? scaled : v;
      });
    case UnaryKind::kClip:
      return map(n, x, y, [alpha, beta](float v) { return clamp_keep_nan(v, alpha, beta); });
    case UnaryKind::kSigmoid:
      return map(n, x, y, sigmoid_f32);
    case UnaryKind::kHardSigmoid:
      return map(n, x, y,
                 [alpha, beta](float v) { return clamp_keep_nan(alpha * v + beta, 0.0f, 1.0f); });
    case UnaryKind::kHardSwish:
      return map(n, x, y,
                 [](float v) { return v * clamp_keep_nan(v * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f); });
    case UnaryKind::kTanh:
      return map(n, x, y, tanh_f32);
    case UnaryKind::kExp:
      return map(n, x, y, exp_f32);
    case UnaryKind::kLog:
      return map(n, x, y, log_f32);
    case UnaryKind::kSqrt:
      return map(n, x, y, [](float v) { return sqrtf(v); });
    case UnaryKind::kReciprocal:
      return map(n, x, y, [](float v) { return 1.0f / v; });
    case UnaryKind::kErf:
      return map(n, x, y, erf_f32);
    case UnaryKind::kGelu:
      return map(n, x, y, [](float v) { return (0.5f * v) * (1.0f + erf_f32(v * 0.707106781f)); });
    case UnaryKind::kGeluTanh:
      return map(n, x, y, [](float v) {
        const float inner = 0.797884561f * (v + 0.044715f * (v * v * v));
        return (0.5f * v) * (1.0f + tanh_f32(inner));
      });
    case UnaryKind::kElu:
      return map(n, x, y, [alpha](float v) {
        const float scaled = alpha * (exp_f32(v) - 1.0f);
        return v < 0.0f ? scaled : v;
      });
    case UnaryKind::kSoftplus:
      return map(n, x, y, softplus_f32);
    case UnaryKind::kFloor:
      return map(n, x, y, [](float v) { return floorf(v); });
    case UnaryKind::kCeil:
      return map(n, x, y, [](float v) { return ceilf(v); });
    case UnaryKind::kRound:
      return map(n, x, y, [](float v) {
        const float magnitude = bits_to_float(float_to_bits(v) & 0x7fffffff);
        // 2^23 and above (and NaN) have no fraction. The sign is put back for -0.
        const float rounded = (magnitude + 8388608.0f) - 8388608.0f;
        const float with_sign =
            bits_to_float(float_to_bits(rounded) | (float_to_bits(v) & INT32_MIN));
        return magnitude < 8388608.0f ? with_sign : v;
      });
    case UnaryKind::kSilu:
      return map(n, x, y, [](float v) { return v / (1.0f + exp_f32(-v)); });
  }
}

template <class Op>
void binary_with(Op op, size_t n, const float* a, ptrdiff_t a_step, const float* b,
                 ptrdiff_t b_step, float* y) {
  if (a_step == 1 && b_step == 1) {
    Q8_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = op(a[i], b[i]);
  } else if (a_step == 1 && b_step == 0) {
    const float vb = b[0];
    Q8_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = op(a[i], vb);
  } else if (a_step == 0 && b_step == 1) {
    const float va = a[0];
    Q8_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = op(va, b[i]);
  } else {
    for (size_t i = 0; i < n; ++i) {
      y[i] = op(a[static_cast<ptrdiff_t>(i) * a_step], b[static_cast<ptrdiff_t>(i) * b_step]);
    }
  }
}

void binary(BinaryKind kind, size_t n, const float* a, ptrdiff_t a_step, const float* b,
            ptrdiff_t b_step, float* y) {
  const auto run = [&](auto op) { binary_with(op, n, a, a_step, b, b_step, y); };
  switch (kind) {
    case BinaryKind::kAdd:
      return run([](float u, float v) { return u + v; });
    case BinaryKind::kSub:
      return run([](float u, float v) { return u - v; });
    case BinaryKind::kMul:
      return run([](float u, float v) { return u * v; });
    case BinaryKind::kDiv:
      return run([](float u, float v) { return u / v; });
    // NaN in either operand gives NaN.
    case BinaryKind::kMin:
      return run([](float u, float v) {
        const float least = u < v ? u : v;
        return u == u ? least : u;
      });
    case BinaryKind::kMax:
      return run([](float u, float v) {
        const float most = u > v ? u : v;
        return u == u ? most : u;
      });
    case BinaryKind::kPow:
      if (b_step == 0 && b[0] == 2.0f) return run([](float u, float) { return u * u; });
      if (b_step == 0 && b[0] == 0.5f)
        return run([](float u, float) { return u == -INFINITY ? INFINITY : sqrtf(u + 0.0f); });
      return run(pow_f32);
    case BinaryKind::kPrelu:
      return run([](float u, float v) {
        const float scaled = u * v;
        return u < 0.0f ? scaled : u;
      });
  }
}

// --------------------------------------------------------------------------------------------------------------------
// Rows.

constexpr size_t kPartials = 16;

/// Folds f(x[i]) into kPartials interleaved accumulators and these in halves: an order that no
/// vector width changes.
template <class Map, class Fold>
inline float fold_row(size_t n, const float* x, float identity, Map f, Fold fold) {
  float part[kPartials];
  for (size_t j = 0; j < kPartials; ++j) part[j] = identity;
  size_t i = 0;
  for (; i + kPartials <= n; i += kPartials) {
    for (size_t j = 0; j < kPartials; ++j) part[j] = fold(part[j], f(x[i + j]));
  }
  for (size_t j = 0; i < n; ++i, ++j) part[j] = fold(part[j], f(x[i]));
  for (size_t width = kPartials / 2; width > 0; width /= 2) {
    for (size_t j = 0; j < width; ++j) part[j] = fold(part[j], part[j + width]);
  }
  return part[0];
}

inline float same(float v) { return v; }
inline float plus(float a, float b) { return a + b; }

void softmax(size_t n, const float* x, float* y) {
  const float top = fold_row(n, x, -INFINITY, same, select_max);
  map(n, x, y, [top](float v) { return exp_f32(v - top); });
  const float sum = fold_row(n, y, 0.0f, same, plus);
  map(n, y, y, [sum](float v) { return v / sum; });
}

void softmax_columns(size_t axis, size_t stride, size_t n, const float* x, float* y) {
  float top[kColumnBlock];
  float sum[kColumnBlock] = {};
  for (size_t c = 0; c < n; ++c) top[c] = -INFINITY;
  for (size_t a = 0; a < axis; ++a) {
    const float* row = x + a * stride;
    for (size_t c = 0; c < n; ++c) top[c] = select_max(top[c], row[c]);
  }
  for (size_t a = 0; a < axis; ++a) {
    const float* row = x + a * stride;
    float* out = y + a * stride;
    Q8_INDEPENDENT
    for (size_t c = 0; c < n; ++c) {
      const float e = exp_f32(row[c] - top[c]);
      out[c] = e;
      sum[c] += e;
    }
  }
  for (size_t a = 0; a < axis; ++a) {
    float* out = y + a * stride;
    Q8_INDEPENDENT
    for (size_t c = 0; c < n; ++c) out[c] = out[c] / sum[c];
  }
}

float reduce(ReduceKind kind, size_t n, const float* x) {
  switch (kind) {
    case ReduceKind::kMean:
      return fold_row(n, x, 0.0f, same, plus) / static_cast<float>(n);
    case ReduceKind::kSum:
      return fold_row(n, x, 0.0f, same, plus);
    case ReduceKind::kMax:
      return fold_row(n, x, -INFINITY, same, select_max);
    default:
      return fold_row(n, x, INFINITY, same, select_min);
  }
}

template <class Fold>
inline void fold_columns(size_t axis, size_t stride, size_t n, const float* x, float identity,
                         float* y, Fold fold) {
  for (size_t c = 0; c < n; ++c) y[c] = identity;
  for (size_t a = 0; a < axis; ++a) {
    const float* row = x + a * stride;
    Q8_INDEPENDENT
    for (size_t c = 0; c < n; ++c) y[c] = fold(y[c], row[c]);
  }
}

void reduce_columns(ReduceKind kind, size_t axis, size_t stride, size_t n, const float* x,
                    float* y) {
  switch (kind) {
    case ReduceKind::kMax:
      return fold_columns(axis, stride, n, x, -INFINITY, y, select_max);
    case ReduceKind::kMin:
      return fold_columns(axis, stride, n, x, INFINITY, y, select_min);
    default:
      break;
  }
  fold_columns(axis, stride, n, x, 0.0f, y, plus);
  if (kind != ReduceKind::kMean) return;
  const float count = static_cast<float>(axis);
  map(n, y, y, [count](float v) { return v / count; });
}

void layer_norm(size_t n, const float* x, const float* scale, const float* bias, float epsilon,
                float* y) {
  const float count = static_cast<float>(n);
  const float mean = fold_row(n, x, 0.0f, same, plus) / count;
  const auto squared_distance = [mean](float v) { return (v - mean) * (v - mean); };
  const float variance = fold_row(n, x, 0.0f, squared_distance, plus) / count;
  const float inverse = 1.0f / sqrtf(variance + epsilon);
  if (bias == nullptr) {
    Q8_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = ((x[i] - mean) * inverse) * scale[i];
  } else {
    Q8_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = ((x[i] - mean) * inverse) * scale[i] + bias[i];
  }
}

// --------------------------------------------------------------------------------------------------------------------
// Copies.

/// Square blocks keep the lines of both sides in the first-level cache.
template <class T>
inline void transpose(size_t rows, size_t cols, const T* x, size_t x_stride, T* y,
                      size_t y_stride) {
  constexpr size_t kBlock = 64 / sizeof(T) > 32 ? 32 : 64 / sizeof(T);
  for (size_t r0 = 0; r0 < rows; r0 += kBlock) {
    const size_t r1 = rows - r0 < kBlock ? rows : r0 + kBlock;
    for (size_t c0 = 0; c0 < cols; c0 += kBlock) {
      const size_t c1 = cols - c0 < kBlock ? cols : c0 + kBlock;
      for (size_t c = c0; c < c1; ++c) {
        for (size_t r = r0; r < r1; ++r) y[c * y_stride + r] = x[r * x_stride + c];
      }
    }
  }
}

/// A square of bytes as wide as the room's vectors: rows i and i + kWidth / 2 are zipped, and
/// again, until every byte has changed sides.
template <class Lanes>
inline void transpose_square(const uint8_t* x, size_t x_stride, uint8_t* y, size_t y_stride) {
  constexpr size_t kWidth = Lanes::kWidth;
  typename Lanes::V rows[kWidth];
  typename Lanes::V zipped[kWidth];
  for (size_t r = 0; r < kWidth; ++r) rows[r] = Lanes::load(x + r * x_stride);
  for (size_t done = 1; done < kWidth; done *= 2) {
    for (size_t r = 0; r < kWidth / 2; ++r) {
      zipped[2 * r] = Lanes::zip_low(rows[r], rows[r + kWidth / 2]);
      zipped[2 * r + 1] = Lanes::zip_high(rows[r], rows[r + kWidth / 2]);
    }
    for (size_t r = 0; r < kWidth; ++r) rows[r] = zipped[r];
  }
  for (size_t r = 0; r < kWidth; ++r) Lanes::store(y + r * y_stride, rows[r]);
}

template <class Lanes>
void transpose_bytes(size_t rows, size_t cols, const uint8_t* x, size_t x_stride, uint8_t* y,
                     size_t y_stride) {
  constexpr size_t kWidth = Lanes::kWidth;
  if constexpr (kWidth == 1) {
    transpose(rows, cols, x, x_stride, y, y_stride);
  } else {
    const size_t square_rows = rows / kWidth * kWidth;
    const size_t square_cols = cols / kWidth * kWidth;
    for (size_t r = 0; r < square_rows; r += kWidth) {
      for (size_t c = 0; c < square_cols; c += kWidth)
        transpose_square<Lanes>(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
    }
    transpose(square_rows, cols - square_cols, x + square_cols, x_stride,
              y + square_cols * y_stride, y_stride);
    transpose(rows - square_rows, cols, x + square_rows * x_stride, x_stride, y + square_rows,
              y_stride);
  }
}

/// Interleaves kRows dense rows, as many as an image has colours: compilers know this pattern,
/// while blocks of the general transposition would be mostly empty.
template <size_t kRows>
inline void interleave_rows(size_t cols, const uint8_t* x, size_t x_stride, uint8_t* y) {
  Q8_INDEPENDENT
  for (size_t c = 0; c < cols; ++c) {
    for (size_t r = 0; r < kRows; ++r) y[c * kRows + r] = x[r * x_stride + c];
  }
}

void transpose_8(size_t rows, size_t cols, const uint8_t* x, size_t x_stride, uint8_t* y,
                 size_t y_stride) {
  if (rows == y_stride && rows == 3) return interleave_rows<3>(cols, x, x_stride, y);
  if (rows == y_stride && rows == 4) return interleave_rows<4>(cols, x, x_stride, y);
  transpose_bytes<ByteLanes>(rows, cols, x, x_stride, y, y_stride);
}
void transpose_32(size_t rows, size_t cols, const uint32_t* x, size_t x_stride, uint32_t* y,
                  size_t y_stride) {
  transpose(rows, cols, x, x_stride, y, y_stride);
}

constexpr VectorKernels kVectorKernels = {
    quantize,
    quantize_columns,
    dequantize,
    dequantize_columns,
    dequantize_s32,
    dequantize_s32_columns,
    lut<CodeLanes>,
    qbinary,
    choose_qbinary_fused<FusedLanes>(),
    sum_rows,
    qaverage_pool,
    average_pool,
    max_pool_u8,
    max_pool_s8,
    max_pool_f32,
    weighted_sum,
    F32Lanes::kRows,
    F32Lanes::kPanels,
    gemm_f32<F32Lanes::kRows>,
    depthwise_f32,
    unary,
    binary,
    softmax,
    softmax_columns,
    reduce,
    reduce_columns,
    layer_norm,
    transpose_8,
    transpose_32,
};

}  // namespace
}  // namespace q8

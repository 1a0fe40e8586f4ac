// SPDX-License-Identifier: MIT
/// The executor's vector operators and float GEMM in the kernel table: one implementation in
/// common/vector-inl.h, compiled into each room with its flags. Written so that every ISA gives the
/// same bits: fixed order of float operations, explicit fused multiply-adds only in the float GEMM
/// and convolutions, own transcendental functions instead of libm.
///
/// Codes of 8-bit tensors travel as bytes. `flip` (0x80 for int8, 0 for uint8) is xored into each
/// code read, which makes it unsigned; the zero points given are then those of the flipped codes
/// (zero_point + 128 for int8), so that q - zp is unchanged. Elementwise kernels may run in place
/// (y == x, equal element sizes).
#pragma once

#include <cstddef>
#include <cstdint>

namespace q8 {

enum class UnaryKind : uint8_t {
  kAbs,
  kNeg,
  kRelu,
  kLeakyRelu,
  kClip,
  kSigmoid,
  kHardSigmoid,
  kHardSwish,
  kTanh,
  kExp,
  kLog,
  kSqrt,
  kReciprocal,
  kErf,
  kGelu,
  kGeluTanh,
  kElu,
  kSoftplus,
  kFloor,
  kCeil,
  kRound,
  kSilu,
};

enum class BinaryKind : uint8_t { kAdd, kSub, kMul, kDiv, kMin, kMax, kPow, kPrelu };

enum class ReduceKind : uint8_t { kMean, kSum, kMax, kMin };

/// float32 -> code: round_half_even(clamp(x / scale, lo, hi)) + zero_point, stored as a byte (two's
/// complement for int8). lo and hi are the bounds of the type relative to zero_point. NaN gives lo.
struct QuantizeParams {
  float scale;
  float lo;
  float hi;
  int32_t zero_point;
};

/// An 8-bit operand: value = ((code ^ flip) - zero_point) * scale, where zero_point is that of the
/// flipped codes.
struct CodeParams {
  float scale;
  int32_t zero_point;
  uint8_t flip;
};

/// What happens to float sums before they are stored: y = clamp(sum + bias, lo, hi), NaN kept.
struct FloatEpilogue {
  /// One value per column (in whole panels) or channel; null = none.
  const float* bias;
  float lo;
  float hi;
};

/// Add, Sub or Mul of codes with one rounding: y = saturate(round_half_even(v)), where
/// v = fma(a, a_factor, fma(b, b_factor, offset)) or, for a product,
/// v = fma((a - a_zero) * (b - b_zero), a_factor, offset). Codes count as their type has them, both
/// operands alike; |v| must stay below 2^31.
struct FusedParams {
  bool is_product;
  bool is_signed;
  bool y_signed;
  float a_factor;
  float b_factor;
  float offset;
  float a_zero;
  float b_zero;
};

struct VectorKernels {
  // Quantization.
  void (*quantize)(size_t n, const float* x, const QuantizeParams& params, uint8_t* y);
  /// Element i has its own scale and zero point; min and max are the bounds of the type.
  void (*quantize_columns)(size_t n, const float* x, const float* scale, const int32_t* zero_point,
                           int32_t min, int32_t max, uint8_t* y);
  void (*dequantize)(size_t n, const uint8_t* x, const CodeParams& params, float* y);
  void (*dequantize_columns)(size_t n, const uint8_t* x, uint8_t flip, const float* scale,
                             const int32_t* zero_point, float* y);
  /// The subtraction of the zero point wraps.
  void (*dequantize_s32)(size_t n, const int32_t* x, float scale, int32_t zero_point, float* y);
  void (*dequantize_s32_columns)(size_t n, const int32_t* x, const float* scale,
                                 const int32_t* zero_point, float* y);
  void (*lut)(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y);
  /// Steps of a and b are in elements, usually 0 or 1 (which are fast).
  void (*qbinary)(BinaryKind kind, size_t n, const uint8_t* a, ptrdiff_t a_step,
                  const CodeParams& a_params, const uint8_t* b, ptrdiff_t b_step,
                  const CodeParams& b_params, const QuantizeParams& y_params, uint8_t* y);
  /// Null where it would bring nothing.
  void (*qbinary_fused)(size_t n, const uint8_t* a, const uint8_t* b, const FusedParams& params,
                        uint8_t* y);

  // Pooling. `source` has one pointer per tap, each to `channels` elements.
  /// sum[c] += sum over rows of (x[row * stride + c] ^ flip), wrapping.
  void (*sum_rows)(size_t rows, size_t channels, size_t stride, const uint8_t* x, uint8_t flip,
                   int32_t* sum);
  /// y = quantize(S / divisor), S the sequential float32 sum of dequantized taps.
  void (*qaverage_pool)(size_t channels, size_t taps, const uint8_t* const* source,
                        const CodeParams& x_params, float divisor, const QuantizeParams& y_params,
                        uint8_t* y);
  void (*average_pool)(size_t channels, size_t taps, const float* const* source, float divisor,
                       float* y);
  void (*max_pool_u8)(size_t channels, size_t taps, const uint8_t* const* source, uint8_t* y);
  void (*max_pool_s8)(size_t channels, size_t taps, const int8_t* const* source, int8_t* y);
  void (*max_pool_f32)(size_t channels, size_t taps, const float* const* source, float* y);
  /// y = sum of weights[t] * source[t]: fma in the order of taps, from 0.
  void (*weighted_sum)(size_t channels, size_t taps, const float* const* source,
                       const float* weights, float* y);

  // Float GEMM and convolution. Each result is fma over k in order from 0, then the epilogue.
  /// Rows and panels of 16 columns of a tile of gemm_f32.
  size_t gemm_f32_rows;
  size_t gemm_f32_panels;
  /// C[rows x cols], rows <= gemm_f32_rows, cols <= 16 * gemm_f32_panels. Row r of A is `segments`
  /// runs of `segment` floats, source[r * segments + s], read in place. `b`: panels of k = segments
  /// * segment rows of 16 floats, one after the other.
  void (*gemm_f32)(size_t rows, size_t cols, size_t segments, size_t segment,
                   const float* const* source, const float* b, const FloatEpilogue& epilogue,
                   float* c, size_t ldc);
  /// source[p * taps + t] points to the channels of tap t of pixel p; weights are [taps][channels].
  /// Pixels of y are `channels` apart.
  void (*depthwise_f32)(size_t pixels, size_t channels, size_t taps, const float* const* source,
                        const float* weights, const FloatEpilogue& epilogue, float* y);

  // Float elementwise. Transcendental functions are within 4 ulp unless the result is denormal;
  // gelu of negative numbers, which cancels, is within 1e-6 absolutely.
  void (*unary)(UnaryKind kind, size_t n, const float* x, float alpha, float beta, float* y);
  /// Steps as in qbinary.
  void (*binary)(BinaryKind kind, size_t n, const float* a, ptrdiff_t a_step, const float* b,
                 ptrdiff_t b_step, float* y);

  // Rows. Sums along a contiguous axis use 16 interleaved partial sums, folded in halves at the
  // end.
  void (*softmax)(size_t n, const float* x, float* y);
  /// Softmax over `axis` rows that are `stride` elements apart, for each of n <= kColumnBlock
  /// columns.
  void (*softmax_columns)(size_t axis, size_t stride, size_t n, const float* x, float* y);
  float (*reduce)(ReduceKind kind, size_t n, const float* x);
  /// y[c] = reduction over `axis` rows of x[row * stride + c].
  void (*reduce_columns)(ReduceKind kind, size_t axis, size_t stride, size_t n, const float* x,
                         float* y);
  void (*layer_norm)(size_t n, const float* x, const float* scale, const float* bias, float epsilon,
                     float* y);

  // Copies. y[c * y_stride + r] = x[r * x_stride + c] for r < rows, c < cols; strides in elements.
  void (*transpose_8)(size_t rows, size_t cols, const uint8_t* x, size_t x_stride, uint8_t* y,
                      size_t y_stride);
  void (*transpose_32)(size_t rows, size_t cols, const uint32_t* x, size_t x_stride, uint32_t* y,
                       size_t y_stride);
};

/// Columns per call of softmax_columns.
inline constexpr size_t kColumnBlock = 64;

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Packing of A and B, the same source for every ISA: the loops are plain and the compiler
/// vectorises them with the flags of the room. Included once by kernels/<isa>/gemm.cc after
/// Q8_TARGET is defined as the room's namespace.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/common/independent-inl.h"
#include "kernels/gemm_kernels.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// kCount bytes at once. The pragma says that they do not overlap; without it the compiler goes
/// byte by byte, and by way of a local array it spills every vector to the stack.
template <size_t kCount, typename Element>
inline void flip_fixed(const uint8_t* in, uint8_t flip, Element* out) {
  Q8_INDEPENDENT
  for (size_t i = 0; i < kCount; ++i) out[i] = static_cast<Element>(in[i] ^ flip);
}

/// Copies `count` bytes xored with flip. What is left after whole blocks is done by a block that
/// overlaps the one before: segments of a convolution are short, and a tail byte by byte would cost
/// as much as the product.
template <typename Element>
inline void flip_bytes(const uint8_t* in, size_t count, uint8_t flip, Element* out) {
  constexpr size_t kBlock = 16;
  if (count >= kBlock) {
    size_t i = 0;
    for (; i + kBlock <= count; i += kBlock) flip_fixed<kBlock>(in + i, flip, out + i);
    if (i < count) flip_fixed<kBlock>(in + count - kBlock, flip, out + count - kBlock);
  } else if (count >= kBlock / 2) {
    flip_fixed<kBlock / 2>(in, flip, out);
    flip_fixed<kBlock / 2>(in + count - kBlock / 2, flip, out + count - kBlock / 2);
  } else {
    for (size_t i = 0; i < count; ++i) out[i] = static_cast<Element>(in[i] ^ flip);
  }
}

/// Sum of k elements of packed A.
template <typename Element>
inline int32_t sum_row(const Element* row, size_t k) {
  uint32_t sum = 0;
  for (size_t i = 0; i < k; ++i) sum += static_cast<uint32_t>(row[i]);
  return static_cast<int32_t>(sum);
}

/// GemmKernels::sum_a with sum_row of the type.
template <typename Element>
void sum_a(size_t rows, size_t segments, size_t segment, const uint8_t* const* source,
           int32_t* row_sum) {
  for (size_t r = 0; r < rows; ++r) {
    uint32_t sum = 0;
    for (size_t s = 0; s < segments; ++s) {
      const void* run = source[r * segments + s];
      sum += static_cast<uint32_t>(sum_row(static_cast<const Element*>(run), segment));
    }
    row_sum[r] = static_cast<int32_t>(sum);
  }
}

/// GemmKernels::pack_a for canonical u8 A stored as Element (uint8_t, or int16_t for multiply-adds
/// of 16-bit pairs).
template <typename Element, size_t kKr>
void pack_a(size_t rows, size_t segments, size_t segment_bytes, const uint8_t* const* source,
            uint8_t flip, void* dst, size_t dst_stride, int32_t* row_sum) {
  const size_t k = segments * segment_bytes;
  const size_t padded_k = (k + kKr - 1) / kKr * kKr;
  for (size_t r = 0; r < rows; ++r) {
    Element* const row = reinterpret_cast<Element*>(static_cast<uint8_t*>(dst) + r * dst_stride);
    Element* out = row;
    for (size_t s = 0; s < segments; ++s) {
      const uint8_t* in = source[r * segments + s];
      flip_bytes(in, segment_bytes, flip, out);
      out += segment_bytes;
    }
    for (size_t i = k; i < padded_k; ++i) row[i] = 0;
    if (row_sum != nullptr) row_sum[r] = sum_row(row, k);
  }
}

/// Writes one packed row: kKr source rows of 16 columns each, interleaved to [column][k].
template <size_t kKr>
inline void interleave(const int8_t (&rows)[kKr][kPanelWidth], int8_t* dst, int32_t* column_sum) {
  for (size_t n = 0; n < kPanelWidth; ++n) {
    for (size_t j = 0; j < kKr; ++j) dst[n * kKr + j] = rows[j][n];
  }
  for (size_t j = 0; j < kKr; ++j) {
    for (size_t n = 0; n < kPanelWidth; ++n) column_sum[n] += rows[j][n];
  }
}

/// GemmKernels::pack_b_panel for canonical s8 B.
template <size_t kKr>
void pack_b_panel(size_t k, size_t columns, const uint8_t* b, size_t stride_k, size_t stride_n,
                  uint8_t flip, int8_t* dst, int32_t* column_sum) {
  for (size_t n = 0; n < kPanelWidth; ++n) column_sum[n] = 0;
  for (size_t k0 = 0; k0 < k; k0 += kKr) {
    int8_t rows[kKr][kPanelWidth] = {};
    const size_t live = k - k0 < kKr ? k - k0 : kKr;
    const uint8_t* in = b + k0 * stride_k;
    if (columns == kPanelWidth && stride_n == 1) {
      for (size_t j = 0; j < live; ++j) {
        for (size_t n = 0; n < kPanelWidth; ++n)
          rows[j][n] = static_cast<int8_t>(in[j * stride_k + n] ^ flip);
      }
    } else {
      for (size_t n = 0; n < columns; ++n) {
        for (size_t j = 0; j < live; ++j) {
          rows[j][n] = static_cast<int8_t>(in[j * stride_k + n * stride_n] ^ flip);
        }
      }
    }
    interleave<kKr>(rows, dst, column_sum);
    dst += kKr * kPanelWidth;
  }
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

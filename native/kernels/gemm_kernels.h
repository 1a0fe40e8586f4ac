// SPDX-License-Identifier: MIT
/// GEMM part of the kernel table: what an instruction set provides so that gemm/ and conv/ can
/// multiply.
///
/// Canonical operands. Each ISA multiplies one signedness only: on x86 A is u8 and B is s8. Other
/// type pairs become these by xor 0x80 when packing, with the zero point moved by 128, which leaves
/// the real value (q - z) unchanged. With canonical a, b, za, zb:
///   sum_k (a - za)(b - zb) = sum_k a*b - za*colsum(b) - zb*rowsum(a) + K*za*zb
/// The first term is the kernel's; -za*colsum + K*za*zb and the user's bias are folded into one
/// int32 bias per column by the driver; -zb*rowsum is added in the epilogue, only when some zb is
/// not 0. All of it is arithmetic modulo 2^32.
///
/// Packed B ("K{kr}N16"): panels of 16 columns; a panel is K/kr rows (K padded with zeros to kr), a
/// row is 16 columns x kr consecutive k, as bytes [column][k]. Every tile width is a multiple of a
/// panel.
///
/// No STL types with code, no exceptions, no allocation here: the rooms are compiled with ISA flags
/// (see isa_list.inc).
#pragma once

#include <cstddef>
#include <cstdint>

namespace q8 {

inline constexpr size_t kPanelWidth = 16;

enum class OutKind : uint8_t { kS32, kF32, kU8, kS8 };

/// What happens to the accumulators of a tile before they are stored. Column arrays point at the
/// tile's first column and are readable up to the next multiple of 16 columns.
struct Epilogue {
  OutKind kind;
  /// Added to the accumulator (wrapping). Never null.
  const int32_t* bias;
  /// When not null: acc -= b_zero_point[column] * row_sum[row] (wrapping), before the bias.
  const int32_t* b_zero_point;
  const int32_t* row_sum;
  /// kF32: y = acc * scale + float_bias, rounded after each operation. kU8, kS8: the requantization
  /// multiplier.
  const float* scale;
  /// kF32 only; null = none.
  const float* float_bias;
  /// kU8, kS8: q = round_half_even(min(max(acc * scale, lo), hi)) + zero_point; lo and hi are min -
  /// zp and max - zp.
  float lo;
  float hi;
  int32_t zero_point;
};

/// C[rows x cols] = epilogue(A[rows x k] * B). rows <= tile.mr, cols <= tile.nr; any value from 1
/// up. `a`: first row of A in the form `a_element_bytes` says, rows `lda` BYTES apart. In-place u8
/// A is read exactly k bytes a row, never more. `b`: first panel; panels are `panel_stride` bytes
/// apart. `c`: rows `ldc` ELEMENTS apart; exactly rows x cols elements are written. k may be 0 (the
/// accumulators are then 0).
using GemmTileFn = void (*)(size_t rows, size_t cols, size_t k, const void* a, size_t lda,
                            const int8_t* b, size_t panel_stride, const Epilogue& epilogue, void* c,
                            size_t ldc);

struct GemmTile {
  const char* name;  // "8x48", for cpuinfo and profiles
  uint16_t mr;
  uint16_t nr;  // multiple of kPanelWidth
  GemmTileFn run;
};

/// Gathers rows of A into packed form: row r is the concatenation of `segments` runs of
/// `segment_bytes` bytes at source[r * segments + s]; each byte is xored with `flip` (0 or 0x80).
/// Row r is written at dst + r * dst_stride (bytes), zero-padded to a multiple of kr elements. When
/// row_sum is not null, row_sum[r] is the sum of the canonical row. Rooms whose tiles cannot read A
/// in place may interleave the rows of a call; the whole stays within rows * dst_stride.
using PackAFn = void (*)(size_t rows, size_t segments, size_t segment_bytes,
                         const uint8_t* const* source, uint8_t flip, void* dst, size_t dst_stride,
                         int32_t* row_sum);

/// Packs `columns` (1..16) columns of B into one panel: element (k, n) of the source is b[k *
/// stride_k + n * stride_n], xored with `flip`. Writes round_up(K, kr) * 16 bytes and the 16 column
/// sums of canonical values (0 for absent columns).
using PackBPanelFn = void (*)(size_t k, size_t columns, const uint8_t* b, size_t stride_k,
                              size_t stride_n, uint8_t flip, int8_t* dst, int32_t* column_sum);

struct GemmKernels {
  /// Interleave of k in packed B, and multiple to which a packed row of A is padded.
  uint16_t kr;
  /// Bytes of an element of packed A: 1, or 2 where the tiles read int16.
  uint16_t a_element_bytes;
  /// Whether the tiles also read canonical A in place, row-major. Otherwise only what pack_a of the
  /// room wrote.
  bool a_in_place;
  /// Signedness of canonical A.
  bool a_signed;
  PackAFn pack_a;
  PackBPanelFn pack_b_panel;
  /// Ordered by mr, largest first. The driver picks by M and N (gemm/tile_choice).
  const GemmTile* tiles;
  size_t tile_count;
  /// Dot products per call of the register-only peak loop; see peak_loop. Runs `iterations` rounds
  /// of the tile's multiply-accumulate instructions on registers and returns the multiply-adds
  /// (MACs) done per round.
  size_t (*peak_loop)(size_t iterations);
};

}  // namespace q8

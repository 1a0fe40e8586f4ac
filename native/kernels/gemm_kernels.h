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
/// Packed B ("K{kr}N16"): panels of 16 columns; a panel is rows of 16 columns x kr consecutive k,
/// as bytes [column][k]; K is padded with zeros to kr or, where a room's k_multiple is more, to
/// that. Every tile width is a multiple of a panel.
///
/// Bounded weights. Without VNNI the fastest multiply-add is VPMADDUBSW, which saturates sums of
/// two products at 16 bits. A room may offer a second form that uses it; the driver chooses it only
/// for weights of which it has proven, when packing, that no pair saturates whatever A is. A pair
/// that might is split in two, and what is taken away from it stands in a row of its own
/// (PanelFix).
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
  /// kU8, kS8: scales are at least 0 and below 1, so that acc * scale fits int32. May be left
  /// unset.
  bool scales_below_one = false;
};

/// Rows of A for one tile. A row is one run of k elements or, if `segments` is more than 1, the
/// concatenation of so many runs of `segment` ELEMENTS, a multiple of kr.
struct TileA {
  /// The first row, in the form that `a_element_bytes` says, rows `lda` BYTES and runs of a row
  /// `run_stride` BYTES apart.
  const void* data;
  size_t lda;
  /// If not null, and the tile takes segments: where the runs are instead, run s of row r at
  /// source[r * segments + s].
  const uint8_t* const* source;
  size_t segments;
  size_t segment;
  size_t run_stride = 0;
  /// Each row is readable up to the next multiple of k_multiple.
  bool is_padded = false;
};

/// What a panel of bounded weights lacks: `count` further rows of packed B, of which row i
/// multiplies the kr elements of A from step[i] * kr on. Steps ascend.
struct PanelFix {
  const uint32_t* step;
  const int8_t* rows;
  size_t count;
};

/// Panels of packed B, `panel_stride` bytes apart. `fix` is null or has one entry for each panel.
/// A kernel may fetch what lies `ahead` bytes from each line that it reads into the second-level
/// cache; 0 if nothing is worth it. No byte there may be read.
struct TileB {
  const int8_t* data;
  size_t panel_stride;
  const PanelFix* fix;
  ptrdiff_t ahead = 0;
};

/// C[rows x cols] = epilogue(A[rows x k] * B). 1 <= rows <= tile.mr, or more if it takes blocks;
/// cols from 1 up: a call walks along all tiles of a strip of rows, which costs less than a call
/// for each. In-place A is read exactly k bytes a row, never more. `c`: rows `ldc` ELEMENTS apart;
/// exactly rows x cols elements are written. k may be 0 (the accumulators are then 0).
using GemmTileFn = void (*)(size_t rows, size_t cols, size_t k, const TileA& a, const TileB& b,
                            const Epilogue& epilogue, void* c, size_t ldc);

struct GemmTile {
  const char* name;  // "8x48", for cpuinfo and profiles
  uint16_t mr;
  uint16_t nr;  // multiple of kPanelWidth
  GemmTileFn run;
  /// Whether it takes rows as segments. Not where their pointers do not fit into registers, or
  /// where A must be packed.
  bool takes_segments;
  /// Whether a call takes any number of rows and walks along them itself.
  bool takes_blocks = false;
};

/// Where the multiply-add takes 16-bit operands, B is widened on load; a panel that several strips
/// of rows share may be widened once instead.
struct WideTile {
  /// Writes `count` elements of packed B as those of packed A.
  void (*widen)(size_t count, const int8_t* from, void* to);
  /// As the run of the first tile, but for one widened panel: at most kPanelWidth columns.
  GemmTileFn run;
};

/// Gathers rows of A into packed form: row r is the concatenation of `segments` runs of
/// `segment_bytes` bytes at source[r * segments + s]; each byte is xored with `flip` (0 or 0x80).
/// Row r is written at dst + r * dst_stride (bytes), zero-padded to padded_k() elements. When
/// row_sum is not null, row_sum[r] is the sum of the canonical row. Rooms whose tiles cannot read A
/// in place may interleave the rows of a call; the whole stays within rows * dst_stride.
using PackAFn = void (*)(size_t rows, size_t segments, size_t segment_bytes,
                         const uint8_t* const* source, uint8_t flip, void* dst, size_t dst_stride,
                         int32_t* row_sum);

/// Like PackAFn for rows that overlap, as those of a convolution do: row r is `segments` runs, of
/// which run s begins at first + r * row_bytes + s * run_stride. A line of the cache may be read
/// from the last byte of each run on, and written behind the last row of dst; what follows a row in
/// its padding is not 0, but the weights are.
using PackRunsFn = void (*)(size_t rows, size_t segments, size_t segment_bytes,
                            const uint8_t* first, size_t row_bytes, size_t run_stride, void* dst,
                            size_t dst_stride, int32_t* row_sum);

/// Sums of rows of A in the form that the tiles read: row r is `segments` runs of `segment`
/// ELEMENTS at source[r * segments + s]. Exactly these are read.
using SumAFn = void (*)(size_t rows, size_t segments, size_t segment, const uint8_t* const* source,
                        int32_t* row_sum);

/// Packs `columns` (1..16) columns of B into one panel: element (k, n) of the source is b[k *
/// stride_k + n * stride_n], xored with `flip`. Writes padded_k() * 16 bytes and the 16 column sums
/// of canonical values (0 for absent columns).
using PackBPanelFn = void (*)(size_t k, size_t columns, const uint8_t* b, size_t stride_k,
                              size_t stride_n, uint8_t flip, int8_t* dst, int32_t* column_sum);

/// Finds the rows of a packed panel (`steps` of them) in which some pair of weights of a column may
/// saturate a signed 16-bit sum of products with u8: positive parts beyond 128 or negative ones
/// beyond -128. Writes their indices to `found`, which may be null, and returns their number.
using FindUnboundedFn = size_t (*)(size_t steps, const int8_t* panel, uint32_t* found);

/// One form of the GEMM: a layout of packed weights and the tiles that read it.
struct GemmKernels {
  /// The multiply-add, for cpuinfo: "vpdpbusd".
  const char* instruction;
  /// Interleave of k in packed B.
  uint16_t kr;
  /// Bytes of an element of packed A: 1, or 2 where the tiles read int16.
  uint16_t a_element_bytes;
  /// Whether the tiles also read canonical A in place, row-major. Otherwise only what pack_a of the
  /// room wrote.
  bool a_in_place;
  /// Signedness of canonical A.
  bool a_signed;
  PackAFn pack_a;
  /// For rows that need no packing. Null where pack_a interleaves rows.
  SumAFn sum_a;
  PackBPanelFn pack_b_panel;
  /// Ordered by mr, largest first. The driver picks by M and N (gemm/tile_choice).
  const GemmTile* tiles;
  size_t tile_count;
  /// Dot products per call of the register-only peak loop; see peak_loop. Runs `iterations` rounds
  /// of the tile's multiply-accumulate instructions on registers and returns the multiply-adds
  /// (MACs) done per round.
  size_t (*peak_loop)(size_t iterations);
  /// Not null where the tiles are exact only for bounded weights; see FindUnboundedFn.
  FindUnboundedFn find_unbounded;
  /// Null where it brings nothing.
  const WideTile* wide = nullptr;
  /// Multiple of k to which packed A and B are filled with zeros; 0 = kr.
  uint16_t k_multiple = 0;
  /// Multiply-adds that pay for waking a thread: about 10 us, where the wake-up costs about 5.
  size_t macs_per_thread = 1 << 20;
  /// Where rows of A that are read in place should begin, or packing them pays.
  uint16_t a_alignment = 1;
  /// What is faster up to this K, or null.
  const GemmKernels* short_form = nullptr;
  size_t short_k = 0;
  /// The same form, of the same packed B, for A of the other signedness; null if there is none.
  const GemmKernels* signed_a = nullptr;
  /// Null where runs are read in place, or packed like any rows.
  PackRunsFn pack_runs = nullptr;
  /// Time of one K step of `rows` rows and `panels` panels, in units of any size; null where tiles
  /// are made of vectors.
  size_t (*step_cost)(size_t rows, size_t panels) = nullptr;
  /// Not null where a thread has to prepare for tiles: enter() before calls with so many rows, and
  /// leave() behind the last call.
  void (*enter)(size_t rows) = nullptr;
  void (*leave)() = nullptr;

  /// K as it is packed.
  size_t padded_k(size_t k) const {
    const size_t multiple = k_multiple != 0 ? k_multiple : kr;
    return (k + multiple - 1) / multiple * multiple;
  }
  const GemmKernels& for_k(size_t k) const {
    return short_form != nullptr && k <= short_k ? *short_form : *this;
  }
  /// What takes A of that signedness as it is, if there is such a form, or *this.
  const GemmKernels& for_a(bool is_signed) const {
    return is_signed && signed_a != nullptr ? *signed_a : *this;
  }
};

}  // namespace q8

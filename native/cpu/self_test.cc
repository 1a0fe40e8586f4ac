// SPDX-License-Identifier: MIT
#include "cpu/self_test.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/aligned_buffer.h"

namespace q8 {
namespace {

/// Sizes that no tile and no interleave divides.
constexpr size_t kDepth = 99;
/// K as runs of A: kSegments * kSegment.
constexpr size_t kSegments = 2;
constexpr size_t kSegment = 24;
constexpr size_t kColumns = 125;
constexpr size_t kPaddedColumns = 128;
constexpr size_t kChannels = 77;
constexpr size_t kPaddedChannels = 80;
constexpr size_t kKernel = 3;
constexpr size_t kTaps = kKernel * kKernel;
/// More than a rolling window has under way.
constexpr size_t kPixels = 5;

constexpr size_t round_up(size_t a, size_t b) { return (a + b - 1) / b * b; }

size_t output_bytes(OutKind kind) { return kind == OutKind::kU8 || kind == OutKind::kS8 ? 1 : 4; }

enum class Fill { kRandom, kWorst };

/// Codes that repeat from run to run. The worst u8 and s8 products are 255 * -128: their pair sums
/// overflow 16 bits.
std::vector<uint8_t> codes(Fill fill, uint8_t worst, size_t count) {
  std::vector<uint8_t> values(count, worst);
  if (fill == Fill::kWorst) return values;
  uint32_t state = 0x9e3779b9u + worst;
  for (uint8_t& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<uint8_t>(state >> 24);
  }
  return values;
}

/// An output stage for columns, and what its pointers point at.
struct Stage {
  Epilogue epilogue = {};
  std::vector<int32_t> bias;
  std::vector<int32_t> zero_point;
  std::vector<float> scale;

  Stage(OutKind kind, bool zero_points, size_t columns)
      : bias(columns), zero_point(columns), scale(columns) {
    for (size_t n = 0; n < columns; ++n) {
      bias[n] = static_cast<int32_t>(n) * 97 - 5000;
      zero_point[n] = static_cast<int32_t>(n % 256) - 128;
      scale[n] = static_cast<float>(n + 1) / 65536.0f;
    }
    epilogue.kind = kind;
    epilogue.bias = bias.data();
    epilogue.b_zero_point = zero_points ? zero_point.data() : nullptr;
    epilogue.scale = scale.data();
    epilogue.zero_point = 3;
    epilogue.lo = -3;
    epilogue.hi = 252;
  }

  /// Makes up for codes of A that a room reads as a - 128: adds 128 * sum of (b - zero point).
  void add_offset(const std::vector<int32_t>& column_sum, size_t depth) {
    for (size_t n = 0; n < column_sum.size(); ++n) {
      const int32_t zp = epilogue.b_zero_point != nullptr ? zero_point[n] : 0;
      bias[n] += 128 * (column_sum[n] - static_cast<int32_t>(depth) * zp);
    }
  }
};

struct Product {
  Fill fill;
  OutKind kind;
  bool zero_points;
};
constexpr Product kProducts[] = {{Fill::kWorst, OutKind::kS32, false},
                                 {Fill::kRandom, OutKind::kS32, true},
                                 {Fill::kRandom, OutKind::kF32, false},
                                 {Fill::kRandom, OutKind::kU8, false}};

enum class Rows { kPlain, kSegments };

/// rows x kColumns, by strips of one tile. bounded: of halved weights, which suit every form.
std::vector<uint8_t> multiply(const GemmKernels& kernels, const GemmTile& tile,
                              const Product& product, size_t rows, Rows form, bool bounded) {
  const size_t depth = form == Rows::kSegments ? kSegments * kSegment : kDepth;
  const std::vector<uint8_t> a = codes(product.fill, 255, rows * depth);
  std::vector<uint8_t> b = codes(product.fill, 0x80, depth * kColumns);
  if (bounded) {
    for (uint8_t& code : b) code = static_cast<uint8_t>(static_cast<int8_t>(code) / 2);
  }
  const size_t panel_stride = kernels.padded_k(depth) * kPanelWidth;
  AlignedBuffer packed_b(kPaddedColumns / kPanelWidth * panel_stride);
  std::vector<int32_t> column_sum(kPaddedColumns);
  if (packed_b.data() == nullptr) return {};
  for (size_t n = 0; n < kColumns; n += kPanelWidth) {
    int8_t* panel = reinterpret_cast<int8_t*>(packed_b.data()) + n / kPanelWidth * panel_stride;
    kernels.pack_b_panel(depth, std::min(kPanelWidth, kColumns - n), b.data() + n, kColumns, 1,
                         /*flip=*/0, panel, column_sum.data() + n);
  }

  Stage stage(product.kind, product.zero_points, kPaddedColumns);
  if (kernels.a_signed) stage.add_offset(column_sum, depth);

  const bool in_place = kernels.a_in_place && !kernels.a_signed;
  const size_t lda =
      in_place ? depth : round_up(kernels.padded_k(depth) * kernels.a_element_bytes, 64);
  AlignedBuffer packed_a(tile.mr * lda);
  std::vector<int32_t> row_sum(tile.mr);
  std::vector<const uint8_t*> source(tile.mr);
  const size_t element = output_bytes(product.kind);
  std::vector<uint8_t> c(rows * kColumns * element);
  if (packed_a.data() == nullptr) return {};
  for (size_t row = 0; row < rows; row += tile.mr) {
    const size_t live = std::min<size_t>(tile.mr, rows - row);
    for (size_t r = 0; r < live; ++r) source[r] = a.data() + (row + r) * depth;
    if (in_place) {
      kernels.sum_a(live, 1, depth, source.data(), row_sum.data());
    } else {
      kernels.pack_a(live, 1, depth, source.data(), kernels.a_signed ? 0x80 : 0, packed_a.data(),
                     lda, row_sum.data());
    }
    std::vector<const uint8_t*> segments(live * kSegments);
    for (size_t i = 0; i < segments.size(); ++i) {
      const uint8_t* first = in_place ? source[0] : packed_a.data();
      const size_t element_bytes = in_place ? 1 : kernels.a_element_bytes;
      segments[i] = first + i / kSegments * lda + i % kSegments * kSegment * element_bytes;
    }
    if (kernels.enter != nullptr) kernels.enter(live);
    Epilogue e = stage.epilogue;
    e.row_sum = row_sum.data();
    TileA a_rows = {in_place ? source[0] : packed_a.data(), lda, nullptr, 0, 0};
    a_rows.is_padded = !in_place;
    if (form == Rows::kSegments) a_rows = {nullptr, 0, segments.data(), kSegments, kSegment};
    const int8_t* panels = reinterpret_cast<const int8_t*>(packed_b.data());
    tile.run(live, kColumns, depth, a_rows, {panels, panel_stride, nullptr}, e,
             c.data() + row * kColumns * element, kColumns);
    if (kernels.leave != nullptr) kernels.leave();
  }
  return c;
}

std::vector<uint8_t> convolve(const KernelTable& table, const Product& product) {
  const ConvKernels& kernels = *table.conv;
  constexpr size_t kSources = (kPixels - 1 + kKernel) * kKernel;
  const std::vector<uint8_t> x = codes(product.fill, 255, kSources * kChannels);
  const std::vector<uint8_t> w = codes(product.fill, 0x80, kChannels * kTaps);
  AlignedBuffer weights(kernels.depthwise_packed_bytes(kChannels, kKernel, kKernel));
  std::vector<int32_t> channel_sum(kPaddedChannels);
  if (weights.data() == nullptr) return {};
  kernels.pack_depthwise(kChannels, kKernel, kKernel, w.data(), /*flip=*/0, weights.data(),
                         channel_sum.data());
  Stage stage(product.kind, product.zero_points, kPaddedChannels);
  if (table.gemm->a_signed) stage.add_offset(channel_sum, kTaps);

  std::vector<const uint8_t*> source(kSources);
  for (size_t i = 0; i < source.size(); ++i) source[i] = x.data() + i * kChannels;
  std::vector<uint8_t> out(kPixels * kChannels * output_bytes(product.kind));
  DepthwiseArgs args = {};
  args.rows = 1;
  args.pixels = kPixels;
  args.channels = kChannels;
  args.kernel_height = kKernel;
  args.kernel_width = kKernel;
  args.step = 1;
  args.source = source.data();
  args.flip = table.gemm->a_signed ? 0x80 : 0;
  args.weights = weights.data();
  args.epilogue = stage.epilogue;
  args.out = out.data();
  args.out_stride = kChannels;
  kernels.depthwise(args);
  return out;
}

/// Every code looked up, and some more than whole vectors.
std::vector<uint8_t> look_up(const VectorKernels& kernels) {
  constexpr size_t kCodes = 256;
  std::vector<uint8_t> x(2 * kCodes + 5);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint8_t>(i);
  const std::vector<uint8_t> table = codes(Fill::kRandom, 1, kCodes);
  std::vector<uint8_t> y(x.size());
  kernels.lut(x.size(), x.data(), table.data(), y.data());
  return y;
}

/// What is wrong with a form of the GEMM, or nothing.
std::string test_gemm(const GemmKernels& gemm, const GemmKernels& reference,
                      const Product& product) {
  const bool bounded = gemm.find_unbounded != nullptr;
  const size_t rows = gemm.tiles[0].mr;
  for (const Rows form : {Rows::kPlain, Rows::kSegments}) {
    const std::vector<uint8_t> wanted =
        multiply(reference, reference.tiles[0], product, rows, form, bounded);
    for (size_t t = 0; t < gemm.tile_count; ++t) {
      const GemmTile& tile = gemm.tiles[t];
      if (form == Rows::kSegments && !tile.takes_segments) continue;
      // One row more than the tile has brings its ragged case, as far as the reference goes.
      const size_t live = std::min<size_t>(rows, tile.mr + size_t{1});
      const std::vector<uint8_t> made = multiply(gemm, tile, product, live, form, bounded);
      const size_t bytes = live * kColumns * output_bytes(product.kind);
      if (made.size() != bytes || wanted.size() < bytes ||
          std::memcmp(made.data(), wanted.data(), bytes) != 0) {
        return std::string("tile ") + tile.name + " of " + gemm.instruction;
      }
    }
  }
  return {};
}

}  // namespace

std::string self_test(const KernelTable& table, const KernelTable& reference) {
  for (const Product& product : kProducts) {
    for (const GemmKernels* gemm : {table.gemm, table.gemm_bounded, table.gemm->signed_a}) {
      if (gemm == nullptr) continue;
      std::string mismatch = test_gemm(*gemm, *reference.gemm, product);
      if (!mismatch.empty()) return mismatch;
    }
    if (convolve(table, product) != convolve(reference, product)) return "depthwise";
  }
  if (look_up(*table.vector) != look_up(*reference.vector)) return "lookup";
  return {};
}

}  // namespace q8

// SPDX-License-Identifier: MIT
/// 8-bit convolution. Five ways, chosen when the step is built:
/// - pointwise (1x1, stride 1, no padding): a plain GEMM over the pixels, in place;
/// - depthwise: the kernels of ConvKernels over bands of rows;
/// - few channels: the image is copied once with its padding, so that the taps of a kernel row
/// become one run of bytes and every window is alike. Tiles that read A in place then find the rows
/// of a GEMM in the copy, a few bytes apart; for others windows are packed run by run;
/// - everything else: implicit GEMM through the window's indirection table, on the image in place
/// or, where its codes are not what the tiles read, on a copy that is. Padding taps read a row
/// filled with the input's zero point, so they add (za - za) * w = 0 with no border cases.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "conv/conv_step.h"
#include "conv/packed_conv.h"
#include "conv/window.h"
#include "core/abort_flag.h"
#include "cpu/topology.h"
#include "gemm/tile_choice.h"
#include "ops/finish.h"
#include "ops/run_time_params.h"
#include "program/parallel.h"

namespace q8 {
namespace {

/// Packed A (int16 at worst) of a block of pixels stays in the second-level cache: at least so
/// much, and a quarter of a larger one.
constexpr size_t kMinBlockBytes = 256 * 1024;
constexpr size_t kMinBlockRows = 48;
constexpr size_t kMaxBlockRows = 480;
/// Up to this many bytes a tap is too short to be gathered on its own: copying the image with its
/// padding once costs less than the pointers and the loop starts that merged rows save.
constexpr size_t kShortTapBytes = 64;
/// The same where the tiles follow the pointers themselves, so that a tap costs little.
constexpr size_t kShortTapBytesInPlace = 16;
/// How often a pixel must be read before an image is worth a copy in the form of the tiles.
constexpr size_t kMinReadsPerCopy = 2;
/// Results of a block of a pointwise convolution that are finished before the next block: half of
/// a second-level cache at most, and rows enough to pay for streaming the weights again.
constexpr size_t kFinishBlockBytes = 128 * 1024;
constexpr size_t kMinFinishRows = 128;
constexpr size_t kMaxFinishRows = 1024;

size_t block_bytes() { return l2_share(4, kMinBlockBytes); }

const Status& aborted() {
  static const Status status(Code::kAborted, "The run was aborted.");
  return status;
}

/// Pointers of the taps of the block that a thread works on.
const uint8_t** tap_scratch(size_t count) {
  thread_local std::vector<const uint8_t*> taps;
  if (taps.size() < count) taps.resize(count);
  return taps.data();
}

/// All that depends on scale and zero point of the input.
struct InputParams {
  uint8_t zero_byte = 0;
  /// One per group; one for all channels of a depthwise convolution.
  std::vector<Columns> columns;
  /// What taps outside the image read: as much as a whole row of the kernel.
  std::vector<uint8_t> outside;
};

struct QConv {
  BufferId x = 0;
  BufferId y = 0;
  Geometry geometry;
  OutputSpec spec;
  std::shared_ptr<const PackedConv> weights;
  bool x_signed = false;
  /// Known now, unless an earlier step computes them.
  bool is_dynamic = false;
  InputParams constant;
  RunTimeZeroPoint zero_point;
  RunTimeScale scale;
  OutputRows rows;
  Finish finish;

  size_t out_bytes() const {
    return spec.kind == OutKind::kU8 || spec.kind == OutKind::kS8 ? 1 : 4;
  }

  /// Output channel `channel` of pixel `pixel`.
  uint8_t* output(const RunContext& context, size_t pixel, size_t channel) const {
    return context.data<uint8_t>(y) + (rows.offset + pixel * rows.stride + channel) * out_bytes();
  }

  InputParams input_params(const OutputSpec& output, int32_t x_zero_point) const {
    InputParams params;
    params.zero_byte = static_cast<uint8_t>(x_zero_point);
    params.outside.assign(geometry.kernel_width * geometry.channels, params.zero_byte);
    const ConvDims& dims = weights->dims();
    if (dims.depthwise()) {
      params.columns.emplace_back(
          output, 0, geometry.channels,
          weights->fold_depthwise_bias(x_zero_point, x_signed,
                                       output.bias.empty() ? nullptr : output.bias.data()));
      return params;
    }
    params.columns.reserve(dims.group);
    for (size_t i = 0; i < dims.group; ++i) {
      params.columns.emplace_back(output, i * dims.group_outputs(), weights->group(i), x_zero_point,
                                  x_signed);
    }
    return params;
  }

  /// Valid during this run, for all its threads.
  const InputParams& input_params(const RunContext& context) const {
    if (!is_dynamic) return constant;
    thread_local InputParams params;
    OutputSpec scaled = spec;
    const float x_scale = scale.value(context);
    for (float& s : scaled.scale) s = x_scale * s;
    params = input_params(scaled, zero_point.value(context));
    return params;
  }
};

/// What the windows reach of an image with its padding, as an image of its own.
class PaddedImage {
 public:
  /// Wide strides, dilations and paddings can make it far larger than the image.
  static bool is_small(const Geometry& g) {
    if (g.pixels() == 0 || !g.is_planar()) return false;
    const size_t padded = checked_product({g.batch, g.reach_height(), g.reach_width(), g.channels});
    return padded / 4 <= g.input_elements() + kMinBlockBytes;
  }

  PaddedImage() = default;
  explicit PaddedImage(const Geometry& g) : geometry_(g) {}

  size_t height() const { return geometry_.reach_height(); }
  size_t row_bytes() const { return geometry_.reach_width() * geometry_.channels; }
  size_t bytes() const { return geometry_.batch * height() * row_bytes(); }

  /// Padding becomes `zero_byte`, and every byte is xored with `flip`.
  void copy(const RunContext& context, uint8_t zero_byte, uint8_t flip, const uint8_t* x,
            uint8_t* padded) const {
    const Geometry& g = geometry_;
    const size_t row_bytes = this->row_bytes();
    const size_t left = std::min(g.pad_left * g.channels, row_bytes);
    const size_t middle = std::min(g.width * g.channels, row_bytes - left);
    const int zero = zero_byte ^ flip;
    for_parts(context, g.batch * height(), row_bytes * 2, [&](size_t first, size_t count) {
      for (size_t row = first; row < first + count; ++row) {
        const size_t image = row / height();
        const size_t padded_y = row % height();
        uint8_t* to = padded + row * row_bytes;
        if (padded_y < g.pad_top || padded_y - g.pad_top >= g.height) {
          std::memset(to, zero, row_bytes);
          continue;
        }
        const uint8_t* from = x + (image * g.height + padded_y - g.pad_top) * g.width * g.channels;
        std::memset(to, zero, left);
        if (flip == 0) {
          std::memcpy(to + left, from, middle);
        } else {
          for (size_t i = 0; i < middle; ++i) to[left + i] = from[i] ^ flip;
        }
        std::memset(to + left + middle, zero, row_bytes - left - middle);
      }
    });
  }

 private:
  Geometry geometry_;
};

class PointwiseQConv final : public Step {
 public:
  explicit PointwiseQConv(QConv conv) : conv_(std::move(conv)) {}

  const char* kernel() const override { return "pointwise"; }
  PackedBytes packed_weights() const override { return conv_.weights->group(0).packed(); }

  Status run(const RunContext& context) const override {
    const ConvDims& dims = conv_.weights->dims();
    const InputParams& params = conv_.input_params(context);
    const size_t pixels = conv_.geometry.pixels();
    const size_t threads = context.thread_count();
    const size_t block = std::clamp(kFinishBlockBytes / std::max<size_t>(dims.out_channels, 1),
                                    kMinFinishRows, kMaxFinishRows);
    const size_t blocks = (pixels + block - 1) / block;
    if (conv_.finish.empty() || blocks < threads * 2) {
      // Without an end the driver knows best how to cut the work, and few pixels stay in the cache.
      for (size_t g = 0; g < dims.group; ++g) {
        const Status status = run_rows(context, params, g, 0, pixels, context.threads);
        if (!status.ok()) return status;
      }
      conv_.finish.apply_all(context, pixels, dims.out_channels, conv_.output(context, 0, 0),
                             conv_.rows.stride);
      return {};
    }
    std::atomic<Code> failure{Code::kOk};
    ThreadPool::instance().parallel_for(blocks, threads, [&](size_t index) {
      const size_t first = index * block;
      const size_t count = std::min(block, pixels - first);
      for (size_t g = 0; g < dims.group && failure.load(std::memory_order_relaxed) == Code::kOk;
           ++g) {
        const Status status = run_rows(context, params, g, first, count, /*threads=*/1);
        if (!status.ok()) failure.store(status.code(), std::memory_order_relaxed);
      }
      conv_.finish.apply(context, first, count, 0, dims.out_channels,
                         conv_.output(context, first, 0), conv_.rows.stride);
    });
    if (is_aborted(context.cancel)) return aborted();
    if (failure != Code::kOk)
      return {Code::kOutOfMemory, "Cannot allocate memory for a convolution."};
    return {};
  }

 private:
  Status run_rows(const RunContext& context, const InputParams& params, size_t g, size_t first,
                  size_t count, size_t threads) const {
    const ConvDims& dims = conv_.weights->dims();
    GemmCall call;
    call.m = count;
    call.a.data = context.data<const uint8_t>(conv_.x) + first * conv_.geometry.channels +
                  g * dims.group_channels;
    call.a.row_bytes = conv_.geometry.channels;
    call.a.is_signed = conv_.x_signed;
    call.b = &conv_.weights->group(g);
    call.epilogue = params.columns[g].epilogue(conv_.spec);
    call.c = conv_.output(context, first, g * dims.group_outputs());
    call.ldc = conv_.rows.stride;
    call.threads = threads;
    call.cancel = context.cancel;
    if (first + count == conv_.geometry.pixels()) call.next = context.next_weights;
    return run_gemm(call);
  }

  QConv conv_;
};

/// Implicit GEMM: pixels are rows, a row is a list of segments of the image.
class WindowQConv final : public Step {
 public:
  explicit WindowQConv(QConv conv) : conv_(std::move(conv)) {
    const Geometry& g = conv_.geometry;
    const ConvDims& dims = conv_.weights->dims();
    source_ = g;
    segments_ = dims.taps();
    segment_bytes_ = dims.group_channels;
    if (g.pixels() == 0) return;
    const PackedB& weights = conv_.weights->group(0);
    const GemmKernels& kernels = weights.kernels(conv_.x_signed);
    flip_ = conv_.x_signed == kernels.a_signed ? 0 : 0x80;
    const bool can_follow = reads_segments(weights, dims.group_channels);
    const bool in_place = can_follow && kernels.a_in_place && flip_ == 0;
    canonical_copy_ = can_follow && !in_place && dims.group == 1 &&
                      g.taps() * g.pixels() >= kMinReadsPerCopy * g.batch * g.height * g.width;
    if (dims.group == 1 && g.kernel_width > 1 && g.dilation_width == 1 &&
        PaddedImage::is_small(g) &&
        g.channels <= (in_place || canonical_copy_ ? kShortTapBytesInPlace : kShortTapBytes)) {
      merge_kernel_rows();
      canonical_copy_ = false;
    }
    element_bytes_ = canonical_copy_ ? kernels.a_element_bytes : 1;
    window_ = Window(source_, element_bytes_);
    // Of a block there are the packed rows or, where the tiles follow pointers, only these.
    const size_t row_bytes = in_place || canonical_copy_ ? segments_ * sizeof(void*) * 4
                                                         : dims.depth() * kernels.a_element_bytes;
    block_rows_ =
        std::clamp(block_bytes() / std::max<size_t>(row_bytes, 1), kMinBlockRows, kMaxBlockRows);
  }

  const char* kernel() const override {
    return segments_ < conv_.weights->dims().taps() ? "rows" : "window";
  }
  PackedBytes packed_weights() const override { return conv_.weights->group(0).packed(); }
  size_t scratch_bytes() const override {
    if (canonical_copy_) return (source_.input_elements() + segment_bytes_) * element_bytes_;
    return padded_copy_ ? source_.input_elements() : 0;
  }

  Status run(const RunContext& context) const override {
    if (conv_.geometry.pixels() == 0) return {};
    const InputParams& params = conv_.input_params(context);
    const uint8_t* x = context.data<const uint8_t>(conv_.x);
    const uint8_t* outside = params.outside.data();
    if (padded_copy_) {
      PaddedImage(conv_.geometry).copy(context, params.zero_byte, /*flip=*/0, x, context.scratch);
      x = context.scratch;
    } else if (canonical_copy_) {
      uint8_t* const outside_copy = context.scratch + source_.input_elements() * element_bytes_;
      copy_canonical(segment_bytes_, outside, outside_copy);
      const size_t row = source_.width * source_.channels;
      for_parts(context, source_.batch * source_.height, row * (1 + element_bytes_),
                [&](size_t first, size_t count) {
                  copy_canonical(count * row, x + first * row,
                                 context.scratch + first * row * element_bytes_);
                });
      outside = outside_copy;
      x = context.scratch;
    }
    const size_t groups = conv_.weights->dims().group;
    const size_t pixels = conv_.geometry.pixels();
    const size_t threads = context.thread_count();
    const size_t blocks = (pixels + block_rows_ - 1) / block_rows_;
    if (threads > 1 && blocks * groups < threads * 2) {
      // Few pixels: run_gemm also splits the output channels.
      for (size_t g = 0; g < groups; ++g) {
        const Status status = run_rows(context, params, x, outside, g, 0, pixels, context.threads);
        if (!status.ok()) return status;
      }
      conv_.finish.apply_all(context, pixels, conv_.weights->dims().out_channels,
                             conv_.output(context, 0, 0), conv_.rows.stride);
      return {};
    }
    std::atomic<bool> failed{false};
    ThreadPool::instance().parallel_for(blocks * groups, threads, [&](size_t index) {
      if (failed.load(std::memory_order_relaxed) || is_aborted(context.cancel)) return;
      const size_t first = index / groups * block_rows_;
      const size_t count = std::min(block_rows_, pixels - first);
      const size_t g = index % groups;
      const Status status = run_rows(context, params, x, outside, g, first, count, /*threads=*/1);
      if (!status.ok()) failed.store(true, std::memory_order_relaxed);
      const size_t outputs = conv_.weights->dims().group_outputs();
      conv_.finish.apply(context, first, count, g * outputs, outputs,
                         conv_.output(context, first, g * outputs), conv_.rows.stride);
    });
    if (is_aborted(context.cancel)) return aborted();
    if (failed) return {Code::kOutOfMemory, "Cannot allocate memory for a convolution."};
    return {};
  }

 private:
  /// Makes each kernel row one segment of a copy of the image with its padding (or of the image, if
  /// nothing is padded).
  void merge_kernel_rows() {
    const Geometry& g = conv_.geometry;
    padded_copy_ = !g.is_interior();
    if (padded_copy_) {
      source_.height = g.reach_height();
      source_.width = g.reach_width();
      source_.pad_top = 0;
      source_.pad_left = 0;
    }
    source_.kernel_width = 1;
    segments_ = g.kernel_height;
    segment_bytes_ = g.kernel_width * g.channels;
  }

  /// Codes as elements of canonical A. The tiles then follow pointers into the copy, which is less
  /// work than packing every pixel once for each tap.
  void copy_canonical(size_t count, const uint8_t* codes, uint8_t* elements) const {
    conv_.weights->group(0)
        .kernels(conv_.x_signed)
        .pack_a(1, 1, count, &codes, flip_, elements, count * element_bytes_, nullptr);
  }

  Status run_rows(const RunContext& context, const InputParams& params, const uint8_t* x,
                  const uint8_t* outside, size_t g, size_t first, size_t count,
                  size_t threads) const {
    const ConvDims& dims = conv_.weights->dims();
    const uint8_t** taps = tap_scratch(count * segments_);
    window_.resolve(x + g * dims.group_channels, first, count, outside, taps);
    GemmCall call;
    call.m = count;
    call.a.table = taps;
    call.a.segments = segments_;
    call.a.segment_bytes = segment_bytes_;
    call.a.is_signed = conv_.x_signed;
    call.a.is_canonical = canonical_copy_;
    call.b = &conv_.weights->group(g);
    call.epilogue = params.columns[g].epilogue(conv_.spec);
    call.c = conv_.output(context, first, g * dims.group_outputs());
    call.ldc = conv_.rows.stride;
    call.threads = threads;
    call.cancel = context.cancel;
    if (first + count == conv_.geometry.pixels()) call.next = context.next_weights;
    return run_gemm(call);
  }

  QConv conv_;
  /// What `window_` describes: the convolution itself, or its merged form.
  Geometry source_;
  Window window_;
  size_t segments_ = 0;
  size_t segment_bytes_ = 0;
  bool padded_copy_ = false;
  /// The tiles read a copy of the image as canonical A of so many bytes an element.
  bool canonical_copy_ = false;
  size_t element_bytes_ = 1;
  uint8_t flip_ = 0;
  size_t block_rows_ = 0;
};

/// Few channels: a row of output pixels is a GEMM on the padded copy, whose rows are a pixel's
/// stride apart and overlap. Tiles read them in place, or they are packed as they lie.
class RowsQConv final : public Step {
 public:
  static bool fits(const QConv& conv) {
    const PackedB* rows = conv.weights->rows();
    return rows != nullptr && conv.geometry.dilation_width == 1 &&
           PaddedImage::is_small(conv.geometry) &&
           (rows->kernels().pack_runs == nullptr || conv.geometry.out_width >= kMinPackedWidth);
  }

  explicit RowsQConv(QConv conv)
      : conv_(std::move(conv)),
        image_(conv_.geometry),
        tile_(&choose_tile(kernels(), conv_.geometry.out_width, conv_.weights->rows()->n())) {}

  const char* kernel() const override { return "rows"; }
  PackedBytes packed_weights() const override { return conv_.weights->rows()->packed(); }
  /// The last pixel's run goes on beyond the image, where the weights are 0.
  size_t scratch_bytes() const override { return image_.bytes() + slack(); }

  Status run(const RunContext& context) const override {
    const Geometry& g = conv_.geometry;
    const InputParams& params = conv_.input_params(context);
    const uint8_t flip = conv_.x_signed == kernels().a_signed ? 0 : 0x80;
    image_.copy(context, params.zero_byte, flip, context.data<const uint8_t>(conv_.x),
                context.scratch);
    std::memset(context.scratch + image_.bytes(), 0, slack());
    const size_t rows = g.batch * g.out_height;
    const size_t threads = context.thread_count();
    const size_t blocks = std::min(rows, threads == 1 ? 1 : threads * kBlocksPerThread);
    std::atomic<bool> failed{false};
    ThreadPool::instance().parallel_for(blocks, threads, [&](size_t block) {
      for (size_t row = rows * block / blocks; row < rows * (block + 1) / blocks; ++row) {
        if (failed.load(std::memory_order_relaxed) || is_aborted(context.cancel)) return;
        if (!run_row(context, params, row).ok()) failed.store(true, std::memory_order_relaxed);
      }
    });
    if (is_aborted(context.cancel)) return aborted();
    if (failed) return {Code::kOutOfMemory, "Cannot allocate memory for a convolution."};
    return {};
  }

 private:
  static constexpr size_t kBlocksPerThread = 4;
  /// Narrower rows leave tiles empty.
  static constexpr size_t kMinPackedWidth = 24;
  static constexpr size_t kLineBytes = 64;

  const GemmKernels& kernels() const { return conv_.weights->rows()->kernels(conv_.x_signed); }
  size_t slack() const { return conv_.weights->row_elements() + kLineBytes; }

  Status run_row(const RunContext& context, const InputParams& params, size_t row) const {
    const Geometry& g = conv_.geometry;
    const PackedB& weights = *conv_.weights->rows();
    const size_t first = row * g.out_width;
    const size_t image_row =
        row / g.out_height * image_.height() + row % g.out_height * g.stride_height;
    GemmCall call;
    call.m = g.out_width;
    call.tile = tile_;
    call.a.data = context.scratch + image_row * image_.row_bytes();
    call.a.row_bytes = g.stride_width * g.channels;
    call.a.segments = g.kernel_height;
    call.a.segment_bytes = conv_.weights->row_elements();
    call.a.run_stride = g.dilation_height * image_.row_bytes();
    call.a.counted = g.kernel_width * g.channels;
    call.a.is_signed = kernels().a_signed;
    call.b = &weights;
    call.epilogue = params.columns[0].epilogue(conv_.spec);
    call.c = conv_.output(context, first, 0);
    call.ldc = conv_.rows.stride;
    call.threads = 1;
    if (first + g.out_width == g.pixels()) call.next = context.next_weights;
    const Status status = run_gemm(call);
    conv_.finish.apply(context, first, g.out_width, 0, conv_.weights->dims().out_channels,
                       conv_.output(context, first, 0), conv_.rows.stride);
    return status;
  }

  QConv conv_;
  PaddedImage image_;
  const GemmTile* tile_;
};

/// Bands of rows of pixels whose windows share columns.
class DepthwiseQConv final : public Step {
 public:
  explicit DepthwiseQConv(QConv conv) : conv_(std::move(conv)), window_(conv_.geometry, 1) {}

  const char* kernel() const override { return "depthwise"; }
  Status run(const RunContext& context) const override {
    const Geometry& g = conv_.geometry;
    if (g.pixels() == 0 || g.channels == 0) return {};
    const InputParams& params = conv_.input_params(context);
    const size_t threads = context.thread_count();
    const size_t phases = window_.phases();
    const size_t row_bytes = std::min(g.width, kMaxBandPixels) * g.channels * g.stride_height;
    size_t band = std::clamp<size_t>(kBandBytes / std::max<size_t>(row_bytes, 1), 1, g.out_height);
    if (threads > 1) band = std::min(band, ceil_div(g.batch * g.out_height, threads * 4));
    const size_t bands = ceil_div(g.out_height, band);
    const size_t parts = ceil_div(ceil_div(g.out_width, phases), kMaxBandPixels);
    const size_t band_bytes = band * g.out_width / phases / parts * g.channels * g.taps();
    for_parts(context, g.batch * bands * phases * parts, band_bytes,
              [&](size_t first, size_t count) {
                for (size_t i = first; i < first + count; ++i) {
                  if (is_aborted(context.cancel)) return;
                  const size_t phase = i / parts % phases;
                  const size_t at = i / parts / phases;
                  const size_t row = at % bands * band;
                  run_band(context, params, at / bands * g.out_height + row,
                           std::min(band, g.out_height - row), phase, i % parts * kMaxBandPixels);
                }
              });
    if (is_aborted(context.cancel)) return aborted();
    return {};
  }

 private:
  /// Bytes of the image that a band reads, block of channels by block of channels: they stay in the
  /// second-level cache.
  static constexpr size_t kBandBytes = 128 * 1024;
  /// Keeps the table of a long row short.
  static constexpr size_t kMaxBandPixels = 256;

  static constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

  /// `rows` output rows from `row` on, the pixels of one phase from its `first` on.
  void run_band(const RunContext& context, const InputParams& params, size_t row, size_t rows,
                size_t phase, size_t first) const {
    const Geometry& g = conv_.geometry;
    const size_t phases = window_.phases();
    const size_t column = phase + first * phases;
    if (column >= g.out_width) return;
    DepthwiseArgs args;
    args.rows = rows;
    args.pixels = std::min(kMaxBandPixels, ceil_div(g.out_width - column, phases));
    args.channels = g.channels;
    args.kernel_height = g.kernel_height;
    args.kernel_width = g.kernel_width;
    args.step = window_.step();
    const size_t row_taps = window_.columns(args.pixels) * g.kernel_height;
    const uint8_t** sources = tap_scratch(rows * row_taps);
    for (size_t r = 0; r < rows; ++r) {
      window_.resolve_columns(context.data<const uint8_t>(conv_.x), row + r, column, args.pixels,
                              params.outside.data(), sources + r * row_taps);
    }
    args.source = sources;
    args.flip = conv_.x_signed == conv_.weights->table().gemm->a_signed ? 0 : 0x80;
    args.weights = conv_.weights->depthwise_weights();
    args.epilogue = params.columns[0].epilogue(conv_.spec);
    args.epilogue.b_zero_point = conv_.weights->depthwise_zero_point();
    args.out = conv_.output(context, row * g.out_width + column, 0);
    args.out_stride = phases * conv_.rows.stride;
    args.out_row_stride = g.out_width * conv_.rows.stride;
    conv_.weights->table().conv->depthwise(args);
    finish_band(context, row * g.out_width + column, rows, args.pixels);
  }

  void finish_band(const RunContext& context, size_t pixel, size_t rows, size_t pixels) const {
    if (conv_.finish.empty()) return;
    const size_t width = conv_.geometry.out_width;
    const auto apply = [&](size_t first, size_t count) {
      conv_.finish.apply(context, first, count, 0, conv_.geometry.channels,
                         conv_.output(context, first, 0), conv_.rows.stride);
    };
    const size_t phases = window_.phases();
    if (phases == 1 && pixels == width) return apply(pixel, rows * width);
    for (size_t r = 0; r < rows; ++r) {
      if (phases == 1) {
        apply(pixel + r * width, pixels);
      } else {
        for (size_t p = 0; p < pixels; ++p) apply(pixel + r * width + p * phases, 1);
      }
    }
  }

  QConv conv_;
  Window window_;
};

}  // namespace

namespace {

std::unique_ptr<Step> make(StepReader& reader, bool is_dynamic) {
  QConv conv;
  conv.is_dynamic = is_dynamic;
  conv.geometry = Geometry::read(reader);
  const Geometry& g = conv.geometry;
  conv.weights = reader.weights("weights").conv;
  const size_t out_channels = reader.size("outChannels");
  const size_t group = reader.size("group", 1);
  if (conv.weights == nullptr) reader.fail("weights from packConv()", "weights");
  if (!reader.ok()) return nullptr;
  const ConvDims& dims = conv.weights->dims();
  if (dims.out_channels != out_channels || dims.group != group ||
      dims.group_channels * dims.group != g.channels || dims.kernel_height != g.kernel_height ||
      dims.kernel_width != g.kernel_width) {
    reader.fail("weights of the step's channels, group and kernel", "weights",
                Code::kShapeMismatch);
  }
  conv.x = reader.input("x", kCodes, g.input_elements());
  conv.x_signed = reader.is_signed(conv.x);
  const int32_t x_zero_point = is_dynamic ? 0 : reader.zero_point("xZeroPoint", conv.x);
  if (is_dynamic) conv.zero_point = RunTimeZeroPoint(reader, conv.x);
  conv.rows = OutputRows::read(reader, out_channels);
  conv.spec = reader.output_spec(out_channels, conv.rows.extent(g.pixels(), out_channels), &conv.y);
  conv.finish = Finish::read(reader, g.pixels(), out_channels, conv.y);
  if (is_dynamic) conv.scale = RunTimeScale(reader, conv.spec.kind);
  if (!reader.ok()) return nullptr;
  if (!is_dynamic) conv.constant = conv.input_params(conv.spec, x_zero_point);
  if (dims.depthwise()) return std::make_unique<DepthwiseQConv>(std::move(conv));
  if (g.is_pointwise()) return std::make_unique<PointwiseQConv>(std::move(conv));
  if (RowsQConv::fits(conv)) return std::make_unique<RowsQConv>(std::move(conv));
  return std::make_unique<WindowQConv>(std::move(conv));
}

}  // namespace

std::unique_ptr<Step> make_qconv(StepReader& reader) { return make(reader, /*is_dynamic=*/false); }
std::unique_ptr<Step> make_qconv_dynamic(StepReader& reader) {
  return make(reader, /*is_dynamic=*/true);
}

}  // namespace q8

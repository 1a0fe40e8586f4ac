// SPDX-License-Identifier: MIT
/// Sliding windows over NHWC images: the geometry of convolution and pooling, and its indirection
/// table. Where a tap lies is separable, so the table is one byte offset per (output row, kernel
/// row) and one per (output column, kernel column), built once per step; a run adds them up and
/// replaces taps outside of the image by a pointer of the caller's choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace q8 {

class StepReader;

/// How the slices of a volume make up the rows of a Geometry.
struct Depth {
  size_t size = 1;
  size_t out = 1;
  size_t kernel = 1;
  size_t stride = 1;
  size_t dilation = 1;
  size_t pad_front = 0;
};

/// WindowGeometry of binding.d.ts. A volume is an image with the rows of all its slices, and its
/// kernel and output likewise: heights count them together. Strides, dilations and paddings of rows
/// hold within a slice.
struct Geometry {
  size_t batch = 0;
  size_t height = 0;
  size_t width = 0;
  size_t channels = 0;
  size_t out_height = 0;
  size_t out_width = 0;
  size_t kernel_height = 1;
  size_t kernel_width = 1;
  size_t stride_height = 1;
  size_t stride_width = 1;
  size_t dilation_height = 1;
  size_t dilation_width = 1;
  size_t pad_top = 0;
  size_t pad_left = 0;
  Depth depth;

  /// Reads and checks the properties of a step. The number of input elements, of output pixels and
  /// of taps fit size_t when the reader stays ok.
  static Geometry read(StepReader& reader);

  size_t taps() const { return kernel_height * kernel_width; }
  size_t pixels() const { return batch * out_height * out_width; }
  size_t input_elements() const { return batch * height * width * channels; }
  /// Whether there is one slice, so that row `oy` reads rows from oy * stride_height - pad_top on.
  bool is_planar() const { return depth.size == 1 && depth.out == 1 && depth.kernel == 1; }
  /// Whether every output pixel is the input pixel of the same index.
  bool is_pointwise() const;
  /// First input row and column beyond what the windows reach, counted from the padded image's
  /// origin; rows of planar geometries only.
  size_t reach_height() const {
    return (out_height - 1) * stride_height + (kernel_height - 1) * dilation_height + 1;
  }
  size_t reach_width() const {
    return (out_width - 1) * stride_width + (kernel_width - 1) * dilation_width + 1;
  }
  /// Whether no tap lies outside of the image.
  bool is_interior() const {
    return is_planar() && pad_top == 0 && pad_left == 0 && reach_height() <= height &&
           reach_width() <= width;
  }
};

class Window {
 public:
  Window() = default;
  Window(const Geometry& geometry, size_t element_bytes);

  /// Pointers of the taps of output pixels [first, first + count), `taps` each: into the image at
  /// `base`, or `outside`.
  void resolve(const uint8_t* base, size_t first, size_t count, const uint8_t* outside,
               const uint8_t** taps) const;

  /// Pixels of a row that are phases() apart have windows that are step() columns apart, and share
  /// columns if step() is less than the kernel's width.
  size_t phases() const { return phases_; }
  size_t step() const { return step_; }
  size_t columns(size_t count) const { return (count - 1) * step_ + kernel_width_; }

  /// Pointers of the taps, column by column, of `count` pixels phases() apart in output row `row`
  /// (counted through the batch), from pixel `first` on: columns(count) of kernel height taps.
  void resolve_columns(const uint8_t* base, size_t row, size_t first, size_t count,
                       const uint8_t* outside, const uint8_t** taps) const;

  /// Pointers of only those taps of one pixel that lie inside; returns their number.
  size_t resolve_inside(const uint8_t* base, size_t pixel, const uint8_t** taps) const;

 private:
  static constexpr ptrdiff_t kOutside = -1;

  size_t kernel_height_ = 0;
  size_t kernel_width_ = 0;
  size_t out_height_ = 0;
  size_t out_width_ = 0;
  size_t image_bytes_ = 0;
  size_t phases_ = 1;
  size_t step_ = 1;
  /// Byte offset of the row of kernel row ky for output row oy, at oy * kernel_height + ky.
  std::vector<ptrdiff_t> rows_;
  std::vector<ptrdiff_t> columns_;
  /// The columns of a whole row without repetition: those of phase p from p * line_columns_ on,
  /// pixel i of a phase from its i * step_ on.
  std::vector<ptrdiff_t> lines_;
  size_t line_columns_ = 0;
  /// Output columns of which no tap can lie to the left or right of the image: the middle of a row.
  size_t inside_ = 0;
  size_t inside_end_ = 0;
};

}  // namespace q8

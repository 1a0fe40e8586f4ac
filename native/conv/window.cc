// SPDX-License-Identifier: MIT
#include "conv/window.h"

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "program/step_reader.h"

namespace q8 {
namespace {

/// Entries of one axis of the indirection table that a description may ask for.
constexpr size_t kMaxTableEntries = size_t{1} << 26;

std::vector<ptrdiff_t> axis_offsets(size_t out, size_t kernel, size_t stride, size_t dilation,
                                    size_t pad, size_t size, size_t bytes, ptrdiff_t outside) {
  std::vector<ptrdiff_t> offsets(out * kernel);
  for (size_t o = 0; o < out; ++o) {
    for (size_t k = 0; k < kernel; ++k) {
      const size_t padded = o * stride + k * dilation;
      const bool inside = padded >= pad && padded - pad < size;
      offsets[o * kernel + k] = inside ? static_cast<ptrdiff_t>((padded - pad) * bytes) : outside;
    }
  }
  return offsets;
}

/// Rows of all slices.
std::vector<ptrdiff_t> row_offsets(const Geometry& g, size_t row_bytes, ptrdiff_t outside) {
  const Depth& d = g.depth;
  const size_t height = g.height / std::max<size_t>(d.size, 1);
  const size_t out = g.out_height / d.out;
  const size_t kernel = g.kernel_height / d.kernel;
  const std::vector<ptrdiff_t> slices = axis_offsets(
      d.out, d.kernel, d.stride, d.dilation, d.pad_front, d.size, height * row_bytes, outside);
  const std::vector<ptrdiff_t> rows = axis_offsets(out, kernel, g.stride_height, g.dilation_height,
                                                   g.pad_top, height, row_bytes, outside);
  std::vector<ptrdiff_t> offsets;
  offsets.reserve(g.out_height * g.kernel_height);
  for (size_t oz = 0; oz < d.out; ++oz) {
    for (size_t oy = 0; oy < out; ++oy) {
      for (size_t kz = 0; kz < d.kernel; ++kz) {
        const ptrdiff_t slice = slices[oz * d.kernel + kz];
        for (size_t ky = 0; ky < kernel; ++ky) {
          const ptrdiff_t row = rows[oy * kernel + ky];
          offsets.push_back(slice == outside || row == outside ? outside : slice + row);
        }
      }
    }
  }
  return offsets;
}

}  // namespace

Geometry Geometry::read(StepReader& reader) {
  Geometry g;
  g.batch = reader.size("batch");
  g.height = reader.size("height");
  g.width = reader.size("width");
  g.channels = reader.size("channels");
  g.out_height = reader.size("outHeight");
  g.out_width = reader.size("outWidth");
  g.kernel_height = reader.size("kernelHeight", 1);
  g.kernel_width = reader.size("kernelWidth", 1);
  g.stride_height = reader.size("strideHeight", 1);
  g.stride_width = reader.size("strideWidth", 1);
  g.dilation_height = reader.size("dilationHeight", 1);
  g.dilation_width = reader.size("dilationWidth", 1);
  g.pad_top = reader.size("padTop");
  g.pad_left = reader.size("padLeft");
  if (!reader.is_null("depth")) {
    g.depth.size = reader.size("depth");
    g.depth.out = reader.size("outDepth");
    g.depth.kernel = reader.size("kernelDepth", 1);
    g.depth.stride = reader.size("strideDepth", 1);
    g.depth.dilation = reader.size("dilationDepth", 1);
    g.depth.pad_front = reader.size("padFront");
    g.height = checked_product({g.depth.size, g.height});
    g.out_height = checked_product({g.depth.out, g.out_height});
    g.kernel_height = checked_product({g.depth.kernel, g.kernel_height});
    if (g.height == SIZE_MAX || g.out_height == SIZE_MAX || g.kernel_height == SIZE_MAX)
      reader.fail("a smaller volume", "depth");
  }
  if (checked_product({g.batch, g.height, g.width, g.channels}) == SIZE_MAX)
    reader.fail("a smaller image", "height");
  if (checked_product({g.batch, g.out_height, g.out_width}) == SIZE_MAX)
    reader.fail("a smaller image", "outHeight");
  if (g.out_height * g.kernel_height > kMaxTableEntries)
    reader.fail("a smaller window", "kernelHeight");
  if (g.out_width * g.kernel_width > kMaxTableEntries || g.taps() > kMaxTableEntries) {
    reader.fail("a smaller window", "kernelWidth");
  }
  return g;
}

bool Geometry::is_pointwise() const {
  return is_planar() && taps() == 1 && stride_height == 1 && stride_width == 1 && pad_top == 0 &&
         pad_left == 0 && out_height == height && out_width == width;
}

Window::Window(const Geometry& g, size_t element_bytes)
    : kernel_height_(g.kernel_height),
      kernel_width_(g.kernel_width),
      out_height_(g.out_height),
      out_width_(g.out_width),
      image_bytes_(g.height * g.width * g.channels * element_bytes),
      step_(g.kernel_width) {
  const size_t common = std::gcd(g.stride_width, g.dilation_width);
  if (g.stride_width / common < g.kernel_width) {
    phases_ = g.dilation_width / common;
    step_ = g.stride_width / common;
  }
  if (g.pixels() == 0) return;
  const size_t pixel_bytes = g.channels * element_bytes;
  rows_ = row_offsets(g, g.width * pixel_bytes, kOutside);
  columns_ = axis_offsets(g.out_width, g.kernel_width, g.stride_width, g.dilation_width, g.pad_left,
                          g.width, pixel_bytes, kOutside);
  const auto is_outside = [&](size_t column) {
    const ptrdiff_t* const taps = columns_.data() + column * kernel_width_;
    return std::find(taps, taps + kernel_width_, kOutside) != taps + kernel_width_;
  };
  while (inside_ < out_width_ && is_outside(inside_)) ++inside_;
  inside_end_ = out_width_;
  while (inside_end_ > inside_ && is_outside(inside_end_ - 1)) --inside_end_;

  line_columns_ = columns((out_width_ + phases_ - 1) / phases_);
  lines_.assign(phases_ * line_columns_, kOutside);
  for (size_t ox = 0; ox < out_width_; ++ox) {
    std::copy_n(columns_.data() + ox * kernel_width_, kernel_width_,
                lines_.data() + ox % phases_ * line_columns_ + ox / phases_ * step_);
  }
}

void Window::resolve(const uint8_t* base, size_t first, size_t count, const uint8_t* outside,
                     const uint8_t** taps) const {
  const size_t all_taps = kernel_height_ * kernel_width_;
  size_t column = first % out_width_;
  size_t row = first / out_width_;
  for (size_t done = 0; done < count; column = 0, ++row) {
    const size_t pixels = std::min(count - done, out_width_ - column);
    const uint8_t* const image = base + row / out_height_ * image_bytes_;
    const ptrdiff_t* const rows = rows_.data() + row % out_height_ * kernel_height_;
    const ptrdiff_t* const columns = columns_.data() + column * kernel_width_;
    // Between the ends of a row no tap of a pixel can lie outside to the left or right.
    const size_t inside = std::clamp(inside_, column, column + pixels) - column;
    const size_t inside_end = std::clamp(inside_end_, column + inside, column + pixels) - column;
    for (size_t ky = 0; ky < kernel_height_; ++ky) {
      const uint8_t** const tap = taps + done * all_taps + ky * kernel_width_;
      if (rows[ky] == kOutside) {
        for (size_t p = 0; p < pixels; ++p) std::fill_n(tap + p * all_taps, kernel_width_, outside);
        continue;
      }
      const uint8_t* const image_row = image + rows[ky];
      const auto resolve_end = [&](size_t from, size_t to) {
        for (size_t p = from; p < to; ++p) {
          for (size_t kx = 0; kx < kernel_width_; ++kx) {
            const ptrdiff_t offset = columns[p * kernel_width_ + kx];
            tap[p * all_taps + kx] = offset == kOutside ? outside : image_row + offset;
          }
        }
      };
      const auto resolve_inside = [&](auto width) {
        for (size_t p = inside; p < inside_end; ++p) {
          for (size_t kx = 0; kx < width; ++kx)
            tap[p * all_taps + kx] = image_row + columns[p * width + kx];
        }
      };
      resolve_end(0, inside);
      if (kernel_width_ == 1) {
        resolve_inside(std::integral_constant<size_t, 1>());
      } else if (kernel_width_ == 3) {
        resolve_inside(std::integral_constant<size_t, 3>());
      } else {
        resolve_inside(kernel_width_);
      }
      resolve_end(inside_end, pixels);
    }
    done += pixels;
  }
}

void Window::resolve_columns(const uint8_t* base, size_t row, size_t first, size_t count,
                             const uint8_t* outside, const uint8_t** taps) const {
  const uint8_t* const image = base + row / out_height_ * image_bytes_;
  const ptrdiff_t* const rows = rows_.data() + row % out_height_ * kernel_height_;
  const ptrdiff_t* const line =
      lines_.data() + first % phases_ * line_columns_ + first / phases_ * step_;
  const size_t height = kernel_height_;
  const size_t columns = this->columns(count);
  // What lies outside is at the ends: between them nothing has to be asked.
  size_t inside = 0;
  while (inside < columns && line[inside] == kOutside) ++inside;
  size_t inside_end = columns;
  while (inside_end > inside && line[inside_end - 1] == kOutside) --inside_end;
  std::fill_n(taps, inside * height, outside);
  std::fill_n(taps + inside_end * height, (columns - inside_end) * height, outside);
  for (size_t ky = 0; ky < height; ++ky) {
    const uint8_t** const tap = taps + ky;
    if (rows[ky] == kOutside) {
      for (size_t j = inside; j < inside_end; ++j) tap[j * height] = outside;
      continue;
    }
    const uint8_t* const image_row = image + rows[ky];
    for (size_t j = inside; j < inside_end; ++j) tap[j * height] = image_row + line[j];
  }
}

size_t Window::resolve_inside(const uint8_t* base, size_t pixel, const uint8_t** taps) const {
  const size_t column = pixel % out_width_;
  const size_t row = pixel / out_width_ % out_height_;
  const uint8_t* image = base + pixel / out_width_ / out_height_ * image_bytes_;
  const ptrdiff_t* rows = rows_.data() + row * kernel_height_;
  const ptrdiff_t* columns = columns_.data() + column * kernel_width_;
  size_t count = 0;
  for (size_t ky = 0; ky < kernel_height_; ++ky) {
    if (rows[ky] == kOutside) continue;
    for (size_t kx = 0; kx < kernel_width_; ++kx) {
      if (columns[kx] != kOutside) taps[count++] = image + rows[ky] + columns[kx];
    }
  }
  return count;
}

}  // namespace q8

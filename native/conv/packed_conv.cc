// SPDX-License-Identifier: MIT
#include "conv/packed_conv.h"

#include <utility>

namespace q8 {
namespace {

/// [I, H, W] of each output channel to [H, W, I]: rows of a transposed B in the K order of the
/// GEMM.
template <typename T>
std::vector<T> to_ohwi(const T* w, const ConvDims& dims, size_t outputs) {
  const size_t taps = dims.taps();
  const size_t channels = dims.group_channels;
  std::vector<T> rows(outputs * dims.depth());
  for (size_t o = 0; o < outputs; ++o) {
    const T* from = w + o * dims.depth();
    T* to = rows.data() + o * dims.depth();
    for (size_t c = 0; c < channels; ++c) {
      for (size_t t = 0; t < taps; ++t) to[t * channels + c] = from[c * taps + t];
    }
  }
  return rows;
}

/// Images of more channels are read through pointers.
constexpr size_t kMaxRowChannels = 16;
constexpr size_t kMaxPackedRunChannels = 64;

}  // namespace

Status PackedConv::pack(const KernelTable& table, const uint8_t* w, bool is_signed,
                        const ConvDims& dims, const int32_t* zero_point, size_t zero_point_count,
                        PackedConv* out) {
  out->table_ = &table;
  out->dims_ = dims;
  if (dims.depthwise()) return out->pack_depthwise(w, is_signed, zero_point, zero_point_count);
  out->groups_.resize(dims.group);
  const size_t outputs = dims.group_outputs();
  for (size_t g = 0; g < dims.group; ++g) {
    const std::vector<uint8_t> rows = to_ohwi(w + g * outputs * dims.depth(), dims, outputs);
    const bool per_channel = zero_point_count > 1;
    const Status status =
        PackedB::pack(table, rows.data(), is_signed, dims.depth(), outputs, dims.depth(),
                      /*transposed=*/true, per_channel ? zero_point + g * outputs : zero_point,
                      per_channel ? outputs : zero_point_count, &out->groups_[g]);
    if (!status.ok()) return status;
  }
  return out->pack_rows(w, is_signed, zero_point, zero_point_count);
}

/// `w` as pack() has it.
Status PackedConv::pack_rows(const uint8_t* w, bool is_signed, const int32_t* zero_point,
                             size_t zero_point_count) {
  const size_t row = dims_.kernel_width * dims_.group_channels;
  const PackedB& plain = groups_[0];
  packs_runs_ = dims_.group == 1 && dims_.kernel_width > 1 &&
                plain.kernels().pack_runs != nullptr &&
                dims_.group_channels <= kMaxPackedRunChannels;
  if (packs_runs_) return {};
  if (dims_.group != 1 || dims_.kernel_width == 1 || dims_.group_channels > kMaxRowChannels ||
      !reads_runs(plain, plain.kernels().kr)) {
    return {};
  }
  const size_t kr = plain.kernels().kr;
  const size_t padded = (row + kr - 1) / kr * kr;
  const size_t rows = dims_.out_channels * dims_.kernel_height;
  // What is canonically 0.
  std::vector<uint8_t> filled(rows * padded, is_signed ? 0 : 0x80);
  const std::vector<uint8_t> ohwi = to_ohwi(w, dims_, dims_.out_channels);
  for (size_t r = 0; r < rows; ++r) {
    std::copy_n(ohwi.data() + r * row, row, filled.data() + r * padded);
  }
  const size_t k = dims_.kernel_height * padded;
  const Status status = PackedB::pack(*table_, filled.data(), is_signed, k, dims_.out_channels, k,
                                      /*transposed=*/true, zero_point, zero_point_count, &rows_);
  // Zeros may make the other form of the kernels the better one.
  if (status.ok() && !reads_runs(rows_, padded)) rows_ = PackedB();
  return status;
}

Status PackedConv::pack_depthwise(const uint8_t* w, bool is_signed, const int32_t* zero_point,
                                  size_t zero_point_count) {
  const ConvKernels& kernels = *table_->conv;
  const size_t channels = dims_.out_channels;
  const size_t padded = (channels + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
  const size_t bytes =
      kernels.depthwise_packed_bytes(channels, dims_.kernel_height, dims_.kernel_width);
  depthwise_ = AlignedBuffer(bytes);
  if (depthwise_.data() == nullptr && bytes != 0) {
    return {Code::kOutOfMemory, "Cannot allocate memory for packed depthwise weights."};
  }
  channel_sum_.assign(padded, 0);
  // Canonical weights are s8 on every ISA.
  const int32_t shift = is_signed ? 0 : 128;
  kernels.pack_depthwise(channels, dims_.kernel_height, dims_.kernel_width, w, is_signed ? 0 : 0x80,
                         depthwise_.data(), channel_sum_.data());
  std::vector<int32_t> canonical(padded, 0);
  bool any = false;
  for (size_t c = 0; c < channels; ++c) {
    const int32_t code = zero_point_count == 0 ? 0 : zero_point[zero_point_count == 1 ? 0 : c];
    canonical[c] = code - shift;
    any |= canonical[c] != 0;
  }
  if (any) zero_point_ = std::move(canonical);
  return {};
}

std::vector<int32_t> PackedConv::fold_depthwise_bias(int32_t x_zero_point, bool x_signed,
                                                     const int32_t* bias) const {
  const bool a_signed = table_->gemm->a_signed;
  const int32_t za = x_zero_point + (x_signed == a_signed ? 0 : x_signed ? 128 : -128);
  std::vector<int32_t> folded(channel_sum_.size());
  for (size_t c = 0; c < folded.size(); ++c) {
    const uint32_t zb = zero_point_.empty() ? 0u : static_cast<uint32_t>(zero_point_[c]);
    const uint32_t taps = static_cast<uint32_t>(dims_.taps());
    const uint32_t user =
        bias == nullptr || c >= dims_.out_channels ? 0u : static_cast<uint32_t>(bias[c]);
    folded[c] = static_cast<int32_t>(
        user + static_cast<uint32_t>(za) * (taps * zb - static_cast<uint32_t>(channel_sum_[c])));
  }
  return folded;
}

size_t PackedConv::bytes() const {
  size_t total = depthwise_.size() + rows_.bytes();
  for (const PackedB& group : groups_) total += group.bytes();
  return total;
}

Status PackedConvF32::pack(const float* w, const ConvDims& dims, PackedConvF32* out) {
  out->dims_ = dims;
  if (dims.depthwise()) {
    const size_t taps = dims.taps();
    out->depthwise_.resize(taps * dims.out_channels);
    for (size_t c = 0; c < dims.out_channels; ++c) {
      for (size_t t = 0; t < taps; ++t)
        out->depthwise_[t * dims.out_channels + c] = w[c * taps + t];
    }
    return {};
  }
  out->groups_.resize(dims.group);
  const size_t outputs = dims.group_outputs();
  for (size_t g = 0; g < dims.group; ++g) {
    const std::vector<float> rows = to_ohwi(w + g * outputs * dims.depth(), dims, outputs);
    const Status status =
        PackedBF32::pack(rows.data(), dims.depth(), outputs, /*transposed=*/true, &out->groups_[g]);
    if (!status.ok()) return status;
  }
  return {};
}

size_t PackedConvF32::bytes() const {
  size_t total = depthwise_.size() * sizeof(float);
  for (const PackedBF32& group : groups_) total += group.bytes();
  return total;
}

}  // namespace q8

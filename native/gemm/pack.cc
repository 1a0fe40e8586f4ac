// SPDX-License-Identifier: MIT
/// Packing of weights and folding of zero points into the bias.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "core/thread_pool.h"
#include "gemm/gemm.h"

namespace q8 {
namespace {

constexpr uint8_t kFlip = 0x80;
/// Canonical B is signed on every ISA.
constexpr int32_t canonical_b(int32_t code, bool is_signed) {
  return is_signed ? code : code - 128;
}

constexpr int32_t canonical_a(int32_t code, bool is_signed, bool wants_signed) {
  if (is_signed == wants_signed) return code;
  return wants_signed ? code - 128 : code + 128;
}

/// Packing a panel of fewer bytes than this is not worth waking a thread.
constexpr size_t kMinBytesPerThread = 128 * 1024;

}  // namespace

Status PackedB::pack(const KernelTable& table, const void* b, bool b_signed, size_t k, size_t n,
                     size_t ldb, bool transposed, const int32_t* zero_point,
                     size_t zero_point_count, PackedB* out, size_t threads) {
  const GemmKernels& kernels = *table.gemm;
  PackedB packed;
  packed.table_ = &table;
  packed.k_ = k;
  packed.n_ = n;
  // A quarter of the address space keeps every sum and product below from wrapping.
  constexpr size_t kLimit = std::numeric_limits<size_t>::max() / 4;
  if (k > kLimit / kPanelWidth || n > kLimit ||
      (k != 0 && (n + kPanelWidth) > kLimit / (k + kernels.kr))) {
    return {Code::kOutOfMemory,
            "B of " + std::to_string(k) + "x" + std::to_string(n) + " does not fit into memory."};
  }
  const size_t padded_n = packed.padded_n();
  packed.panel_stride_ = (k + kernels.kr - 1) / kernels.kr * kernels.kr * kPanelWidth;
  const size_t panels = padded_n / kPanelWidth;
  const size_t bytes = panels * packed.panel_stride_;
  packed.data_ = AlignedBuffer(bytes);
  if (bytes != 0 && packed.data_.data() == nullptr) {
    return {Code::kOutOfMemory,
            "Cannot allocate " + std::to_string(bytes) + " bytes for packed weights."};
  }
  packed.column_sum_.resize(padded_n);

  const uint8_t* source = static_cast<const uint8_t*>(b);
  const size_t stride_k = transposed ? 1 : ldb;
  const size_t stride_n = transposed ? ldb : 1;
  const uint8_t flip = b_signed ? 0 : kFlip;
  const auto pack_panel = [&](size_t p) {
    const size_t first = p * kPanelWidth;
    kernels.pack_b_panel(k, std::min(kPanelWidth, n - first), source + first * stride_n, stride_k,
                         stride_n, flip,
                         reinterpret_cast<int8_t*>(packed.data_.data()) + p * packed.panel_stride_,
                         packed.column_sum_.data() + first);
  };
  if (threads == 1 || bytes < 2 * kMinBytesPerThread) {
    for (size_t p = 0; p < panels; ++p) pack_panel(p);
  } else {
    ThreadPool::instance().parallel_for(panels, threads, pack_panel);
  }

  packed.zero_point_.assign(padded_n, 0);
  bool any = false;
  for (size_t column = 0; column < n; ++column) {
    const int32_t code = zero_point_count == 0 ? 0 : zero_point[zero_point_count == 1 ? 0 : column];
    packed.zero_point_[column] = canonical_b(code, b_signed);
    any |= packed.zero_point_[column] != 0;
  }
  if (!any) packed.zero_point_.clear();
  *out = std::move(packed);
  return {};
}

void fold_bias(const PackedB& b, int32_t a_zero_point, bool a_signed, const int32_t* bias,
               int32_t* folded) {
  const uint32_t za =
      static_cast<uint32_t>(canonical_a(a_zero_point, a_signed, b.table().gemm->a_signed));
  const uint32_t k_za = static_cast<uint32_t>(b.k()) * za;
  const int32_t* column_sum = b.column_sum();
  const int32_t* zero_point = b.zero_point();
  const size_t padded_n = b.padded_n();
  for (size_t n = 0; n < padded_n; ++n) {
    uint32_t value = bias != nullptr && n < b.n() ? static_cast<uint32_t>(bias[n]) : 0;
    value -= za * static_cast<uint32_t>(column_sum[n]);
    if (zero_point != nullptr) value += k_za * static_cast<uint32_t>(zero_point[n]);
    folded[n] = static_cast<int32_t>(value);
  }
}

}  // namespace q8

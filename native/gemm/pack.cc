// SPDX-License-Identifier: MIT
/// Packing of weights and folding of zero points into the bias.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
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

/// Rows that a PanelFix may add, in percent, before the form for any weights is faster. That form
/// takes 1.25 (Zen 3) to 1.44 times (Haswell to Skylake) the time of bounded weights, and a row of
/// a fix costs a bit more than a row in order.
constexpr size_t kMaxFixPercent = 20;

/// Lowers the larger of two weights of one sign until they are bounded, and writes what it took
/// off, which is bounded on its own, to the same place of `rest`. Pairs of different signs are
/// bounded.
void split_pair(int8_t* pair, int8_t* rest) {
  constexpr int kBound = 128;
  const int sum = pair[0] + pair[1];
  const int excess = sum > kBound ? sum - kBound : sum < -kBound ? sum + kBound : 0;
  const size_t larger = std::abs(pair[0]) >= std::abs(pair[1]) ? 0 : 1;
  pair[larger] = static_cast<int8_t>(pair[larger] - excess);
  rest[larger] = static_cast<int8_t>(excess);
}

}  // namespace

struct PackedB::Source {
  const uint8_t* data;
  size_t stride_k;
  size_t stride_n;
  uint8_t flip;
};

/// Packs all panels for kernels_. fits: false when more rows than pays are unbounded; then the
/// panels are incomplete.
Status PackedB::pack_panels(const Source& source, size_t threads, bool* fits) {
  const GemmKernels& kernels = *kernels_;
  const size_t steps = kernels.padded_k(k_) / kernels.kr;
  panel_stride_ = steps * kernels.kr * kPanelWidth;
  const size_t panels = padded_n() / kPanelWidth;
  const size_t bytes = panels * panel_stride_;
  if (data_.size() != bytes) data_ = AlignedBuffer(bytes);
  if (bytes != 0 && data_.data() == nullptr) {
    return {Code::kOutOfMemory,
            "Cannot allocate " + std::to_string(bytes) + " bytes for packed weights."};
  }
  column_sum_.resize(padded_n());

  const size_t allowed = panels * steps * kMaxFixPercent / 100;
  std::atomic<size_t> unbounded{0};
  const auto pack_panel = [&](size_t p) {
    if (unbounded.load(std::memory_order_relaxed) > allowed) return;
    const size_t first = p * kPanelWidth;
    int8_t* const panel = reinterpret_cast<int8_t*>(data_.data()) + p * panel_stride_;
    kernels.pack_b_panel(k_, std::min(kPanelWidth, n_ - first),
                         source.data + first * source.stride_n, source.stride_k, source.stride_n,
                         source.flip, panel, column_sum_.data() + first);
    if (kernels.find_unbounded == nullptr) return;
    const size_t found = kernels.find_unbounded(steps, panel, nullptr);
    // The first panel speaks for the others, so that weights far from the bound are packed once.
    const bool is_hopeless = p == 0 && found * 100 > 2 * steps * kMaxFixPercent;
    unbounded.fetch_add(is_hopeless ? allowed + 1 : found, std::memory_order_relaxed);
  };
  if (threads == 1 || bytes < 2 * kMinBytesPerThread) {
    for (size_t p = 0; p < panels; ++p) pack_panel(p);
  } else {
    ThreadPool::instance().parallel_for(panels, threads, pack_panel);
  }
  *fits = unbounded.load(std::memory_order_relaxed) <= allowed;
  return *fits && unbounded.load(std::memory_order_relaxed) != 0 ? split_unbounded() : Status();
}

/// Moves what exceeds the bound into rows of their own.
Status PackedB::split_unbounded() {
  const size_t row_bytes = kernels_->kr * kPanelWidth;
  const size_t steps = panel_stride_ / row_bytes;
  const size_t panels = padded_n() / kPanelWidth;
  fixes_.resize(panels);
  const auto panel_at = [&](size_t p) {
    return reinterpret_cast<int8_t*>(data_.data()) + p * panel_stride_;
  };
  for (size_t p = 0; p < panels; ++p) {
    const size_t first = fix_steps_.size();
    fix_steps_.resize(first + steps);
    fixes_[p].count = kernels_->find_unbounded(steps, panel_at(p), fix_steps_.data() + first);
    fix_steps_.resize(first + fixes_[p].count);
  }
  const size_t bytes = fix_steps_.size() * row_bytes;
  if (fix_rows_.size() < bytes) fix_rows_ = AlignedBuffer(bytes);
  if (fix_rows_.data() == nullptr) {
    return {Code::kOutOfMemory, "Cannot allocate memory for packed weights."};
  }
  int8_t* const rows = reinterpret_cast<int8_t*>(fix_rows_.data());
  std::memset(rows, 0, bytes);
  size_t first = 0;
  for (size_t p = 0; p < panels; ++p) {
    fixes_[p].step = fix_steps_.data() + first;
    fixes_[p].rows = rows + first * row_bytes;
    const size_t last = first + fixes_[p].count;
    for (size_t i = first; i < last; ++i) {
      int8_t* const row = panel_at(p) + fix_steps_[i] * row_bytes;
      for (size_t pair = 0; pair < row_bytes; pair += 2) {
        split_pair(row + pair, rows + i * row_bytes + pair);
      }
    }
    first = last;
  }
  return {};
}

double PackedB::fix_share() const {
  const size_t steps = data_.size() / (kernels_->kr * kPanelWidth);
  return steps == 0 ? 0 : static_cast<double>(fix_steps_.size()) / static_cast<double>(steps);
}

Status PackedB::pack(const KernelTable& table, const void* b, bool b_signed, size_t k, size_t n,
                     size_t ldb, bool transposed, const int32_t* zero_point,
                     size_t zero_point_count, PackedB* out, size_t threads) {
  PackedB& packed = *out;
  packed.fixes_.clear();
  packed.fix_steps_.clear();
  packed.table_ = &table;
  packed.k_ = k;
  packed.n_ = n;
  // A quarter of the address space keeps every sum and product below from wrapping.
  constexpr size_t kLimit = std::numeric_limits<size_t>::max() / 4;
  constexpr size_t kMaxPadding = 64;
  if (k > kLimit / kPanelWidth || n > kLimit ||
      (k != 0 && (n + kPanelWidth) > kLimit / (k + kMaxPadding))) {
    return {Code::kOutOfMemory,
            "B of " + std::to_string(k) + "x" + std::to_string(n) + " does not fit into memory."};
  }
  const Source source = {static_cast<const uint8_t*>(b), transposed ? 1 : ldb, transposed ? ldb : 1,
                         b_signed ? uint8_t{0} : kFlip};
  for (const GemmKernels* kernels : {table.gemm_bounded, table.gemm}) {
    if (kernels == nullptr) continue;
    packed.kernels_ = &kernels->for_k(k);
    bool fits = false;
    Status status = packed.pack_panels(source, threads, &fits);
    if (!status.ok()) return status;
    if (fits) break;
  }

  const size_t padded_n = packed.padded_n();
  packed.zero_point_.assign(padded_n, 0);
  bool any = false;
  for (size_t column = 0; column < n; ++column) {
    const int32_t code = zero_point_count == 0 ? 0 : zero_point[zero_point_count == 1 ? 0 : column];
    packed.zero_point_[column] = canonical_b(code, b_signed);
    any |= packed.zero_point_[column] != 0;
  }
  if (!any) packed.zero_point_.clear();
  return {};
}

bool are_below_one(const float* scales, size_t count) {
  return std::all_of(scales, scales + count,
                     [](float scale) { return scale >= 0.0f && scale < 1.0f; });
}

void fold_bias(const PackedB& b, int32_t a_zero_point, bool a_signed, const int32_t* bias,
               int32_t* folded) {
  const uint32_t za =
      static_cast<uint32_t>(canonical_a(a_zero_point, a_signed, b.kernels(a_signed).a_signed));
  const uint32_t k_za = static_cast<uint32_t>(b.k()) * za;
  const int32_t* column_sum = b.column_sum();
  const int32_t* zero_point = b.zero_point();
  const size_t padded_n = b.padded_n();
  // One simple loop for each term, which compilers vectorise: a call with a single row of A is
  // short enough for this to show.
  const auto add = [&](uint32_t factor, const int32_t* values) {
    for (size_t n = 0; n < padded_n; ++n) {
      folded[n] = static_cast<int32_t>(static_cast<uint32_t>(folded[n]) +
                                       factor * static_cast<uint32_t>(values[n]));
    }
  };
  const size_t given = bias == nullptr ? 0 : b.n();
  std::copy_n(bias, given, folded);
  std::fill(folded + given, folded + padded_n, 0);
  if (za == 0) return;
  add(0u - za, column_sum);
  if (zero_point != nullptr) add(k_za, zero_point);
}

}  // namespace q8

// SPDX-License-Identifier: MIT
#include "ops/code_binary.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace q8 {
namespace {

constexpr size_t kCodes = 256;
constexpr size_t kPairs = kCodes * kCodes;
/// The search takes about 35 us, as long as the definition of 200 000 elements (AVX2, AVX-512); a
/// tensor is computed many times.
constexpr size_t kMinElements = 16 * 1024;
/// Candidates that are tried with every pair.
constexpr size_t kMaxTrials = 24;

/// Every pair of codes.
struct Pairs {
  std::vector<uint8_t> a = std::vector<uint8_t>(kPairs);
  std::vector<uint8_t> b = std::vector<uint8_t>(kPairs);

  Pairs() {
    for (size_t i = 0; i < kPairs; ++i) {
      a[i] = static_cast<uint8_t>(i / kCodes);
      b[i] = static_cast<uint8_t>(i % kCodes);
    }
  }
};

/// `value` and its neighbours, `steps` floats away.
float nudge(float value, int steps) {
  for (; steps > 0; --steps) value = std::nextafter(value, INFINITY);
  for (; steps < 0; ++steps) value = std::nextafter(value, -INFINITY);
  return value;
}

/// Zero point of the codes of the type.
int32_t own_zero_point(const CodeParams& p) { return p.zero_point - p.flip; }

}  // namespace

CodeBinary::CodeBinary(const VectorKernels& kernels, BinaryKind kind, const CodeParams& a,
                       const CodeParams& b, const QuantizeParams& y, size_t elements)
    : kernels_(&kernels), kind_(kind), a_(a), b_(b), y_(y) {
  if (kernels.qbinary_fused != nullptr && elements >= kMinElements && a.flip == b.flip &&
      kind != BinaryKind::kDiv) {
    is_fused_ = find_fused();
  }
}

/// Factors so that one rounding at the end gives what the definition's three or four give. They are
/// the quotients of the scales or near: of 65536 pairs about one lies so close to the middle of two
/// codes that roundings decide, and factors some floats away decide it as the definition does. A
/// candidate that fails leaves the pairs where it did, on which others are tried first.
bool CodeBinary::find_fused() {
  const double a_scale = a_.scale;
  const double b_scale = b_.scale;
  const double y_scale = y_.scale;
  const double a_zero = own_zero_point(a_);
  const double b_zero = own_zero_point(b_);
  FusedParams base = {};
  base.is_product = kind_ == BinaryKind::kMul;
  base.is_signed = a_.flip != 0;
  base.y_signed = static_cast<int32_t>(y_.hi) + y_.zero_point <= INT8_MAX;
  base.a_zero = static_cast<float>(a_zero);
  base.b_zero = static_cast<float>(b_zero);
  double offset = y_.zero_point;
  double largest = 0;
  if (base.is_product) {
    base.a_factor = static_cast<float>(a_scale * b_scale / y_scale);
    largest = std::fabs(a_scale * b_scale / y_scale) * kPairs;
  } else {
    const double sign = kind_ == BinaryKind::kSub ? -1 : 1;
    base.a_factor = static_cast<float>(a_scale / y_scale);
    base.b_factor = static_cast<float>(sign * b_scale / y_scale);
    offset -= a_zero * base.a_factor + b_zero * base.b_factor;
    largest = (std::fabs(a_scale) + std::fabs(b_scale)) / std::fabs(y_scale) * kCodes;
  }
  base.offset = static_cast<float>(offset);
  // Beyond int32 the kernel would give codes of the wrong side.
  if (!(largest < (1 << 30))) return false;

  static const Pairs pairs;
  std::vector<uint8_t> wanted(kPairs);
  std::vector<uint8_t> made(kPairs);
  kernels_->qbinary(kind_, kPairs, pairs.a.data(), 1, a_, pairs.b.data(), 1, b_, y_, wanted.data());
  struct {
    uint8_t a[kCodes];
    uint8_t b[kCodes];
  } doubtful;
  size_t doubtful_count = 0;
  std::vector<uint8_t> doubtful_wanted;
  // What moves a pair: a step of the offset is that of a sum of its size.
  const float offset_step = std::max(std::fabs(base.offset), 128.0f) * 0x1p-23f;
  constexpr int kReach = 3;
  size_t trials = 0;
  // Small steps first.
  for (int reach = 0; reach <= kReach; ++reach) {
    for (int i = -reach; i <= reach; ++i) {
      for (int j = -reach; j <= reach; ++j) {
        for (int l = -reach; l <= reach; ++l) {
          if (std::max({std::abs(i), std::abs(j), std::abs(l)}) != reach) continue;
          FusedParams candidate = base;
          candidate.a_factor = nudge(base.a_factor, i);
          candidate.b_factor = nudge(base.b_factor, base.is_product ? 0 : j);
          candidate.offset = base.offset + static_cast<float>(l) * offset_step;
          kernels_->qbinary_fused(doubtful_count, doubtful.a, doubtful.b, candidate, made.data());
          if (!std::equal(doubtful_wanted.begin(), doubtful_wanted.end(), made.begin())) continue;
          if (++trials > kMaxTrials) return false;
          kernels_->qbinary_fused(kPairs, pairs.a.data(), pairs.b.data(), candidate, made.data());
          if (made == wanted) {
            fused_ = candidate;
            return true;
          }
          for (size_t pair = 0; pair < kPairs; ++pair) {
            if (made[pair] == wanted[pair]) continue;
            doubtful.a[doubtful_count] = pairs.a[pair];
            doubtful.b[doubtful_count] = pairs.b[pair];
            doubtful_wanted.push_back(wanted[pair]);
            // Ties by the hundred follow a pattern that no factor has.
            if (++doubtful_count == kCodes) return false;
          }
        }
      }
    }
  }
  return false;
}

void CodeBinary::run(size_t n, const uint8_t* a, ptrdiff_t a_step, const uint8_t* b,
                     ptrdiff_t b_step, uint8_t* y) const {
  if (is_fused_ && a_step == 1 && b_step == 1) {
    kernels_->qbinary_fused(n, a, b, fused_, y);
  } else {
    kernels_->qbinary(kind_, n, a, a_step, a_, b, b_step, b_, y_, y);
  }
}

}  // namespace q8

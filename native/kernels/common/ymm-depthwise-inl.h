// SPDX-License-Identifier: MIT
/// Depthwise convolution on ymm, 16 channels at a time. Included once by kernels/<isa>/depthwise.cc
/// after Q8_TARGET and, in the room's namespace, what the multiply-add is:
///
///   kGroup, Weight           see depthwise-blocks-inl.h
///   __m256i spread(__m128i)  16 channels to where the unpacks of `interleave` want them
///   void interleave(const __m256i (&taps)[kGroup], __m256i (&operand)[2])
///   __m256i multiply_add(__m256i sums, __m256i taps, __m256i weights)
///   __m256i ones()           weights of 1
///
/// Registers of a rolling 3x3 (5x5) window: 6 (10) sums + 2 of operand + 1 tap + 1 product; weights
/// are memory operands. The last block of a channel count that is no multiple of 16 starts at
/// channels - 16 and repeats some channels, so that nothing is masked.
#include <immintrin.h>

#include "kernels/common/depthwise-inl.h"
#include "kernels/common/unroll-inl.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

constexpr size_t kLanes = 8;
constexpr size_t kBlockChannels = 2 * kLanes;

template <typename Visit>
void for_blocks(size_t channels, const Visit& visit) {
  if (channels < kBlockChannels) {
    if (channels != 0) visit(Index<2>{}, size_t{0}, channels);
    return;
  }
  size_t first = 0;
  for (; first + kBlockChannels <= channels; first += kBlockChannels)
    visit(Index<2>{}, first, kBlockChannels);
  if (first < channels) visit(Index<2>{}, channels - kBlockChannels, kBlockChannels);
}

/// The first n bytes at p, 1 <= n < 16, then zeros.
inline __m128i load_below_16(const uint8_t* p, size_t n) {
  if (n >= 8) {
    const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m128i last = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + n - 8));
    const __m128i shift = _mm_cvtsi32_si128(static_cast<int32_t>(8 * (16 - n)));
    return _mm_unpacklo_epi64(low, _mm_srl_epi64(last, shift));
  }
  uint64_t bytes = 0;
  for (size_t i = 0; i < n; ++i) bytes |= uint64_t{p[i]} << (8 * i);
  return _mm_cvtsi64_si128(static_cast<int64_t>(bytes));
}

template <size_t kBlockVectors, bool kWhole, bool kFlip, bool kCodes>
class Block {
 public:
  static constexpr size_t kVectors = kBlockVectors;
  static_assert(kVectors == 2);

  struct Sums {
    __m256i v[2];
  };
  using Raw = __m256i;
  struct Operand {
    __m256i v[2];
  };

  Block(const Epilogue& e, size_t live, uint8_t flip)
      : epilogue_(e),
        live_(live),
        is_signed_(e.kind == OutKind::kS8),
        flip_(_mm_set1_epi8(static_cast<char>(flip))),
        upper_(_mm256_set1_ps(e.hi)),
        code_zero_point_(_mm256_set1_epi16(static_cast<int16_t>(e.zero_point))),
        least_(_mm_set1_epi8(static_cast<char>(static_cast<int32_t>(e.lo) + e.zero_point))) {
    for (size_t i = 0; i < 2; ++i) {
      bias_[i] = in_order(e.bias, i);
      if (e.scale != nullptr) scale_[i] = _mm256_castsi256_ps(in_order(e.scale, i));
      if (e.b_zero_point != nullptr) zero_point_[i] = in_order(e.b_zero_point, i);
    }
  }

  Q8_ALWAYS_INLINE Raw load(const uint8_t* p) const {
    __m128i bytes =
        kWhole ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)) : load_below_16(p, live_);
    if constexpr (kFlip) bytes = _mm_xor_si128(bytes, flip_);
    return spread(bytes);
  }
  static Q8_ALWAYS_INLINE Raw absent() { return _mm256_setzero_si256(); }

  static Q8_ALWAYS_INLINE Operand interleave(const Raw (&taps)[kGroup]) {
    Operand operand;
    Q8_TARGET::interleave(taps, operand.v);
    return operand;
  }

  Q8_ALWAYS_INLINE Sums start() const { return {{bias_[0], bias_[1]}}; }
  static Q8_ALWAYS_INLINE Sums zero() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }

  static Q8_ALWAYS_INLINE void multiply_add(Sums& sums, const Operand& operand,
                                            const uint8_t* weights) {
    const __m256i* w = reinterpret_cast<const __m256i*>(weights);
    for (size_t i = 0; i < 2; ++i) {
      sums.v[i] = Q8_TARGET::multiply_add(sums.v[i], operand.v[i], _mm256_load_si256(w + i));
    }
  }
  static Q8_ALWAYS_INLINE void add_inputs(Sums& inputs, const Operand& operand) {
    for (size_t i = 0; i < 2; ++i)
      inputs.v[i] = Q8_TARGET::multiply_add(inputs.v[i], operand.v[i], ones());
  }
  Q8_ALWAYS_INLINE void subtract_inputs(Sums& sums, const Sums& inputs) const {
    for (size_t i = 0; i < 2; ++i) {
      sums.v[i] = _mm256_sub_epi32(sums.v[i], _mm256_mullo_epi32(zero_point_[i], inputs.v[i]));
    }
  }

  Q8_ALWAYS_INLINE void finish(const Sums& sums, void* out) const {
    if constexpr (kWhole) {
      store(sums, out);
    } else {
      alignas(32) uint8_t staged[kBlockChannels * sizeof(int32_t)];
      store(sums, staged);
      memcpy(out, staged, live_ * output_bytes(epilogue_.kind));
    }
  }

 private:
  /// Columns in the channel order of vector i. Arrays are readable up to the next multiple of 16.
  static __m256i in_order(const void* columns, size_t i) {
    const __m128i* p = static_cast<const __m128i*>(columns);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(p + i)),
                                   _mm_loadu_si128(p + i + 2), 1);
  }

  Q8_ALWAYS_INLINE void store(const Sums& sums, void* out) const {
    if constexpr (!kCodes) return store_words(sums, out);
    // Above, the clamp must come before the conversion, which makes INT_MIN of what is too large.
    // Below, INT_MIN is on the right side: saturating and a maximum of codes finish it.
    const __m256 lo = _mm256_mul_ps(_mm256_cvtepi32_ps(sums.v[0]), scale_[0]);
    const __m256 hi = _mm256_mul_ps(_mm256_cvtepi32_ps(sums.v[1]), scale_[1]);
    const __m256i words =
        _mm256_adds_epi16(_mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(lo, upper_)),
                                             _mm256_cvtps_epi32(_mm256_min_ps(hi, upper_))),
                          code_zero_point_);
    const __m128i first = _mm256_castsi256_si128(words);
    const __m128i second = _mm256_extracti128_si256(words, 1);
    const __m128i codes = is_signed_ ? _mm_max_epi8(_mm_packs_epi16(first, second), least_)
                                     : _mm_max_epu8(_mm_packus_epi16(first, second), least_);
    _mm_storeu_si128(static_cast<__m128i*>(out), codes);
  }

  Q8_ALWAYS_INLINE void store_words(const Sums& sums, void* out) const {
    const Epilogue& e = epilogue_;
    __m128i* p = static_cast<__m128i*>(out);
    for (size_t i = 0; i < 2; ++i) {
      __m256i words = sums.v[i];
      if (e.kind == OutKind::kF32) {
        __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(words), scale_[i]);
        if (e.float_bias != nullptr)
          y = _mm256_add_ps(y, _mm256_castsi256_ps(in_order(e.float_bias, i)));
        words = _mm256_castps_si256(y);
      }
      _mm_storeu_si128(p + i, _mm256_castsi256_si128(words));
      _mm_storeu_si128(p + i + 2, _mm256_extracti128_si256(words, 1));
    }
  }

  Epilogue epilogue_;
  size_t live_;
  bool is_signed_;
  __m128i flip_;
  // Of codes. Made once: the compiler must assume that stores of results change the epilogue.
  __m256 upper_;
  __m256i code_zero_point_;
  __m128i least_;
  __m256i bias_[2];
  __m256 scale_[2];
  __m256i zero_point_[2];
};

template <size_t kVectors>
using PlainBlock = Block<kVectors, true, false, true>;

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

#include "kernels/common/depthwise-blocks-inl.h"

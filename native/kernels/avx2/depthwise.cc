// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX2, 32 channels at a time. Two taps are interleaved byte by byte and
/// widened with zeros to pairs of 16 bits, which vpmaddwd multiplies by pairs of weights: exact,
/// and two products for one instruction. Per pair of taps and 32 channels: 2 loads, 2 flips, 6
/// unpacks (p5 on Intel, 2 ports on Zen), 4 vpmaddwd with weights from memory, 4 adds. Registers: 4
/// sums + 2 loaded + 4 unpacked + zero + flip = 12 of 16 ymm.
///
/// The unpacks leave 32 channels in the order below (low lane | high lane), which the packs of the
/// epilogue undo:
///   vector 0: 0-3 | 16-19   1: 4-7 | 20-23   2: 8-11 | 24-27   3: 12-15 | 28-31
///
/// Packed weights: blocks of 32 channels, each [pair of taps][4 vectors][8 channels][2 taps] as
/// int16. The last block of a channel count that is no multiple of 32 starts at channels - 32 and
/// repeats some channels, so that nothing is masked; fewer than 32 channels are put
/// together from overlapping loads.
#include <immintrin.h>

#include "kernels/common/depthwise-inl.h"

namespace q8::avx2 {
namespace {

constexpr size_t kBlock = 32;
constexpr size_t kPairBytes = kBlock * 2 * sizeof(int16_t);

size_t block_count(size_t channels) { return (channels + kBlock - 1) / kBlock; }

/// First channel of a block.
size_t block_start(size_t block, size_t channels) {
  const size_t first = block * kBlock;
  return channels >= kBlock && first + kBlock > channels ? channels - kBlock : first;
}

size_t depthwise_packed_bytes(size_t channels, size_t taps) {
  return block_count(channels) * ((taps + 1) / 2) * kPairBytes;
}

void pack_depthwise(size_t channels, size_t taps, const uint8_t* w, uint8_t flip, void* dst,
                    int32_t* channel_sum) {
  int16_t* out = static_cast<int16_t*>(dst);
  for (size_t block = 0; block < block_count(channels); ++block) {
    const size_t first = block_start(block, channels);
    for (size_t pair = 0; pair < (taps + 1) / 2; ++pair) {
      for (size_t v = 0; v < 4; ++v) {
        for (size_t i = 0; i < 8; ++i) {
          const size_t c = first + v * 4 + (i & 3) + (i >> 2) * 16;
          for (size_t t = pair * 2; t < pair * 2 + 2; ++t) {
            *out++ =
                c < channels && t < taps ? static_cast<int8_t>(w[c * taps + t] ^ flip) : int16_t{0};
          }
        }
      }
    }
  }
  sum_channels(channels, taps, w, flip, channel_sum);
}

/// Eight 32-bit column values in the channel order of vector v. Columns beyond `columns`, rounded
/// up to 16, are not read.
inline __m256i load_columns(const void* base, size_t v, size_t columns) {
  const __m128i* p = static_cast<const __m128i*>(base);
  const __m128i high = columns > 16 ? _mm_loadu_si128(p + v + 4) : _mm_setzero_si128();
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(p + v)), high, 1);
}
inline __m256 load_columns(const float* base, size_t v, size_t columns) {
  return _mm256_castsi256_ps(load_columns(static_cast<const void*>(base), v, columns));
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

/// The first n bytes at p, 1 <= n < 32, then zeros.
inline __m256i load_below_32(const uint8_t* p, size_t n) {
  if (n < 16) return _mm256_zextsi128_si256(load_below_16(p, n));
  // Shuffle indices i, i + 1, ... for i bytes shifted out; those of 0x80 give zeros.
  alignas(32) static constexpr uint8_t kShift[32] = {
      0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,
      11,   12,   13,   14,   15,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
      0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80};
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i last = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + n - 16));
  const __m128i shift = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kShift + (32 - n)));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_shuffle_epi8(last, shift), 1);
}

/// Finishes 32 channels, of which `columns` exist, and stores all 32.
inline void finish_block(const Epilogue& e, __m256i acc[4], const __m256i* inputs, size_t columns,
                         void* out) {
  for (size_t v = 0; v < 4; ++v) {
    if (inputs != nullptr) {
      acc[v] = _mm256_sub_epi32(
          acc[v], _mm256_mullo_epi32(load_columns(e.b_zero_point, v, columns), inputs[v]));
    }
    acc[v] = _mm256_add_epi32(acc[v], load_columns(e.bias, v, columns));
  }
  if (e.kind == OutKind::kU8 || e.kind == OutKind::kS8) {
    const __m256 lo = _mm256_set1_ps(e.lo);
    const __m256 hi = _mm256_set1_ps(e.hi);
    for (size_t v = 0; v < 4; ++v) {
      __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[v]), load_columns(e.scale, v, columns));
      f = _mm256_min_ps(_mm256_max_ps(f, lo), hi);
      acc[v] = _mm256_cvtps_epi32(f);
    }
    const __m256i zero_point = _mm256_set1_epi16(static_cast<int16_t>(e.zero_point));
    const __m256i low = _mm256_add_epi16(_mm256_packs_epi32(acc[0], acc[1]), zero_point);
    const __m256i high = _mm256_add_epi16(_mm256_packs_epi32(acc[2], acc[3]), zero_point);
    const __m256i codes =
        e.kind == OutKind::kU8 ? _mm256_packus_epi16(low, high) : _mm256_packs_epi16(low, high);
    _mm256_storeu_si256(static_cast<__m256i*>(out), codes);
    return;
  }
  __m128i* p = static_cast<__m128i*>(out);
  for (size_t v = 0; v < 4; ++v) {
    __m256i value = acc[v];
    if (e.kind == OutKind::kF32) {
      __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[v]), load_columns(e.scale, v, columns));
      if (e.float_bias != nullptr) f = _mm256_add_ps(f, load_columns(e.float_bias, v, columns));
      value = _mm256_castps_si256(f);
    }
    _mm_storeu_si128(p + v, _mm256_castsi256_si128(value));
    _mm_storeu_si128(p + v + 4, _mm256_extracti128_si256(value, 1));
  }
}

/// One block of 32 channels for all pixels. kTaps is the number of taps, or 0 for args.taps.
/// kWhole: 32 bytes may be read at each tap; otherwise args.channels bytes.
template <size_t kTaps, bool kWhole, bool kZeroPoint>
void run_block(const DepthwiseArgs& args, const Epilogue& epilogue, const uint8_t* weights,
               size_t offset, uint8_t* out) {
  const size_t taps = kTaps == 0 ? args.taps : kTaps;
  const size_t out_bytes = args.out_stride * output_bytes(epilogue.kind);
  const __m256i zero = _mm256_setzero_si256();
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(args.flip));
  const __m256i ones = _mm256_set1_epi16(1);
  for (size_t p = 0; p < args.pixels; ++p) {
    const uint8_t* const* source = args.source + p * taps;
    const auto load = [&](size_t t) {
      if constexpr (!kWhole) return _mm256_xor_si256(load_below_32(source[t], args.channels), flip);
      return _mm256_xor_si256(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source[t] + offset)), flip);
    };
    __m256i acc[4] = {zero, zero, zero, zero};
    __m256i inputs[4] = {zero, zero, zero, zero};
    const __m256i* w = reinterpret_cast<const __m256i*>(weights);
    const auto accumulate = [&](__m256i first, __m256i second) {
      const __m256i low = _mm256_unpacklo_epi8(first, second);
      const __m256i high = _mm256_unpackhi_epi8(first, second);
      const __m256i pairs[4] = {_mm256_unpacklo_epi8(low, zero), _mm256_unpackhi_epi8(low, zero),
                                _mm256_unpacklo_epi8(high, zero), _mm256_unpackhi_epi8(high, zero)};
      for (size_t v = 0; v < 4; ++v) {
        acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(pairs[v], _mm256_load_si256(w + v)));
        if constexpr (kZeroPoint)
          inputs[v] = _mm256_add_epi32(inputs[v], _mm256_madd_epi16(pairs[v], ones));
      }
      w += 4;
    };
    size_t t = 0;
    for (; t + 2 <= taps; t += 2) {
      const __m256i first = load(t);
      accumulate(first, load(t + 1));
    }
    if (t < taps) accumulate(load(t), zero);

    if constexpr (kWhole) {
      finish_block(epilogue, acc, kZeroPoint ? inputs : nullptr, kBlock, out);
    } else {
      alignas(32) uint8_t staged[kBlock * sizeof(int32_t)];
      finish_block(epilogue, acc, kZeroPoint ? inputs : nullptr, args.channels, staged);
      memcpy(out, staged, args.channels * output_bytes(epilogue.kind));
    }
    out += out_bytes;
  }
}

template <size_t kTaps, bool kWhole>
void run_blocks(const DepthwiseArgs& args) {
  const uint8_t* weights = static_cast<const uint8_t*>(args.weights);
  for (size_t block = 0; block < block_count(args.channels); ++block) {
    const size_t first = block_start(block, args.channels);
    const Epilogue epilogue = advance(args.epilogue, first);
    uint8_t* out = static_cast<uint8_t*>(args.out) + first * output_bytes(epilogue.kind);
    if (epilogue.b_zero_point == nullptr) {
      run_block<kTaps, kWhole, false>(args, epilogue, weights, first, out);
    } else {
      run_block<kTaps, kWhole, true>(args, epilogue, weights, first, out);
    }
    weights += (args.taps + 1) / 2 * kPairBytes;
  }
}

void depthwise(const DepthwiseArgs& args) {
  if (args.channels < kBlock) {
    return args.taps == 9 ? run_blocks<9, false>(args) : run_blocks<0, false>(args);
  }
  switch (args.taps) {
    case 9:
      return run_blocks<9, true>(args);
    case 25:
      return run_blocks<25, true>(args);
    default:
      return run_blocks<0, true>(args);
  }
}

}  // namespace

extern const ConvKernels kConv = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace q8::avx2

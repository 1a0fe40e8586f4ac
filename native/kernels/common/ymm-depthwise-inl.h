// SPDX-License-Identifier: MIT
/// Depthwise convolution on ymm, 32 channels at a time. Included once by kernels/<isa>/depthwise.cc
/// after what it does with a group of taps:
///
///   struct Taps {
///     static constexpr size_t kGroup;  // taps that a multiply-add sums in a lane
///     using Weight = ...;              // 4 bytes / kGroup
///     // acc[v] += products of rows and weights w[v]; with kInputs also inputs[v] += rows.
///     template <bool kInputs>
///     static void accumulate(const __m256i (&rows)[kGroup], const __m256i* w, __m256i (&acc)[4],
///                            __m256i (&inputs)[4]);
///   };
///
/// The rows of a group are interleaved with unpacks. These leave 32 channels in the order below
/// (low lane | high lane), which the packs of the epilogue undo:
///   vector 0: 0-3 | 16-19   1: 4-7 | 20-23   2: 8-11 | 24-27   3: 12-15 | 28-31
///
/// Packed weights: blocks of 32 channels, each [group of taps][4 vectors][8 channels][kGroup taps].
/// The last block of a channel count that is no multiple of 32 starts at channels - 32 and repeats
/// some channels, so that nothing is masked; fewer than 32 channels are put together from
/// overlapping loads.
#include <immintrin.h>

#include "kernels/common/depthwise-inl.h"

namespace q8 {
namespace {

constexpr size_t kBlock = 32;
/// Of packed weights, for a group of taps: 4 bytes a channel.
constexpr size_t kGroupBytes = kBlock * sizeof(int32_t);

size_t block_count(size_t channels) { return (channels + kBlock - 1) / kBlock; }

size_t group_count(size_t taps) { return (taps + Taps::kGroup - 1) / Taps::kGroup; }

/// First channel of a block.
size_t block_start(size_t block, size_t channels) {
  const size_t first = block * kBlock;
  return channels >= kBlock && first + kBlock > channels ? channels - kBlock : first;
}

size_t depthwise_packed_bytes(size_t channels, size_t taps) {
  return block_count(channels) * group_count(taps) * kGroupBytes;
}

void pack_depthwise(size_t channels, size_t taps, const uint8_t* w, uint8_t flip, void* dst,
                    int32_t* channel_sum) {
  Taps::Weight* out = static_cast<Taps::Weight*>(dst);
  for (size_t block = 0; block < block_count(channels); ++block) {
    const size_t first = block_start(block, channels);
    for (size_t group = 0; group < group_count(taps); ++group) {
      for (size_t v = 0; v < 4; ++v) {
        for (size_t i = 0; i < 8; ++i) {
          const size_t c = first + v * 4 + (i & 3) + (i >> 2) * 16;
          for (size_t t = group * Taps::kGroup; t < (group + 1) * Taps::kGroup; ++t) {
            const uint8_t code = c < channels && t < taps ? w[c * taps + t] ^ flip : 0;
            *out++ = static_cast<int8_t>(code);
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
    size_t t = 0;
    for (; t + Taps::kGroup <= taps; t += Taps::kGroup) {
      __m256i rows[Taps::kGroup];
      for (size_t i = 0; i < Taps::kGroup; ++i) rows[i] = load(t + i);
      Taps::accumulate<kZeroPoint>(rows, w, acc, inputs);
      w += 4;
    }
    if (t < taps) {
      __m256i rows[Taps::kGroup];
      for (size_t i = 0; i < Taps::kGroup; ++i) rows[i] = t + i < taps ? load(t + i) : zero;
      Taps::accumulate<kZeroPoint>(rows, w, acc, inputs);
    }

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
    weights += group_count(args.taps) * kGroupBytes;
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

constexpr ConvKernels kConvKernels = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace
}  // namespace q8

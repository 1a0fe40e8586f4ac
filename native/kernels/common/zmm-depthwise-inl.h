// SPDX-License-Identifier: MIT
/// Depthwise convolution on zmm, 64 channels at a time. Included once by kernels/<isa>/depthwise.cc
/// after what it does with a group of taps:
///
///   struct Taps {
///     static constexpr size_t kGroup;  // taps that a multiply-add sums in a lane
///     using Weight = ...;              // 4 bytes / kGroup
///     // acc[v] += products of rows and weights w[v]; with kInputs also inputs[v] += rows.
///     template <bool kInputs>
///     static void accumulate(const __m512i (&rows)[kGroup], const __m512i* w, __m512i (&acc)[4],
///                            __m512i (&inputs)[4]);
///   };
///
/// The rows of a group are interleaved with unpacks. These leave 64 channels in this order, lane L
/// holding those of 16 L + ...; the packs of the epilogue undo it:
///   vector 0: 0-3   1: 4-7   2: 8-11   3: 12-15
///
/// Packed weights: blocks of 64 channels, each [group of taps][4 vectors][16 channels][kGroup
/// taps], zero where there is no channel or tap. Loads and stores of the last block are masked.
#include <immintrin.h>

#include "kernels/common/depthwise-inl.h"

namespace q8 {
namespace {

constexpr size_t kBlock = 64;
/// Of packed weights, for a group of taps: 4 bytes a channel.
constexpr size_t kGroupBytes = kBlock * sizeof(int32_t);

size_t block_count(size_t channels) { return (channels + kBlock - 1) / kBlock; }

size_t group_count(size_t taps) { return (taps + Taps::kGroup - 1) / Taps::kGroup; }

/// Channel, within its block, of 32-bit element i of vector v.
constexpr size_t channel_of(size_t v, size_t i) { return (i >> 2) * 16 + v * 4 + (i & 3); }

size_t depthwise_packed_bytes(size_t channels, size_t taps) {
  return block_count(channels) * group_count(taps) * kGroupBytes;
}

void pack_depthwise(size_t channels, size_t taps, const uint8_t* w, uint8_t flip, void* dst,
                    int32_t* channel_sum) {
  Taps::Weight* out = static_cast<Taps::Weight*>(dst);
  for (size_t block = 0; block < block_count(channels); ++block) {
    for (size_t group = 0; group < group_count(taps); ++group) {
      for (size_t v = 0; v < 4; ++v) {
        for (size_t i = 0; i < 16; ++i) {
          const size_t c = block * kBlock + channel_of(v, i);
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

/// Sixteen column values in the channel order of vector v: four 128-bit pieces, 16 columns apart,
/// each read only if the block has any of its columns (column arrays are readable up to the next
/// multiple of 16).
inline __m512i load_columns(const void* base, size_t v, size_t columns) {
  const __m128i* p = static_cast<const __m128i*>(base) + v;
  __m512i value = _mm512_castsi128_si512(_mm_loadu_si128(p));
  if (columns > 16) value = _mm512_inserti32x4(value, _mm_loadu_si128(p + 4), 1);
  if (columns > 32) value = _mm512_inserti32x4(value, _mm_loadu_si128(p + 8), 2);
  if (columns > 48) value = _mm512_inserti32x4(value, _mm_loadu_si128(p + 12), 3);
  return value;
}

inline void finish_block(const Epilogue& e, __m512i acc[4], const __m512i* inputs, size_t columns,
                         __mmask64 channels, void* out) {
  for (size_t v = 0; v < 4; ++v) {
    if (inputs != nullptr) {
      acc[v] = _mm512_sub_epi32(
          acc[v], _mm512_mullo_epi32(load_columns(e.b_zero_point, v, columns), inputs[v]));
    }
    acc[v] = _mm512_add_epi32(acc[v], load_columns(e.bias, v, columns));
  }
  if (e.kind == OutKind::kU8 || e.kind == OutKind::kS8) {
    const __m512 lo = _mm512_set1_ps(e.lo);
    const __m512 hi = _mm512_set1_ps(e.hi);
    for (size_t v = 0; v < 4; ++v) {
      __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[v]),
                               _mm512_castsi512_ps(load_columns(e.scale, v, columns)));
      f = _mm512_min_ps(_mm512_max_ps(f, lo), hi);
      acc[v] = _mm512_cvtps_epi32(f);
    }
    const __m512i zero_point = _mm512_set1_epi16(static_cast<int16_t>(e.zero_point));
    const __m512i low = _mm512_add_epi16(_mm512_packs_epi32(acc[0], acc[1]), zero_point);
    const __m512i high = _mm512_add_epi16(_mm512_packs_epi32(acc[2], acc[3]), zero_point);
    const __m512i codes =
        e.kind == OutKind::kU8 ? _mm512_packus_epi16(low, high) : _mm512_packs_epi16(low, high);
    _mm512_mask_storeu_epi8(out, channels, codes);
    return;
  }
  alignas(64) int32_t staged[kBlock];
  for (size_t v = 0; v < 4; ++v) {
    __m512i value = acc[v];
    if (e.kind == OutKind::kF32) {
      const __m512 scale = _mm512_castsi512_ps(load_columns(e.scale, v, columns));
      __m512 f = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[v]), scale);
      if (e.float_bias != nullptr) {
        f = _mm512_add_ps(f, _mm512_castsi512_ps(load_columns(e.float_bias, v, columns)));
      }
      value = _mm512_castps_si512(f);
    }
    __m128i* to = reinterpret_cast<__m128i*>(staged) + v;
    _mm_store_si128(to, _mm512_castsi512_si128(value));
    _mm_store_si128(to + 4, _mm512_extracti32x4_epi32(value, 1));
    _mm_store_si128(to + 8, _mm512_extracti32x4_epi32(value, 2));
    _mm_store_si128(to + 12, _mm512_extracti32x4_epi32(value, 3));
  }
  memcpy(out, staged, columns * sizeof(int32_t));
}

/// One block for all pixels; kTaps is the number of taps, or 0 for args.taps.
template <size_t kTaps, bool kZeroPoint>
void run_block(const DepthwiseArgs& args, const Epilogue& epilogue, const uint8_t* weights,
               size_t offset, size_t columns, uint8_t* out) {
  const size_t taps = kTaps == 0 ? args.taps : kTaps;
  const size_t out_bytes = args.out_stride * output_bytes(epilogue.kind);
  const __mmask64 channels = columns >= kBlock ? ~__mmask64{0} : (__mmask64{1} << columns) - 1;
  const __m512i zero = _mm512_setzero_si512();
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(args.flip));
  for (size_t p = 0; p < args.pixels; ++p) {
    const uint8_t* const* source = args.source + p * taps;
    const auto load = [&](size_t t) {
      return _mm512_xor_si512(_mm512_maskz_loadu_epi8(channels, source[t] + offset), flip);
    };
    __m512i acc[4] = {zero, zero, zero, zero};
    __m512i inputs[4] = {zero, zero, zero, zero};
    const __m512i* w = reinterpret_cast<const __m512i*>(weights);
    size_t t = 0;
    for (; t + Taps::kGroup <= taps; t += Taps::kGroup) {
      __m512i rows[Taps::kGroup];
      for (size_t i = 0; i < Taps::kGroup; ++i) rows[i] = load(t + i);
      Taps::accumulate<kZeroPoint>(rows, w, acc, inputs);
      w += 4;
    }
    if (t < taps) {
      __m512i rows[Taps::kGroup];
      for (size_t i = 0; i < Taps::kGroup; ++i) rows[i] = t + i < taps ? load(t + i) : zero;
      Taps::accumulate<kZeroPoint>(rows, w, acc, inputs);
    }
    finish_block(epilogue, acc, kZeroPoint ? inputs : nullptr, columns, channels, out);
    out += out_bytes;
  }
}

template <size_t kTaps>
void run_blocks(const DepthwiseArgs& args) {
  const uint8_t* weights = static_cast<const uint8_t*>(args.weights);
  for (size_t first = 0; first < args.channels; first += kBlock) {
    const Epilogue epilogue = advance(args.epilogue, first);
    const size_t columns = args.channels - first < kBlock ? args.channels - first : kBlock;
    uint8_t* out = static_cast<uint8_t*>(args.out) + first * output_bytes(epilogue.kind);
    if (epilogue.b_zero_point == nullptr) {
      run_block<kTaps, false>(args, epilogue, weights, first, columns, out);
    } else {
      run_block<kTaps, true>(args, epilogue, weights, first, columns, out);
    }
    weights += group_count(args.taps) * kGroupBytes;
  }
}

void depthwise(const DepthwiseArgs& args) {
  switch (args.taps) {
    case 9:
      return run_blocks<9>(args);
    case 25:
      return run_blocks<25>(args);
    default:
      return run_blocks<0>(args);
  }
}

constexpr ConvKernels kConvKernels = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace
}  // namespace q8

// SPDX-License-Identifier: MIT
/// Depthwise convolution for AVX512-VNNI, 64 channels at a time. Four taps are interleaved into
/// dwords with byte and word unpacks, and one vpdpbusd multiplies them by four weights: all four
/// multipliers of a lane do useful work. Per four taps and 64 channels: 4 loads, 4 flips, 8 unpacks
/// (p5), 4 vpdpbusd (p0, p5) with weights from memory. Registers: 4 sums + 4 loaded + 8 unpacked +
/// flip = 17 of 32 zmm.
///
/// The unpacks leave 64 channels in this order, lane L holding those of 16 L + ...; the packs of
/// the epilogue undo it:
///   vector 0: 0-3   1: 4-7   2: 8-11   3: 12-15
///
/// Packed weights: blocks of 64 channels, each [group of 4 taps][4 vectors][16 channels][4 taps] as
/// int8, zero where there is no channel or tap. Loads and stores of the last block are masked.
#include <immintrin.h>

#include "kernels/common/depthwise-inl.h"

namespace q8::avx512vnni {
namespace {

constexpr size_t kBlock = 64;
constexpr size_t kGroupBytes = kBlock * 4;

size_t block_count(size_t channels) { return (channels + kBlock - 1) / kBlock; }

/// Channel, within its block, of 32-bit element i of vector v.
constexpr size_t channel_of(size_t v, size_t i) { return (i >> 2) * 16 + v * 4 + (i & 3); }

size_t depthwise_packed_bytes(size_t channels, size_t taps) {
  return block_count(channels) * ((taps + 3) / 4) * kGroupBytes;
}

void pack_depthwise(size_t channels, size_t taps, const uint8_t* w, uint8_t flip, void* dst,
                    int32_t* channel_sum) {
  uint8_t* out = static_cast<uint8_t*>(dst);
  for (size_t block = 0; block < block_count(channels); ++block) {
    for (size_t group = 0; group < (taps + 3) / 4; ++group) {
      for (size_t v = 0; v < 4; ++v) {
        for (size_t i = 0; i < 16; ++i) {
          const size_t c = block * kBlock + channel_of(v, i);
          for (size_t t = group * 4; t < group * 4 + 4; ++t) {
            *out++ = c < channels && t < taps ? w[c * taps + t] ^ flip : uint8_t{0};
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
  const __m512i ones = _mm512_set1_epi8(1);
  for (size_t p = 0; p < args.pixels; ++p) {
    const uint8_t* const* source = args.source + p * taps;
    const auto load = [&](size_t t) {
      if (t >= taps) return zero;
      return _mm512_xor_si512(_mm512_maskz_loadu_epi8(channels, source[t] + offset), flip);
    };
    __m512i acc[4] = {zero, zero, zero, zero};
    __m512i inputs[4] = {zero, zero, zero, zero};
    const uint8_t* w = weights;
    for (size_t t = 0; t < taps; t += 4) {
      const __m512i r0 = load(t);
      const __m512i r1 = load(t + 1);
      const __m512i r2 = load(t + 2);
      const __m512i r3 = load(t + 3);
      const __m512i low01 = _mm512_unpacklo_epi8(r0, r1);
      const __m512i high01 = _mm512_unpackhi_epi8(r0, r1);
      const __m512i low23 = _mm512_unpacklo_epi8(r2, r3);
      const __m512i high23 = _mm512_unpackhi_epi8(r2, r3);
      const __m512i quads[4] = {
          _mm512_unpacklo_epi16(low01, low23), _mm512_unpackhi_epi16(low01, low23),
          _mm512_unpacklo_epi16(high01, high23), _mm512_unpackhi_epi16(high01, high23)};
      for (size_t v = 0; v < 4; ++v) {
        acc[v] = _mm512_dpbusd_epi32(acc[v], quads[v], _mm512_loadu_si512(w + v * 64));
        if constexpr (kZeroPoint) inputs[v] = _mm512_dpbusd_epi32(inputs[v], quads[v], ones);
      }
      w += kGroupBytes;
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
    weights += (args.taps + 3) / 4 * kGroupBytes;
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

}  // namespace

extern const ConvKernels kConv = {depthwise_packed_bytes, pack_depthwise, depthwise};

}  // namespace q8::avx512vnni

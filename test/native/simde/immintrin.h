// SPDX-License-Identifier: MIT
/// Stands in for the compiler's <immintrin.h> when a room is compiled for emulation: SIMDe's
/// portable intrinsics under their native names, and lane by lane those that SIMDe 0.7.4 lacks or
/// that the GEMM repeats so often that inlined copies would keep the compiler busy for minutes.
/// Masked accesses touch only the lanes of the mask, as the CPU does.
#pragma once

#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <cmath>
#include <cstdint>
#include <cstring>

using __mmask16 = simde__mmask16;
using __mmask32 = simde__mmask32;
using __mmask64 = simde__mmask64;

namespace q8_emulation {

#define Q8_EMULATED __attribute__((noinline, unused)) static

/// name(a, b) with 16 lanes: result lane = `expression` of x and y.
#define Q8_LANEWISE(name, Vector, Lane, expression)           \
  Q8_EMULATED Vector name(const Vector& a, const Vector& b) { \
    Lane left[16];                                            \
    Lane right[16];                                           \
    std::memcpy(left, &a, sizeof(left));                      \
    std::memcpy(right, &b, sizeof(right));                    \
    for (size_t i = 0; i < 16; ++i) {                         \
      const Lane x = left[i];                                 \
      const Lane y = right[i];                                \
      left[i] = (expression);                                 \
    }                                                         \
    Vector result;                                            \
    std::memcpy(&result, left, sizeof(left));                 \
    return result;                                            \
  }

Q8_LANEWISE(add_epi32, __m512i, uint32_t, x + y)
Q8_LANEWISE(sub_epi32, __m512i, uint32_t, x - y)
Q8_LANEWISE(mullo_epi32, __m512i, uint32_t, x* y)
Q8_LANEWISE(add_ps, __m512, float, x + y)
Q8_LANEWISE(mul_ps, __m512, float, x* y)
Q8_LANEWISE(min_ps, __m512, float, x < y ? x : y)
Q8_LANEWISE(max_ps, __m512, float, x > y ? x : y)

/// VPDPBUSD on any width.
template <typename Vector>
__attribute__((noinline)) Vector dpbusd(const Vector& acc, const Vector& a, const Vector& b) {
  uint32_t sum[sizeof(Vector) / 4];
  uint8_t left[sizeof(Vector)];
  int8_t right[sizeof(Vector)];
  std::memcpy(sum, &acc, sizeof(sum));
  std::memcpy(left, &a, sizeof(left));
  std::memcpy(right, &b, sizeof(right));
  for (size_t i = 0; i < sizeof(Vector); ++i) {
    sum[i / 4] += static_cast<uint32_t>(left[i] * right[i]);
  }
  Vector result;
  std::memcpy(&result, sum, sizeof(sum));
  return result;
}

Q8_EMULATED __m512i madd_epi16(const __m512i& a, const __m512i& b) {
  int16_t left[32];
  int16_t right[32];
  uint32_t sum[16];
  std::memcpy(left, &a, sizeof(left));
  std::memcpy(right, &b, sizeof(right));
  for (size_t i = 0; i < 16; ++i) {
    sum[i] = static_cast<uint32_t>(left[2 * i] * right[2 * i]) +
             static_cast<uint32_t>(left[2 * i + 1] * right[2 * i + 1]);
  }
  __m512i result;
  std::memcpy(&result, sum, sizeof(sum));
  return result;
}

Q8_EMULATED __m512i cvtepi8_epi16(const __m256i& v) {
  int8_t from[32];
  int16_t to[32];
  std::memcpy(from, &v, sizeof(from));
  for (size_t i = 0; i < 32; ++i) to[i] = from[i];
  __m512i result;
  std::memcpy(&result, to, sizeof(to));
  return result;
}

Q8_EMULATED __m512i cvtepu8_epi16(const __m256i& v) {
  uint8_t from[32];
  uint16_t to[32];
  std::memcpy(from, &v, sizeof(from));
  for (size_t i = 0; i < 32; ++i) to[i] = from[i];
  __m512i result;
  std::memcpy(&result, to, sizeof(to));
  return result;
}

template <typename Byte>
__attribute__((noinline)) __m512i widen_to_32(const __m128i& v) {
  Byte from[16];
  int32_t to[16];
  std::memcpy(from, &v, sizeof(from));
  for (size_t i = 0; i < 16; ++i) to[i] = from[i];
  __m512i result;
  std::memcpy(&result, to, sizeof(to));
  return result;
}

Q8_EMULATED __m512i permutexvar_epi64(const __m512i& index, const __m512i& v) {
  uint64_t from[8];
  uint64_t at[8];
  uint64_t to[8];
  std::memcpy(from, &v, sizeof(from));
  std::memcpy(at, &index, sizeof(at));
  for (size_t i = 0; i < 8; ++i) to[i] = from[at[i] % 8];
  __m512i result;
  std::memcpy(&result, to, sizeof(to));
  return result;
}

template <typename Lane, typename Vector>
__attribute__((noinline)) void mask_store(void* out, uint64_t mask, const Vector& v) {
  constexpr size_t kLanes = sizeof(Vector) / sizeof(Lane);
  Lane lanes[kLanes];
  std::memcpy(lanes, &v, sizeof(lanes));
  for (size_t i = 0; i < kLanes; ++i) {
    if (mask >> i & 1) std::memcpy(static_cast<Lane*>(out) + i, lanes + i, sizeof(Lane));
  }
}

template <typename Lane>
__attribute__((noinline)) __m512i maskz_load(uint64_t mask, const void* in) {
  constexpr size_t kLanes = sizeof(__m512i) / sizeof(Lane);
  Lane lanes[kLanes] = {};
  for (size_t i = 0; i < kLanes; ++i) {
    if (mask >> i & 1) std::memcpy(lanes + i, static_cast<const Lane*>(in) + i, sizeof(Lane));
  }
  __m512i result;
  std::memcpy(&result, lanes, sizeof(lanes));
  return result;
}

Q8_EMULATED __m512 cvtepi32_ps(const __m512i& v) {
  int32_t from[16];
  float to[16];
  std::memcpy(from, &v, sizeof(from));
  for (size_t i = 0; i < 16; ++i) to[i] = static_cast<float>(from[i]);
  __m512 result;
  std::memcpy(&result, to, sizeof(to));
  return result;
}

Q8_EMULATED __m512i cvtps_epi32(const __m512& v) {
  float from[16];
  int32_t to[16];
  std::memcpy(from, &v, sizeof(from));
  for (size_t i = 0; i < 16; ++i) {
    // What does not fit, and NaN, becomes the least number.
    const bool fits = from[i] >= -2147483648.0f && from[i] < 2147483648.0f;
    to[i] = fits ? static_cast<int32_t>(std::nearbyint(from[i])) : INT32_MIN;
  }
  __m512i result;
  std::memcpy(&result, to, sizeof(to));
  return result;
}

/// Unsigned lanes wrap.
template <typename Lane>
__attribute__((noinline)) Lane reduce_add(const __m512i& v) {
  Lane lanes[sizeof(__m512i) / sizeof(Lane)];
  std::memcpy(lanes, &v, sizeof(lanes));
  Lane sum = 0;
  for (const Lane lane : lanes) sum += lane;
  return sum;
}

Q8_EMULATED __m128i cvtepi32_epi8(const __m512i& v) {
  int32_t from[16];
  int8_t to[16];
  std::memcpy(from, &v, sizeof(from));
  for (size_t i = 0; i < 16; ++i) to[i] = static_cast<int8_t>(from[i]);
  __m128i result;
  std::memcpy(&result, to, sizeof(to));
  return result;
}

#undef Q8_EMULATED
#undef Q8_LANEWISE

}  // namespace q8_emulation

#undef _mm512_add_epi32
#undef _mm512_sub_epi32
#undef _mm512_mullo_epi32
#undef _mm512_add_ps
#undef _mm512_mul_ps
#undef _mm512_min_ps
#undef _mm512_max_ps
#undef _mm512_dpbusd_epi32
#undef _mm512_madd_epi16
#undef _mm512_cvtepi8_epi16
#undef _mm512_cvtepu8_epi16
#undef _mm512_permutexvar_epi64
#undef _mm512_maskz_loadu_epi8
#define _mm512_add_epi32 q8_emulation::add_epi32
#define _mm512_sub_epi32 q8_emulation::sub_epi32
#define _mm512_mullo_epi32 q8_emulation::mullo_epi32
#define _mm512_add_ps q8_emulation::add_ps
#define _mm512_mul_ps q8_emulation::mul_ps
#define _mm512_min_ps q8_emulation::min_ps
#define _mm512_max_ps q8_emulation::max_ps
#define _mm512_dpbusd_epi32 q8_emulation::dpbusd<__m512i>
#define _mm256_dpbusd_avx_epi32 q8_emulation::dpbusd<__m256i>
#define _mm512_madd_epi16 q8_emulation::madd_epi16
#define _mm512_cvtepi8_epi16 q8_emulation::cvtepi8_epi16
#define _mm512_cvtepu8_epi16 q8_emulation::cvtepu8_epi16
#define _mm512_cvtepu8_epi32 q8_emulation::widen_to_32<uint8_t>
#undef _mm512_cvtepi8_epi32
#define _mm512_cvtepi8_epi32 q8_emulation::widen_to_32<int8_t>
#define _mm512_permutexvar_epi64 q8_emulation::permutexvar_epi64
#define _mm512_mask_storeu_epi32 q8_emulation::mask_store<int32_t>
#define _mm512_mask_storeu_ps q8_emulation::mask_store<float>
#define _mm512_maskz_loadu_epi8 q8_emulation::maskz_load<uint8_t>
#define _mm512_maskz_loadu_epi16 q8_emulation::maskz_load<uint16_t>
#define _mm512_mask_storeu_epi8 q8_emulation::mask_store<int8_t>
#define _mm512_mask_storeu_epi16 q8_emulation::mask_store<int16_t>
#define _mm512_reduce_add_epi64 q8_emulation::reduce_add<uint64_t>
#define _mm512_reduce_add_epi32 q8_emulation::reduce_add<uint32_t>
#define _mm256_mask_storeu_epi8 q8_emulation::mask_store<int8_t>
#define _mm_mask_storeu_epi8 q8_emulation::mask_store<int8_t>
#define _mm512_cvtepi32_ps q8_emulation::cvtepi32_ps
#define _mm512_cvtps_epi32 q8_emulation::cvtps_epi32
#define _mm512_cvtepi32_epi8 q8_emulation::cvtepi32_epi8

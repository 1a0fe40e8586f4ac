// SPDX-License-Identifier: MIT
/// How much of a requantization an epilogue needs. Included by the files of a room after Q8_TARGET.
#pragma once

#include "kernels/gemm_kernels.h"

namespace q8 {
namespace Q8_TARGET {
namespace {

/// kFits: products fit int32 without a clamp. kPlain: what saturates at the ends of the type is
/// right as well, and no zero point is added before.
enum class Rounding { kGeneral, kFits, kPlain };

/// The way that suits an epilogue; kGeneral where results are no codes.
inline Rounding rounding_of(const Epilogue& e) {
  const bool is_signed = e.kind == OutKind::kS8;
  if (!e.scales_below_one || !(is_signed || e.kind == OutKind::kU8)) return Rounding::kGeneral;
  const bool is_whole = is_signed ? e.lo == -128 && e.hi == 127 : e.lo == 0 && e.hi == 255;
  return is_whole && e.zero_point == 0 ? Rounding::kPlain : Rounding::kFits;
}

}  // namespace
}  // namespace Q8_TARGET
}  // namespace q8

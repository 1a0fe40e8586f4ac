// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

#include <memory>

#include "gemm/gemm.h"

namespace q8 {

/// Exports packGemm(), qgemm() and qgemmAsync().
void InitQgemm(Napi::Env env, Napi::Object exports);

/// A PackedGemm object.
Napi::Object packed_gemm_handle(Napi::Env env, std::shared_ptr<const PackedB> packed);

/// The weights behind a PackedGemm object made by packGemm(). @throws for anything else and after
/// release().
std::shared_ptr<const PackedB> packed_gemm_of(Napi::Env env, napi_value object);

}  // namespace q8

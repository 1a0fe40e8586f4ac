// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace q8 {

/// Exports packConv(), packConvF32(), packGemmF32() and createProgram().
void InitProgram(Napi::Env env, Napi::Object exports);

}  // namespace q8

// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace q8 {

/// Exports cpuInfo() and measurePeak(). @throws ERR_Q8_UNSUPPORTED_CPU when Q8_ISA asks for what
/// cannot run here.
void InitCpu(Napi::Env env, Napi::Object exports);

}  // namespace q8

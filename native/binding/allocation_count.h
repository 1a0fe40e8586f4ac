// SPDX-License-Identifier: MIT
/// Counts allocations of running programs. See allocation_count.cc.
#pragma once

#include <napi.h>

namespace q8 {

void InitAllocationCount(Napi::Env env, Napi::Object exports);

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Exports of q8.node. What they do is in native/binding/; their types are in binding.d.ts.
#include <napi.h>

#include "binding/allocation_count.h"
#include "binding/cpu_binding.h"
#include "binding/program_binding.h"
#include "binding/qgemm_binding.h"

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  q8::InitCpu(env, exports);
  q8::InitQgemm(env, exports);
  q8::InitProgram(env, exports);
  q8::InitAllocationCount(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(q8, Init)

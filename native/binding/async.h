// SPDX-License-Identifier: MIT
/// Asynchronous calls: work goes to the process's thread pool, the promise is settled on the
/// JavaScript thread it came from. When an environment ends (worker.terminate(), process.exit()),
/// its calls are told to abort and waited for, because they use its buffers.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "core/status.h"

namespace q8 {

/// Multiply-adds of a job, or what takes as long; for one that may take any time.
inline constexpr double kUnknownWork = 0;

/// Runs `work` on the pool and returns a promise of undefined, rejected with the status's error.
/// `pins` stay alive until then. `cancel` may be null or point into one of them; `work` is given
/// the flag to poll, which is also set when the environment ends. `macs` tells how long the work
/// takes: where many short calls are in flight, several promises may be settled at once. Thread:
/// JS; `work` runs on a pool thread and must not touch JavaScript values.
Napi::Promise run_async(Napi::Env env, const std::vector<napi_value>& pins, int32_t* cancel,
                        double macs, std::function<Status(const int32_t* cancel)> work);

}  // namespace q8

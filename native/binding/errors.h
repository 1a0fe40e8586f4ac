// SPDX-License-Identifier: MIT
/// Status -> JavaScript error. The error's `code` is a Q8ErrorCode ("ERR_Q8_ABORTED" stays inside
/// lib/, which answers with the signal's reason).
#pragma once

#include <napi.h>

#include <string>

#include "core/status.h"

namespace q8 {

/// Thread: JS.
Napi::Error to_error(Napi::Env env, const Status& status);

[[noreturn]] void throw_error(Napi::Env env, Code code, const std::string& message);

/// Throws unless ok.
void check(Napi::Env env, const Status& status);

}  // namespace q8

// SPDX-License-Identifier: MIT
#include "binding/errors.h"

namespace q8 {

Napi::Error to_error(Napi::Env env, const Status& status) {
  Napi::Error error = Napi::Error::New(env, status.message());
  error.Set("code", Napi::String::New(env, code_name(status.code())));
  return error;
}

void throw_error(Napi::Env env, Code code, const std::string& message) {
  throw to_error(env, Status(code, message));
}

void check(Napi::Env env, const Status& status) {
  if (!status.ok()) throw to_error(env, status);
}

}  // namespace q8

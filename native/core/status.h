// SPDX-License-Identifier: MIT
/// Result of core functions that can fail: a code that becomes Q8Error.code, and a sentence. The
/// core never throws, never prints and never aborts; native/binding turns a Status into a
/// JavaScript error.
#pragma once

#include <string>
#include <utility>

namespace q8 {

enum class Code {
  kOk,
  kInvalidArgument,
  kShapeMismatch,
  kUnsupportedDtype,
  kUnsupportedCpu,
  kDisposed,
  kDetachedBuffer,
  kOutOfMemory,
  kAborted,
  kInternal,
};

/// "ERR_Q8_INVALID_ARGUMENT" and so on; "" for kOk.
const char* code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

}  // namespace q8

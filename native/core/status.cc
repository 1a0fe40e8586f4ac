// SPDX-License-Identifier: MIT
#include "core/status.h"

namespace q8 {

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "";
    case Code::kInvalidArgument:
      return "ERR_Q8_INVALID_ARGUMENT";
    case Code::kShapeMismatch:
      return "ERR_Q8_SHAPE_MISMATCH";
    case Code::kUnsupportedDtype:
      return "ERR_Q8_UNSUPPORTED_DTYPE";
    case Code::kUnsupportedCpu:
      return "ERR_Q8_UNSUPPORTED_CPU";
    case Code::kDisposed:
      return "ERR_Q8_DISPOSED";
    case Code::kDetachedBuffer:
      return "ERR_Q8_DETACHED_BUFFER";
    case Code::kOutOfMemory:
      return "ERR_Q8_OUT_OF_MEMORY";
    case Code::kAborted:
      return "ERR_Q8_ABORTED";
    case Code::kInternal:
      return "ERR_Q8_INTERNAL";
  }
  return "ERR_Q8_INTERNAL";
}

}  // namespace q8

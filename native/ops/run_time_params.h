// SPDX-License-Identifier: MIT
/// Scale and zero point of an activation that are in buffers, because an earlier step computes
/// them.
#pragma once

#include "program/step.h"
#include "program/step_reader.h"

namespace q8 {

/// The buffer `xZeroPoint`, of the dtype of x.
struct RunTimeZeroPoint {
  BufferId buffer = 0;
  bool is_signed = false;

  RunTimeZeroPoint() = default;
  RunTimeZeroPoint(StepReader& reader, BufferId codes);
  /// The code, as it stands there.
  int32_t value(const RunContext& context) const;
};

/// The buffer `xScale`, which results in float32 need and int32 ones do not have. There is no
/// requantizing with it.
struct RunTimeScale {
  BufferId buffer = 0;
  bool present = false;

  RunTimeScale() = default;
  RunTimeScale(StepReader& reader, OutKind kind);
  /// 1 when there is none.
  float value(const RunContext& context) const;
};

}  // namespace q8

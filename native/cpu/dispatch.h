// SPDX-License-Identifier: MIT
/// Chooses the kernel table. The choice is a pure function of feature bits and of the environment
/// variable Q8_ISA, made once per process.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "cpu/features.h"
#include "kernels/kernel_table.h"

namespace q8 {

/// One level of isa_list.inc that this build contains.
struct IsaLevel {
  const char* name;
  const char* label;
  /// All of these bits must be present.
  CpuFeatures needs;
  const KernelTable* table;
};

/// The levels of this build, best first. The last one is scalar and needs nothing.
const std::vector<IsaLevel>& compiled_levels();

/// The best level for `features`; with `forced` (may be null or empty) exactly the level of that
/// name.
/// @returns kUnsupportedCpu when the forced level is not in the build or not executable with
/// `features`.
Status choose_level(CpuFeatures features, const char* forced, const IsaLevel** level);

/// choose_level for this CPU and Q8_ISA. The binding refuses to load when it is not ok, so that
/// selected_table() can rely on it.
const Status& dispatch_status();

/// A level that was chosen, but computed something else than the scalar kernels.
struct RefusedLevel {
  const char* name;
  /// What differed, see self_test().
  std::string mismatch;
};

/// The levels that this process must not use, best first. For tests, the one that the environment
/// variable Q8_SELFTEST_FAIL names is among them if it was chosen.
const std::vector<RefusedLevel>& refused_levels();

/// The level in use: the best one, no better than the choice, whose kernels pass the self-test. The
/// first call of a process runs it, which takes about a millisecond. When dispatch_status() is not
/// ok, the scalar level.
const IsaLevel& selected_level();
inline const KernelTable& selected_table() { return *selected_level().table; }

/// The table of a level by name for tests and measurements; null when this build or this CPU lacks
/// it.
const KernelTable* find_supported_table(const std::string& name);

}  // namespace q8

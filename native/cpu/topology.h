// SPDX-License-Identifier: MIT
/// What the machine offers this process: cores, affinity, container quota, caches, the CPU's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace q8 {

struct Topology {
  std::string cpu_name;
  /// Logical CPUs of the machine, and those of the process's affinity mask.
  size_t cores = 1;
  size_t affinity = 1;
  /// CPUs granted by the cgroup (v1 or v2) as quota / period; 0 when unlimited.
  double cgroup_quota = 0;
  /// Bytes; 0 when unknown. L1 is the data cache; L3 is what the whole slice shares.
  size_t l1_bytes = 0;
  size_t l2_bytes = 0;
  size_t l3_bytes = 0;
  /// Threads q8 uses: Q8_NUM_THREADS if set, else min(affinity, ceil(quota)). At least 1.
  size_t threads = 1;
};

/// Read once, on first use.
const Topology& topology();

/// A `parts`-th of the second-level cache, at least `least` bytes.
inline size_t l2_share(size_t parts, size_t least) {
  const size_t share = topology().l2_bytes / parts;
  return share > least ? share : least;
}

/// CPUs that a cgroup grants, from the text of cpu.max (v2) or of cpu.cfs_quota_us and
/// cpu.cfs_period_us (v1, joined by a space); 0 when unlimited or unreadable.
double parse_cpu_quota(const std::string& text);

}  // namespace q8

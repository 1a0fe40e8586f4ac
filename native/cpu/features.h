// SPDX-License-Identifier: MIT
/// What this CPU and its operating system can execute, as a bit mask. An x86 feature counts only if
/// the system also saves the registers it needs (XCR0): CPUID alone is a promise of the silicon,
/// not of the kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace q8 {

enum CpuFeature : uint32_t {
  kAvx2 = 1u << 0,
  kFma = 1u << 1,
  kAvxVnni = 1u << 2,
  kAvx512F = 1u << 3,
  kAvx512BW = 1u << 4,
  kAvx512VL = 1u << 5,
  kAvx512DQ = 1u << 6,
  kAvx512Vnni = 1u << 7,
  kAvx512Vbmi = 1u << 8,
  /// Includes AMX-TILE.
  kAmxInt8 = 1u << 9,
  kNeon = 1u << 16,
  kNeonDot = 1u << 17,
  kNeonI8mm = 1u << 18,
};

using CpuFeatures = uint32_t;

/// The words that decide on x86, so that the decision can be tested with the words of other CPUs.
struct CpuidWords {
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0;
  uint32_t leaf7_ecx = 0;
  uint32_t leaf7_edx = 0;
  /// Leaf 7, sub-leaf 1.
  uint32_t leaf71_eax = 0;
  /// XCR0; 0 when the system does not enable XSAVE.
  uint64_t xcr0 = 0;
  /// The process may use the tile registers, for which Linux wants to be asked.
  bool has_tile_permission = false;
};

CpuFeatures decode_cpuid(const CpuidWords& words);

/// This machine's features. Read once.
CpuFeatures cpu_features();

/// "avx2", "avx512vnni", ... of the bits that are set.
std::vector<std::string> feature_names(CpuFeatures features);

}  // namespace q8

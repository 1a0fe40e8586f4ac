// SPDX-License-Identifier: MIT
#include "levels.h"

#include "check.h"
#include "cpu/dispatch.h"

#if defined(Q8_TEST_EMULATED)
#define Q8_EMULATED_LEVEL(room, gemm, bounded, conv, vector) \
  namespace q8::room##_emulated {                            \
    extern const GemmKernels kGemm;                          \
    extern const GemmKernels kGemmBounded;                   \
    extern const ConvKernels kConv;                          \
    extern const VectorKernels kVector;                      \
  }
#include "emulated_levels.inc"
#undef Q8_EMULATED_LEVEL
#endif

namespace q8::test {
namespace {

const std::vector<Level>& emulated_levels() {
  static const std::vector<Level> levels = {
#if defined(Q8_TEST_EMULATED)
#define Q8_EMULATED_LEVEL(room, gemm, bounded, conv, vector) {#room, gemm, bounded, conv, vector},
#include "emulated_levels.inc"
#undef Q8_EMULATED_LEVEL
#endif
  };
  return levels;
}

}  // namespace

std::vector<Level> runnable_levels() {
  std::vector<Level> runnable;
  for (const IsaLevel& level : compiled_levels()) {
    if (find_supported_table(level.name) != nullptr) {
      const KernelTable& table = *level.table;
      runnable.push_back({level.name, table.gemm, table.gemm_bounded, table.conv, table.vector});
      continue;
    }
    bool is_emulated = false;
    for (const Level& emulated : emulated_levels()) {
      if (emulated.name != level.name) continue;
      runnable.push_back(emulated);
      runnable.back().name += " (emulated)";
      is_emulated = true;
    }
    if (!is_emulated) {
      skip(level.name, "this CPU lacks it, and there is no emulated build (libsimde-dev)");
    }
  }
  return runnable;
}

}  // namespace q8::test

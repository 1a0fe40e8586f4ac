// SPDX-License-Identifier: MIT
#include "levels.h"

#include "check.h"
#include "cpu/dispatch.h"

#if defined(Q8_TEST_EMULATED)
#define Q8_EMULATED_LEVEL(room, bounded)   \
  namespace q8::room##_emulated {          \
    extern const GemmKernels kGemm;        \
    extern const GemmKernels kGemmBounded; \
    extern const ConvKernels kConv;        \
  }
#include "emulated_levels.inc"
#undef Q8_EMULATED_LEVEL
#endif

namespace q8::test {
namespace {

const std::vector<Level>& emulated_levels() {
  static const std::vector<Level> levels = {
#if defined(Q8_TEST_EMULATED)
#define Q8_EMULATED_LEVEL(room, bounded) \
  {#room, &room##_emulated::kGemm, bounded, &room##_emulated::kConv},
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
      runnable.push_back(
          {level.name, level.table->gemm, level.table->gemm_bounded, level.table->conv});
      continue;
    }
    bool is_emulated = false;
    for (const Level& emulated : emulated_levels()) {
      if (emulated.name != level.name) continue;
      runnable.push_back(
          {emulated.name + " (emulated)", emulated.gemm, emulated.gemm_bounded, emulated.conv});
      is_emulated = true;
    }
    if (!is_emulated) {
      skip(level.name, "this CPU lacks it, and there is no emulated build (libsimde-dev)");
    }
  }
  return runnable;
}

}  // namespace q8::test

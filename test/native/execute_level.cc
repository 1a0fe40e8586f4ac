// SPDX-License-Identifier: MIT
/// Executes the register loop of one instruction set without asking whether the CPU has it. On a
/// CPU or emulator that lacks it the process must die of an illegal instruction:
/// scripts/test-isa.mjs runs it to prove that a model really lacks what detection says it lacks.
#include <cstdio>
#include <cstring>

#include "cpu/dispatch.h"

int main(int argc, char** argv) {
  for (const q8::IsaLevel& level : q8::compiled_levels()) {
    if (argc != 2 || std::strcmp(level.name, argv[1]) != 0) continue;
    level.table->gemm->peak_loop(1);
    std::printf("%s executed\n", level.name);
    return 0;
  }
  std::fprintf(stderr, "usage: q8_execute_level <level of this build>\n");
  return 2;
}

// SPDX-License-Identifier: MIT
#include "cpu/dispatch.h"

#include <cstdlib>
#include <cstring>

#include "cpu/self_test.h"

// The parent column of the list documents where a room may take kernels from; nothing here needs
// it.
#define Q8_ISA_ANY(name, label, needs, parent) \
  namespace name {                             \
  extern const KernelTable kTable;             \
  }
#if defined(__x86_64__) || defined(_M_X64)
#define Q8_ISA_X86 Q8_ISA_ANY
#else
#define Q8_ISA_X86(name, label, needs, parent)
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define Q8_ISA_ARM Q8_ISA_ANY
#else
#define Q8_ISA_ARM(name, label, needs, parent)
#endif

namespace q8 {

#include "cpu/isa_list.inc"

#undef Q8_ISA_ANY
#define Q8_ISA_ANY(name, label, needs, parent) {#name, label, needs, &name::kTable},

const std::vector<IsaLevel>& compiled_levels() {
  static const std::vector<IsaLevel> levels = {
#include "cpu/isa_list.inc"
  };
  return levels;
}

namespace {

bool is_supported(const IsaLevel& level, CpuFeatures features) {
  return (level.needs & ~features) == 0;
}

std::string list_names(CpuFeatures features) {
  std::string names;
  for (const IsaLevel& level : compiled_levels()) {
    if (!is_supported(level, features)) continue;
    if (!names.empty()) names += ", ";
    names += level.name;
  }
  return names;
}

struct Selection {
  const IsaLevel* level = &compiled_levels().back();
  Status status;

  Selection() : status(choose_level(cpu_features(), std::getenv("Q8_ISA"), &level)) {}
};

const Selection& selection() {
  static const Selection result;
  return result;
}

/// The selection after the self-test.
struct TestedSelection {
  const IsaLevel* level = selection().level;
  std::vector<RefusedLevel> refused;

  TestedSelection() {
    const char* broken = std::getenv("Q8_SELFTEST_FAIL");
    const IsaLevel* const scalar = &compiled_levels().back();
    while (level != scalar) {
      const bool fails = broken != nullptr && std::strcmp(broken, level->name) == 0;
      const std::string mismatch =
          fails ? "Q8_SELFTEST_FAIL" : self_test(*level->table, *scalar->table);
      if (mismatch.empty()) return;
      refused.push_back({level->name, mismatch});
      do ++level;
      while (!is_supported(*level, cpu_features()));
    }
  }
};

const TestedSelection& tested_selection() {
  static const TestedSelection result;
  return result;
}

}  // namespace

Status choose_level(CpuFeatures features, const char* forced, const IsaLevel** level) {
  const bool is_forced = forced != nullptr && *forced != '\0';
  for (const IsaLevel& candidate : compiled_levels()) {
    if (is_forced && std::strcmp(candidate.name, forced) != 0) continue;
    if (!is_supported(candidate, features)) continue;
    *level = &candidate;
    return {};
  }
  constexpr CpuFeatures kAll = ~CpuFeatures{0};
  return {Code::kUnsupportedCpu, "Q8_ISA=\"" + std::string(forced ? forced : "") +
                                     "\" is not available. This build has: " + list_names(kAll) +
                                     ". This CPU supports: " + list_names(features) + "."};
}

const Status& dispatch_status() { return selection().status; }

const IsaLevel& selected_level() { return *tested_selection().level; }

const std::vector<RefusedLevel>& refused_levels() { return tested_selection().refused; }

const KernelTable* find_supported_table(const std::string& name) {
  for (const IsaLevel& level : compiled_levels()) {
    if (level.name == name && is_supported(level, cpu_features())) return level.table;
  }
  return nullptr;
}

}  // namespace q8

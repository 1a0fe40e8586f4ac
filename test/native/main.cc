// SPDX-License-Identifier: MIT
#include <cstdio>
#include <cstring>

#include "check.h"

namespace q8::test {
namespace {

constexpr size_t kShownFailures = 5;

std::vector<Test>& tests() {
  static std::vector<Test> list;
  return list;
}

size_t failures = 0;
size_t skips = 0;

}  // namespace

Registration::Registration(const char* name, void (*run)()) { tests().push_back({name, run}); }

void fail(const char* file, int line, const std::string& message) {
  if (failures++ < kShownFailures) std::printf("    %s:%d: %s\n", file, line, message.c_str());
}

void skip(const std::string& what, const std::string& reason) {
  ++skips;
  std::printf("    skipped %s: %s\n", what.c_str(), reason.c_str());
}

}  // namespace q8::test

/// Runs the tests whose name contains the first argument, all without one.
int main(int argc, char** argv) {
  using namespace q8::test;
  size_t failed = 0;
  size_t ran = 0;
  for (const Test& test : tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    failures = 0;
    test.run();
    ++ran;
    if (failures != 0) ++failed;
    std::printf("%s %s", failures == 0 ? "ok  " : "FAIL", test.name);
    if (failures != 0) std::printf(" (%zu checks)", failures);
    std::printf("\n");
    std::fflush(stdout);
  }
  std::printf("%zu tests, %zu failed, %zu skipped\n", ran, failed, skips);
  return failed == 0 && ran != 0 ? 0 : 1;
}

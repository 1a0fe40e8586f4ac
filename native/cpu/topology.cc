// SPDX-License-Identifier: MIT
#include "cpu/topology.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif
#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#endif

namespace q8 {
namespace {

/// A pool wider than this only adds overhead to calls of a few microseconds.
constexpr size_t kMaxThreads = 256;

[[maybe_unused]] std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

size_t affinity_count(size_t cores) {
#if defined(__linux__)
  // Machines with more than 1024 CPUs need a larger mask; there the call fails and all cores count.
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return cores;
}

#if defined(__linux__)
/// The smallest quota on the way from the process's own cgroup to the root: a parent's limit binds
/// its children.
double smallest_quota(const std::string& root, std::string group, bool v2) {
  double smallest = 0;
  for (;;) {
    const std::string dir = root + group;
    const double quota = parse_cpu_quota(v2 ? first_line(dir + "/cpu.max")
                                            : first_line(dir + "/cpu.cfs_quota_us") + " " +
                                                  first_line(dir + "/cpu.cfs_period_us"));
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
    if (group.empty() || group == "/") return smallest;
    group.resize(group.find_last_of('/'));
  }
}

double cgroup_quota() {
  // Lines are "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1). Inside a container the path may be
  // that of the host, which does not exist under the mount: then only the root directory answers.
  std::ifstream file("/proc/self/cgroup");
  double smallest = 0;
  const auto merge = [&smallest](double quota) {
    if (quota > 0 && (smallest == 0 || quota < smallest)) smallest = quota;
  };
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string group = line.substr(second + 1);
    if (group.empty() || group[0] != '/') continue;
    if (controllers == ",,") merge(smallest_quota("/sys/fs/cgroup", group, true));
    if (controllers.find(",cpu,") != std::string::npos)
      merge(smallest_quota("/sys/fs/cgroup/cpu", group, false));
  }
  return smallest;
}

size_t cache_bytes(size_t level) {
  for (size_t index = 0; index < 8; ++index) {
    const std::string dir = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index);
    if (first_line(dir + "/level") != std::to_string(level)) continue;
    if (first_line(dir + "/type") == "Instruction") continue;
    const std::string size = first_line(dir + "/size");
    const size_t number = std::strtoull(size.c_str(), nullptr, 10);
    return size.find('M') != std::string::npos ? number << 20 : number << 10;
  }
  return 0;
}
#elif defined(__APPLE__)
double cgroup_quota() { return 0; }

size_t cache_bytes(size_t level) {
  const char* name = level == 1   ? "hw.l1dcachesize"
                     : level == 2 ? "hw.l2cachesize"
                                  : "hw.l3cachesize";
  int64_t bytes = 0;
  size_t size = sizeof(bytes);
  return sysctlbyname(name, &bytes, &size, nullptr, 0) == 0 ? static_cast<size_t>(bytes) : 0;
}
#else
double cgroup_quota() { return 0; }
size_t cache_bytes(size_t) { return 0; }
#endif

#if defined(__aarch64__) && defined(__linux__)
/// The core by its identification register (MIDR_EL1): implementer in bits 24-31, part in bits
/// 4-15.
std::string arm_core_name() {
  struct Core {
    unsigned implementer;
    unsigned part;
    const char* name;
  };
  constexpr Core kCores[] = {
      {0x41, 0xd03, "Cortex-A53"},  {0x41, 0xd05, "Cortex-A55"},  {0x41, 0xd08, "Cortex-A72"},
      {0x41, 0xd0b, "Cortex-A76"},  {0x41, 0xd0c, "Neoverse N1"}, {0x41, 0xd40, "Neoverse V1"},
      {0x41, 0xd49, "Neoverse N2"}, {0x41, 0xd4f, "Neoverse V2"}, {0x41, 0xd84, "Neoverse V3"},
      {0x41, 0xd8e, "Neoverse N3"}, {0xc0, 0xac3, "Ampere-1"},    {0xc0, 0xac4, "Ampere-1A"},
  };
  const std::string text = first_line("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1");
  const unsigned long long midr = std::strtoull(text.c_str(), nullptr, 16);
  for (const Core& core : kCores) {
    if ((midr >> 24 & 0xff) == core.implementer && (midr >> 4 & 0xfff) == core.part)
      return core.name;
  }
  return "arm64";
}
#endif

std::string cpu_name() {
#if defined(__x86_64__) || defined(_M_X64)
  uint32_t words[12] = {};
  for (uint32_t leaf = 0; leaf < 3; ++leaf) {
    uint32_t* w = words + 4 * leaf;
#if defined(_MSC_VER) && defined(_M_X64)
    __cpuid(reinterpret_cast<int*>(w), static_cast<int>(0x80000002u + leaf));
#else
    if (!__get_cpuid(0x80000002u + leaf, w, w + 1, w + 2, w + 3)) return "x86-64";
#endif
  }
  std::string name(reinterpret_cast<const char*>(words), sizeof(words));
  name.resize(std::min(name.find('\0'), name.size()));
  const size_t last = name.find_last_not_of(' ');
  const size_t first = name.find_first_not_of(' ');
  return first == std::string::npos ? "x86-64" : name.substr(first, last - first + 1);
#elif defined(__APPLE__)
  char name[128] = {};
  size_t size = sizeof(name) - 1;
  return sysctlbyname("machdep.cpu.brand_string", name, &size, nullptr, 0) == 0 ? name : "arm64";
#elif defined(__aarch64__) && defined(__linux__)
  return arm_core_name();
#else
  return "arm64";
#endif
}

Topology read_topology() {
  Topology t;
  t.cpu_name = cpu_name();
  t.cores = std::max(1u, std::thread::hardware_concurrency());
  t.affinity = affinity_count(t.cores);
  t.cgroup_quota = cgroup_quota();
  t.l1_bytes = cache_bytes(1);
  t.l2_bytes = cache_bytes(2);
  t.l3_bytes = cache_bytes(3);
  t.threads = t.affinity;
  if (t.cgroup_quota > 0)
    t.threads = std::min(t.threads, static_cast<size_t>(std::ceil(t.cgroup_quota)));
  if (const char* text = std::getenv("Q8_NUM_THREADS")) {
    char* end = nullptr;
    const unsigned long long wanted = std::strtoull(text, &end, 10);
    if (end != text && *end == '\0' && wanted > 0) t.threads = static_cast<size_t>(wanted);
  }
  t.threads = std::clamp<size_t>(t.threads, 1, kMaxThreads);
  return t;
}

}  // namespace

double parse_cpu_quota(const std::string& text) {
  std::istringstream stream(text);
  double quota = 0;
  double period = 0;
  if (!(stream >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return quota / period;
}

const Topology& topology() {
  static const Topology result = read_topology();
  return result;
}

}  // namespace q8

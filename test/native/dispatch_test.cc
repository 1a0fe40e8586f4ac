// SPDX-License-Identifier: MIT
/// Feature detection with the CPUID words of other machines, the choice of a level, the quota of a
/// container.
#include "cpu/dispatch.h"

#include <string>

#include "check.h"
#include "cpu/features.h"
#include "cpu/topology.h"

namespace q8::test {
namespace {

constexpr uint32_t bit(unsigned index) { return 1u << index; }

/// AVX-512 with all that q8 uses of it.
CpuidWords ice_lake() {
  CpuidWords w;
  w.leaf1_ecx = bit(28) | bit(27) | bit(12);
  w.leaf7_ebx = bit(5) | bit(16) | bit(17) | bit(30) | bit(31);
  w.leaf7_ecx = bit(1) | bit(11);
  w.xcr0 = 0xe7;
  return w;
}

/// AMX, on a system that lets processes use it.
CpuidWords sapphire_rapids() {
  CpuidWords w = ice_lake();
  w.leaf7_edx = bit(24) | bit(25);
  w.leaf71_eax = bit(4);
  w.xcr0 = 0x600e7;
  w.has_tile_permission = true;
  return w;
}

/// AVX-512 without VNNI.
CpuidWords skylake_server() {
  CpuidWords w = ice_lake();
  w.leaf7_ecx = 0;
  return w;
}

/// VNNI without AVX-512.
CpuidWords alder_lake() {
  CpuidWords w = ice_lake();
  w.leaf7_ebx = bit(5);
  w.leaf7_ecx = 0;
  w.leaf71_eax = bit(4);
  w.xcr0 = 0x07;
  return w;
}

}  // namespace

Q8_TEST(features_need_the_operating_system) {
  CpuidWords w = ice_lake();
  const CpuFeatures avx512 =
      kAvx512F | kAvx512BW | kAvx512VL | kAvx512DQ | kAvx512Vnni | kAvx512Vbmi;
  Q8_CHECK(decode_cpuid(w) == (kAvx2 | kFma | avx512), "all");
  w.xcr0 = 0x07;
  Q8_CHECK(decode_cpuid(w) == (kAvx2 | kFma), "no zmm state");
  w.xcr0 = 0x67;
  Q8_CHECK((decode_cpuid(w) & avx512) == 0, "zmm16-31 not saved");
  w.xcr0 = 0x03;
  Q8_CHECK(decode_cpuid(w) == 0, "no ymm state");
  w = ice_lake();
  w.leaf71_eax = bit(4);
  Q8_CHECK((decode_cpuid(w) & kAvxVnni) != 0, "AVX-VNNI");
  w = sapphire_rapids();
  Q8_CHECK((decode_cpuid(w) & kAmxInt8) != 0, "AMX");
  w.has_tile_permission = false;
  Q8_CHECK((decode_cpuid(w) & kAmxInt8) == 0, "no permission for tiles");
  w = sapphire_rapids();
  w.xcr0 = 0xe7;
  Q8_CHECK((decode_cpuid(w) & kAmxInt8) == 0, "tiles not saved");
  w = ice_lake();
  w.leaf7_ebx &= ~bit(16);
  Q8_CHECK((decode_cpuid(w) & avx512) == 0, "extensions without the foundation");
}

Q8_TEST(levels_follow_features) {
  const auto choice = [](CpuFeatures features, const char* forced) {
    const IsaLevel* level = nullptr;
    const Status status = choose_level(features, forced, &level);
    return status.ok() ? std::string(level->name) : status.message();
  };
  Q8_CHECK(choice(0, nullptr) == "scalar", "nothing");
  Q8_CHECK(choice(~CpuFeatures{0}, "") == compiled_levels().front().name, "everything");
  Q8_CHECK(choice(~CpuFeatures{0}, "scalar") == "scalar", "forced");
#if defined(__x86_64__) || defined(_M_X64)
  Q8_CHECK(choice(kAvx2 | kFma, nullptr) == "avx2", "AVX2");
  Q8_CHECK(choice(kAvx2, nullptr) == "scalar", "AVX2 without FMA");
#if defined(Q8_HAVE_amxint8)
  const std::string with_amx = "amxint8, ";
#else
  const std::string with_amx;
#endif
  Q8_CHECK(choice(decode_cpuid(sapphire_rapids()), nullptr) ==
               (with_amx.empty() ? "avx512vbmi" : "amxint8"),
           "Sapphire Rapids");
  Q8_CHECK(choice(decode_cpuid(ice_lake()), nullptr) == "avx512vbmi", "Ice Lake");
  Q8_CHECK(choice(decode_cpuid(ice_lake()) & ~kAvx512Vbmi, nullptr) == "avx512vnni",
           "Cascade Lake");
  Q8_CHECK(choice(decode_cpuid(skylake_server()), nullptr) == "avx512bw", "Skylake-SP");
  Q8_CHECK(choice(decode_cpuid(alder_lake()), nullptr) == "avxvnni", "Alder Lake");
  Q8_CHECK(
      choice(kAvx2 | kFma, "avx512") ==
          "Q8_ISA=\"avx512\" is not available. This build has: " + with_amx +
              "avx512vbmi, avx512vnni, avxvnni, avx512bw, avx2, scalar. This CPU supports: avx2, "
              "scalar.",
      choice(kAvx2 | kFma, "avx512"));
#endif
}

Q8_TEST(quotas_of_both_cgroup_versions) {
  Q8_CHECK(parse_cpu_quota("max 100000") == 0, "v2 unlimited");
  Q8_CHECK(parse_cpu_quota("150000 100000") == 1.5, "v2");
  Q8_CHECK(parse_cpu_quota("-1 100000") == 0, "v1 unlimited");
  Q8_CHECK(parse_cpu_quota("") == 0 && parse_cpu_quota(" ") == 0, "absent");
}

Q8_TEST(topology_is_consistent) {
  const Topology& t = topology();
  Q8_CHECK(t.threads >= 1 && t.affinity >= 1 && t.affinity <= t.cores, "counts");
}

}  // namespace q8::test

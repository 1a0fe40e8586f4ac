// SPDX-License-Identifier: MIT
#include "cpu/features.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif
#if defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#if defined(_M_ARM64)
#include <windows.h>
#endif

namespace q8 {
namespace {

constexpr bool bit(uint64_t word, unsigned index) { return (word >> index & 1) != 0; }

#if defined(__x86_64__) || defined(_M_X64)

struct CpuidLeaf {
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
};

/// All zeros for a leaf beyond the CPU's highest.
CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidLeaf r;
#if defined(_MSC_VER) && defined(_M_X64)
  int words[4];
  __cpuid(words, 0);
  if (static_cast<uint32_t>(words[0]) < leaf) return r;
  __cpuidex(words, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {uint32_t(words[0]), uint32_t(words[1]), uint32_t(words[2]), uint32_t(words[3])};
#else
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return {};
#endif
  return r;
}

uint64_t read_xcr0() {
#if defined(_MSC_VER) && defined(_M_X64)
  return _xgetbv(0);
#else
  uint32_t low;
  uint32_t high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
#endif
}

/// For the whole process and for good. Before, the first use of a tile register would end it: 8 KiB
/// more of state have to fit where threads keep theirs, also on stacks for signals.
bool ask_for_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  // ARCH_REQ_XCOMP_PERM of the data of tiles; spelled out because older headers lack them.
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

CpuFeatures read_features() {
  CpuidWords words;
  words.leaf1_ecx = cpuid(1, 0).ecx;
  const CpuidLeaf leaf7 = cpuid(7, 0);
  words.leaf7_ebx = leaf7.ebx;
  words.leaf7_ecx = leaf7.ecx;
  words.leaf7_edx = leaf7.edx;
  // EAX of leaf 7 is its highest sub-leaf.
  if (leaf7.eax >= 1) words.leaf71_eax = cpuid(7, 1).eax;
  const bool os_uses_xsave = bit(words.leaf1_ecx, 27);
  words.xcr0 = os_uses_xsave ? read_xcr0() : 0;
  words.has_tile_permission = bit(words.leaf7_edx, 24) && ask_for_tiles();
  return decode_cpuid(words);
}

#elif defined(__aarch64__) && defined(__linux__)

CpuFeatures read_features() {
  // HWCAP_ASIMDDP and HWCAP2_I8MM; spelled out because older headers lack them.
  CpuFeatures features = kNeon;
  if (bit(getauxval(AT_HWCAP), 20)) features |= kNeonDot;
  if (bit(getauxval(AT_HWCAP2), 13)) features |= kNeonI8mm;
  return features;
}

#elif defined(__aarch64__) && defined(__APPLE__)

CpuFeatures read_features() {
  const auto has = [](const char* name) {
    int value = 0;
    size_t size = sizeof(value);
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
  };
  CpuFeatures features = kNeon;
  if (has("hw.optional.arm.FEAT_DotProd")) features |= kNeonDot;
  if (has("hw.optional.arm.FEAT_I8MM")) features |= kNeonI8mm;
  return features;
}

#elif defined(_M_ARM64)

CpuFeatures read_features() {
  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE; Windows has no query for i8mm.
  return IsProcessorFeaturePresent(43) ? kNeon | kNeonDot : kNeon;
}

#else

CpuFeatures read_features() { return 0; }

#endif

struct FeatureName {
  CpuFeature feature;
  const char* name;
};
constexpr FeatureName kFeatureNames[] = {
    {kAvx2, "avx2"},
    {kFma, "fma"},
    {kAvxVnni, "avxvnni"},
    {kAvx512F, "avx512f"},
    {kAvx512BW, "avx512bw"},
    {kAvx512VL, "avx512vl"},
    {kAvx512DQ, "avx512dq"},
    {kAvx512Vnni, "avx512vnni"},
    {kAvx512Vbmi, "avx512vbmi"},
    {kAmxInt8, "amxint8"},
    {kNeon, "neon"},
    {kNeonDot, "neondot"},
    {kNeonI8mm, "neoni8mm"},
};

}  // namespace

CpuFeatures decode_cpuid(const CpuidWords& w) {
  CpuFeatures features = 0;
  // XCR0: 1 xmm, 2 ymm; 5 mask registers, 6 upper halves of zmm0-15, 7 zmm16-31.
  constexpr uint64_t kYmmState = 0x06;
  constexpr uint64_t kZmmState = 0xe6;
  if ((w.xcr0 & kYmmState) == kYmmState && bit(w.leaf1_ecx, 28)) {
    if (bit(w.leaf7_ebx, 5)) features |= kAvx2;
    if (bit(w.leaf1_ecx, 12)) features |= kFma;
    if (bit(w.leaf71_eax, 4)) features |= kAvxVnni;
  }
  if ((w.xcr0 & kZmmState) == kZmmState && bit(w.leaf7_ebx, 16)) {
    features |= kAvx512F;
    if (bit(w.leaf7_ebx, 17)) features |= kAvx512DQ;
    if (bit(w.leaf7_ebx, 30)) features |= kAvx512BW;
    if (bit(w.leaf7_ebx, 31)) features |= kAvx512VL;
    if (bit(w.leaf7_ecx, 1)) features |= kAvx512Vbmi;
    if (bit(w.leaf7_ecx, 11)) features |= kAvx512Vnni;
    // XCR0: 17 configuration of tiles, 18 their data.
    constexpr uint64_t kTileState = 0x60000;
    if ((w.xcr0 & kTileState) == kTileState && w.has_tile_permission && bit(w.leaf7_edx, 24) &&
        bit(w.leaf7_edx, 25)) {
      features |= kAmxInt8;
    }
  }
  return features;
}

CpuFeatures cpu_features() {
  static const CpuFeatures features = read_features();
  return features;
}

std::vector<std::string> feature_names(CpuFeatures features) {
  std::vector<std::string> names;
  for (const FeatureName& entry : kFeatureNames) {
    if (features & entry.feature) names.emplace_back(entry.name);
  }
  return names;
}

}  // namespace q8

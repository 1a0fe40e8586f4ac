// SPDX-License-Identifier: MIT
#include "binding/cpu_binding.h"

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "binding/args.h"
#include "binding/errors.h"
#include "cpu/bandwidth.h"
#include "cpu/dispatch.h"
#include "cpu/features.h"
#include "cpu/topology.h"

namespace q8 {
namespace {

Napi::Array to_array(Napi::Env env, const std::vector<std::string>& names) {
  Napi::Array array = Napi::Array::New(env, names.size());
  for (uint32_t i = 0; i < names.size(); ++i) array.Set(i, Napi::String::New(env, names[i]));
  return array;
}

std::vector<const GemmKernels*> selected_forms() {
  const KernelTable& table = selected_table();
  std::vector<const GemmKernels*> forms = {table.gemm};
  if (table.gemm_bounded != nullptr) forms.push_back(table.gemm_bounded);
  return forms;
}

/// Thread: JS.
Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Topology& machine = topology();
  const auto number = [env](double value) { return Napi::Number::New(env, value); };

  std::vector<std::string> compiled;
  std::vector<std::string> supported;
  for (const IsaLevel& level : compiled_levels()) {
    compiled.emplace_back(level.name);
    if (find_supported_table(level.name) != nullptr) supported.emplace_back(level.name);
  }
  Napi::Object isa = Napi::Object::New(env);
  isa.Set("compiled", to_array(env, compiled));
  isa.Set("supported", to_array(env, supported));
  isa.Set("selected", Napi::String::New(env, selected_level().name));
  isa.Set("label", Napi::String::New(env, selected_level().label));
  const char* forced = std::getenv("Q8_ISA");
  isa.Set("forced", Napi::Boolean::New(env, forced != nullptr && *forced != '\0'));

  Napi::Array forms = Napi::Array::New(env);
  for (const GemmKernels* gemm : selected_forms()) {
    std::vector<std::string> tiles;
    for (size_t i = 0; i < gemm->tile_count; ++i) tiles.emplace_back(gemm->tiles[i].name);
    Napi::Object form = Napi::Object::New(env);
    form.Set("instruction", Napi::String::New(env, gemm->instruction));
    form.Set("tiles", to_array(env, tiles));
    forms.Set(forms.Length(), form);
  }

  Napi::Object caches = Napi::Object::New(env);
  caches.Set("l1", number(static_cast<double>(machine.l1_bytes)));
  caches.Set("l2", number(static_cast<double>(machine.l2_bytes)));
  caches.Set("l3", number(static_cast<double>(machine.l3_bytes)));

  Napi::Object result = Napi::Object::New(env);
  result.Set("cpu", Napi::String::New(env, machine.cpu_name));
  result.Set("features", to_array(env, feature_names(cpu_features())));
  result.Set("isa", isa);
  result.Set("gemm", forms);
  result.Set("cores", number(static_cast<double>(machine.cores)));
  result.Set("affinity", number(static_cast<double>(machine.affinity)));
  result.Set("cgroupQuota", number(machine.cgroup_quota));
  result.Set("threads", number(static_cast<double>(machine.threads)));
  result.Set("caches", caches);
  return result;
}

/// Levels that failed the self-test, which the first call runs. Thread: JS.
Napi::Value list_refused_levels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array result = Napi::Array::New(env);
  for (const RefusedLevel& level : refused_levels()) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("isa", Napi::String::New(env, level.name));
    entry.Set("mismatch", Napi::String::New(env, level.mismatch));
    result.Set(result.Length(), entry);
  }
  return result;
}

/// measurePeak(milliseconds): multiply-adds per second of one thread, in 10^9, from a loop on
/// registers only, of the faster form of the GEMM; the best round of that time. Blocks. Thread: JS.
Napi::Value measure_peak(const Napi::CallbackInfo& info) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kRounds = 200000;
  const std::chrono::milliseconds budget(to_size(info.Env(), info[0], "milliseconds"));
  const std::vector<const GemmKernels*> forms = selected_forms();
  double best = 0;
  // The first rounds may run before the core has reached its clock; the best one counts.
  for (const Clock::time_point start = Clock::now(); Clock::now() - start < budget;) {
    for (const GemmKernels* gemm : forms) {
      const Clock::time_point before = Clock::now();
      const size_t macs = gemm->peak_loop(kRounds);
      const std::chrono::duration<double, std::nano> elapsed = Clock::now() - before;
      const double rate = static_cast<double>(macs * kRounds) / elapsed.count();
      if (rate > best) best = rate;
    }
  }
  return Napi::Number::New(info.Env(), best);
}

/// measureBandwidth(bytes). Thread: JS.
Napi::Value measure_bandwidth(const Napi::CallbackInfo& info) {
  const size_t bytes = to_size(info.Env(), info[0], "bytes");
  return Napi::Number::New(info.Env(), measure_read_bandwidth(bytes));
}

}  // namespace

void InitCpu(Napi::Env env, Napi::Object exports) {
  check(env, dispatch_status());
  exports.Set("cpuInfo", Napi::Function::New(env, cpu_info, "cpuInfo"));
  exports.Set("refusedLevels", Napi::Function::New(env, list_refused_levels, "refusedLevels"));
  exports.Set("measurePeak", Napi::Function::New(env, measure_peak, "measurePeak"));
  exports.Set("measureBandwidth", Napi::Function::New(env, measure_bandwidth, "measureBandwidth"));
}

}  // namespace q8

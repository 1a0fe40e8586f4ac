// SPDX-License-Identifier: MIT
#include "program/weight_registry.h"

#include <algorithm>
#include <iterator>

namespace q8 {

WeightRegistry& WeightRegistry::instance() {
  // Leaked on purpose: worker threads may outlive static destructors.
  static WeightRegistry* registry = new WeightRegistry;
  return *registry;
}

Weights WeightRegistry::find(const std::string& name) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find(name);
  return found == entries_.end() ? Weights() : found->second.lock();
}

void WeightRegistry::add(const std::string& name, const Weights& weights) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (entries_.size() >= sweep_at_) {
    drop_expired();
    sweep_at_ = std::max<size_t>(64, entries_.size() * 2);
  }
  Entry& entry = entries_[name];
  if (entry.expired()) entry = {weights.gemm, weights.conv, weights.gemm_f32, weights.conv_f32};
}

size_t WeightRegistry::count() {
  const std::lock_guard<std::mutex> lock(mutex_);
  drop_expired();
  return entries_.size();
}

void WeightRegistry::drop_expired() {
  for (auto entry = entries_.begin(); entry != entries_.end();)
    entry = entry->second.expired() ? entries_.erase(entry) : std::next(entry);
}

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Packed weights of the process by name, so that sessions in all worker threads hold one copy. The
/// registry owns nothing: an entry lives as long as somebody uses its weights. Thread: any.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "program/fields.h"

namespace q8 {

class WeightRegistry {
 public:
  static WeightRegistry& instance();

  /// The living weights of this name; nothing is set when there are none.
  Weights find(const std::string& name);
  /// Registers weights, unless living ones have the name.
  void add(const std::string& name, const Weights& weights);
  /// How many weights live.
  size_t count();

 private:
  struct Entry {
    std::weak_ptr<const PackedB> gemm;
    std::weak_ptr<const PackedConv> conv;
    std::weak_ptr<const PackedBF32> gemm_f32;
    std::weak_ptr<const PackedConvF32> conv_f32;

    Weights lock() const { return {gemm.lock(), conv.lock(), gemm_f32.lock(), conv_f32.lock()}; }
    bool expired() const {
      return gemm.expired() && conv.expired() && gemm_f32.expired() && conv_f32.expired();
    }
  };

  void drop_expired();

  std::mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;
  /// Size at which dead entries are looked for, so that this costs constant time per entry.
  size_t sweep_at_ = 64;
};

}  // namespace q8

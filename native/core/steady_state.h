// SPDX-License-Identifier: MIT
/// Marks code that allocates nothing once it is warm, so that a test can hold it to that: the addon
/// counts what is allocated in such a scope (binding/allocation_count.cc).
#pragma once

namespace q8 {

/// While one lives, its thread is inside such code. Costs a store to a thread-local variable.
class SteadyState {
 public:
  SteadyState() : was_inside_(inside_) { inside_ = true; }
  SteadyState(const SteadyState&) = delete;
  SteadyState& operator=(const SteadyState&) = delete;
  ~SteadyState() { inside_ = was_inside_; }

  /// Whether the calling thread is inside.
  static bool is_inside() { return inside_; }

 private:
  static inline thread_local bool inside_ = false;
  bool was_inside_;
};

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Splitting the work of one step over the pool, and the errors of its parts.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <utility>

#include "core/thread_pool.h"
#include "program/step.h"

namespace q8 {

/// Bytes of traffic below which a second thread costs more than it saves.
inline constexpr size_t kSerialBytes = 64 * 1024;
inline constexpr size_t kPartBytes = 32 * 1024;

/// Calls body(first, count) for parts that cover [0, n), in parallel when n items of `item_bytes`
/// bytes of traffic each exceed kSerialBytes. `body` must not throw.
template <typename Body>
void for_parts(const RunContext& context, size_t n, size_t item_bytes, const Body& body) {
  if (n == 0) return;
  const size_t threads = context.thread_count();
  if (threads == 1 || n * item_bytes <= kSerialBytes) return body(size_t{0}, n);
  const size_t part =
      std::max<size_t>({kPartBytes / std::max<size_t>(item_bytes, 1), n / (threads * 8), 1});
  ThreadPool::instance().parallel_for((n + part - 1) / part, threads, [&](size_t index) {
    const size_t first = index * part;
    body(first, std::min(part, n - first));
  });
}

/// The first error of several parts. Thread: any.
class FirstError {
 public:
  void keep(Status status) {
    if (status.ok()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
    failed_.store(true, std::memory_order_relaxed);
  }
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  /// Thread: the one that has joined the parts.
  Status take() { return std::move(status_); }

 private:
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  Status status_;
};

}  // namespace q8

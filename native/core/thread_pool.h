// SPDX-License-Identifier: MIT
/// The one process-wide pool, sized by the affinity mask and the cgroup quota (cpu/topology.h). A
/// worker that runs out of work looks for more for some microseconds, as the layers of a network
/// follow each other, and then sleeps on a condition variable. Two uses:
/// - parallel_for: fork-join inside an operation; the caller works too. Nested or concurrent calls
/// are fine: whoever finds
///   no idle worker does the work itself, so several requests share the pool without waiting for
///   each other. While jobs wait, each request keeps to one thread, and the jobs get the others.
/// - submit: a whole asynchronous job (qgemmAsync, Program.run), so that nothing runs on Node's
/// main thread.
#pragma once

#include <cstddef>
#include <functional>

namespace q8 {

class ThreadPool {
 public:
  /// The process's pool, created on first use and never destroyed (workers are detached at exit).
  static ThreadPool& instance();

  /// Threads that may work at once, the caller of parallel_for included.
  size_t size() const;

  /// Calls body(index) for every index in [0, count), on up to `max_threads` threads (0 = size()),
  /// the caller being one of them. Indices are claimed in order, one at a time. Returns when all
  /// are done. `body` must not throw. Allocates nothing.
  template <typename Body>
  void parallel_for(size_t count, size_t max_threads, const Body& body) {
    run_fork(count, max_threads, &body,
             [](const void* erased, size_t index) { (*static_cast<const Body*>(erased))(index); });
  }

  /// Queues a job for a worker. Jobs run in the order given. `job` must not throw.
  void submit(std::function<void()> job);

 private:
  using BodyFn = void (*)(const void* body, size_t index);
  ThreadPool();
  void run_fork(size_t count, size_t max_threads, const void* body, BodyFn call);
  struct Impl;
  Impl* impl_;
};

}  // namespace q8

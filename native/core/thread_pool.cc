// SPDX-License-Identifier: MIT
#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/steady_state.h"
#include "cpu/topology.h"

namespace q8 {
namespace {

using Clock = std::chrono::steady_clock;

/// How long a worker looks for the next fork before it sleeps: longer than the serial part between
/// two layers, shorter than what anybody would notice of a core.
constexpr std::chrono::microseconds kIdleSpin(40);
/// How long a caller looks for its helpers' end. They finish at about the same time, unless one has
/// lost its core.
constexpr std::chrono::microseconds kJoinSpin(100);

/// Tells the core that this is a loop that waits.
inline void pause() {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("yield");
#else
  std::this_thread::yield();
#endif
}

/// Looks at `done` until it holds or the time is over.
template <typename Done>
bool spin(std::chrono::microseconds limit, const Done& done) {
  constexpr int kLooksPerClock = 32;
  const Clock::time_point end = Clock::now() + limit;
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (done()) return true;
      pause();
    }
  } while (Clock::now() < end);
  return false;
}

/// One fork-join. It lives on the caller's stack: `helpers` counts the workers that hold a pointer
/// to it, and the caller returns only when that is 0.
///
/// Indices are cut into a range for each thread, which begins with its own and then takes from the
/// others: from layer to layer a thread works on about the same part of an image, which its cache
/// still has.
struct Fork {
  /// More threads share ranges.
  static constexpr size_t kMaxRanges = 16;
  struct alignas(64) Counter {
    std::atomic<size_t> next{0};
  };

  const void* body;
  void (*call)(const void* body, size_t index);
  size_t count;
  size_t ranges;
  Counter range[kMaxRanges];
  /// Workers that have joined; under Impl::mutex.
  size_t joined = 0;
  /// Workers that may still join, and workers inside. Both are written under Impl::mutex only, and
  /// helpers is read without it by the caller who waits.
  size_t seats = 0;
  std::atomic<size_t> helpers{0};
  std::condition_variable left;

  Fork(const void* fork_body, void (*fork_call)(const void*, size_t), size_t fork_count,
       size_t threads)
      : body(fork_body), call(fork_call), count(fork_count), ranges(std::min(threads, kMaxRanges)) {
    for (size_t r = 0; r < ranges; ++r) range[r].next.store(begin(r), std::memory_order_relaxed);
  }

  /// Without overflow: count may be anything.
  size_t begin(size_t r) const { return count / ranges * r + std::min(r, count % ranges); }

  /// `seat`: 0 for the caller, then 1, 2, ... in the order of joining.
  void work(size_t seat) {
    const SteadyState steady;
    for (size_t turn = 0; turn < ranges; ++turn) {
      const size_t r = (seat + turn) % ranges;
      const size_t end = begin(r + 1);
      for (;;) {
        const size_t index = range[r].next.fetch_add(1, std::memory_order_relaxed);
        if (index >= end) break;
        call(body, index);
      }
    }
  }
};

}  // namespace

/// Forks come before jobs: a running request is finished before another is started.
struct ThreadPool::Impl {
  std::mutex mutex;
  std::condition_variable wake;
  /// A few at most; a deque would allocate as it moves along.
  std::vector<Fork*> forks;
  std::deque<std::function<void()>> jobs;
  /// Whether there is a fork or a job, for workers that look without the mutex.
  std::atomic<bool> has_work{false};
  size_t sleeping = 0;
  size_t spinning = 0;
  size_t size = 1;

  /// Call with the mutex held, after a change of forks or jobs.
  void publish() { has_work.store(!forks.empty() || !jobs.empty(), std::memory_order_release); }

  void worker() {
    std::unique_lock<std::mutex> lock(mutex);
    // A worker that only ever gets jobs sleeps at once: nobody waits for it.
    bool has_forked = false;
    for (;;) {
      if (!forks.empty()) {
        Fork* fork = forks.front();
        fork->helpers.fetch_add(1, std::memory_order_relaxed);
        const size_t seat = ++fork->joined;
        if (--fork->seats == 0) forks.erase(forks.begin());
        publish();
        lock.unlock();
        fork->work(seat);
        lock.lock();
        if (fork->helpers.fetch_sub(1, std::memory_order_acq_rel) == 1) fork->left.notify_one();
        has_forked = true;
      } else if (!jobs.empty()) {
        std::function<void()> job = std::move(jobs.front());
        jobs.pop_front();
        publish();
        lock.unlock();
        job();
        job = nullptr;
        lock.lock();
      } else if (has_forked) {
        ++spinning;
        lock.unlock();
        spin(kIdleSpin, [&] { return has_work.load(std::memory_order_acquire); });
        lock.lock();
        --spinning;
        has_forked = false;
      } else {
        ++sleeping;
        wake.wait(lock);
        --sleeping;
      }
    }
  }
};

ThreadPool::ThreadPool() : impl_(new Impl) {
  impl_->size = topology().threads;
  // As many workers as threads: an asynchronous job runs on a worker while the JavaScript thread
  // does not compute.
  for (size_t i = 0; i < impl_->size; ++i) std::thread([impl = impl_] { impl->worker(); }).detach();
}

ThreadPool& ThreadPool::instance() {
  // Leaked on purpose: detached workers may outlive static destructors.
  static ThreadPool* pool = new ThreadPool;
  return *pool;
}

size_t ThreadPool::size() const { return impl_->size; }

void ThreadPool::run_fork(size_t count, size_t max_threads, const void* body, BodyFn call) {
  const size_t limit = max_threads == 0 ? impl_->size : std::min(max_threads, impl_->size);
  const size_t helpers = std::min(count, limit) - (count == 0 ? 0 : 1);
  if (helpers == 0) {
    for (size_t index = 0; index < count; ++index) call(body, index);
    return;
  }
  Fork fork(body, call, count, helpers + 1);
  size_t wakeups = 0;
  bool is_shared;
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    // Whole jobs that wait are better work for other threads than parts of this one: they need no
    // barrier.
    is_shared = impl_->jobs.empty();
    if (is_shared) {
      fork.seats = helpers;
      impl_->forks.push_back(&fork);
      impl_->publish();
      wakeups = std::min(helpers - std::min(helpers, impl_->spinning), impl_->sleeping);
    }
  }
  for (size_t i = 0; i < wakeups; ++i) impl_->wake.notify_one();
  fork.work(/*seat=*/0);
  if (!is_shared) return;
  const auto is_left = [&fork] { return fork.helpers.load(std::memory_order_acquire) == 0; };
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    if (fork.seats != 0) {
      impl_->forks.erase(std::find(impl_->forks.begin(), impl_->forks.end(), &fork));
      impl_->publish();
    }
  }
  spin(kJoinSpin, is_left);
  // Also after a successful spin: the last helper may still be about to notify, under the mutex.
  std::unique_lock<std::mutex> lock(impl_->mutex);
  fork.left.wait(lock, is_left);
}

void ThreadPool::submit(std::function<void()> job) {
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->jobs.push_back(std::move(job));
    impl_->publish();
  }
  impl_->wake.notify_one();
}

}  // namespace q8

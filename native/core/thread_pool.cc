// SPDX-License-Identifier: MIT
#include "core/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "cpu/topology.h"

namespace q8 {
namespace {

/// One fork-join. It lives on the caller's stack: `helpers` counts the workers that hold a pointer
/// to it, and the caller returns only when that is 0.
struct Fork {
  const std::function<void(size_t)>* body;
  size_t count;
  std::atomic<size_t> next{0};
  /// Workers that may still join, and workers inside; both guarded by Impl::mutex.
  size_t seats = 0;
  size_t helpers = 0;
  std::condition_variable left;

  void work() {
    for (;;) {
      const size_t index = next.fetch_add(1, std::memory_order_relaxed);
      if (index >= count) return;
      (*body)(index);
    }
  }
};

}  // namespace

/// Forks come before jobs: a running request is finished before another is started.
struct ThreadPool::Impl {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Fork*> forks;
  std::deque<std::function<void()>> jobs;
  size_t idle = 0;
  size_t size = 1;

  void worker() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      if (!forks.empty()) {
        Fork* fork = forks.front();
        ++fork->helpers;
        if (--fork->seats == 0) forks.pop_front();
        lock.unlock();
        fork->work();
        lock.lock();
        if (--fork->helpers == 0) fork->left.notify_one();
      } else if (!jobs.empty()) {
        std::function<void()> job = std::move(jobs.front());
        jobs.pop_front();
        lock.unlock();
        job();
        job = nullptr;
        lock.lock();
      } else {
        ++idle;
        wake.wait(lock);
        --idle;
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

void ThreadPool::parallel_for(size_t count, size_t max_threads,
                              const std::function<void(size_t)>& body) {
  const size_t limit = max_threads == 0 ? impl_->size : std::min(max_threads, impl_->size);
  const size_t helpers = std::min(count, limit) - (count == 0 ? 0 : 1);
  if (helpers == 0) {
    for (size_t index = 0; index < count; ++index) body(index);
    return;
  }
  Fork fork;
  fork.body = &body;
  fork.count = count;
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
      wakeups = std::min(helpers, impl_->idle);
    }
  }
  for (size_t i = 0; i < wakeups; ++i) impl_->wake.notify_one();
  fork.work();
  if (!is_shared) return;
  std::unique_lock<std::mutex> lock(impl_->mutex);
  if (fork.seats != 0) {
    impl_->forks.erase(std::find(impl_->forks.begin(), impl_->forks.end(), &fork));
  }
  fork.left.wait(lock, [&fork] { return fork.helpers == 0; });
}

void ThreadPool::submit(std::function<void()> job) {
  {
    const std::lock_guard<std::mutex> lock(impl_->mutex);
    impl_->jobs.push_back(std::move(job));
  }
  impl_->wake.notify_one();
}

}  // namespace q8

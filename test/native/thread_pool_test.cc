// SPDX-License-Identifier: MIT
#include "core/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "check.h"

namespace q8::test {

Q8_TEST(parallel_for_visits_every_index_once) {
  ThreadPool& pool = ThreadPool::instance();
  for (const size_t count : {0, 1, 2, 3, 100, 10000}) {
    for (const size_t threads : {0, 1, 2, 64}) {
      std::vector<std::atomic<int>> visits(count);
      pool.parallel_for(count, threads, [&](size_t i) { visits[i].fetch_add(1); });
      size_t wrong = 0;
      for (const std::atomic<int>& v : visits) wrong += v.load() != 1;
      Q8_CHECK(wrong == 0, std::to_string(count));
    }
  }
}

Q8_TEST(parallel_for_publishes_what_it_wrote) {
  // Plain memory: a missing happens-before shows under ThreadSanitizer.
  std::vector<int> values(1000);
  for (int round = 1; round <= 200; ++round) {
    ThreadPool::instance().parallel_for(values.size(), 0, [&](size_t i) { values[i] = round; });
    size_t sum = 0;
    for (const int v : values) sum += static_cast<size_t>(v);
    Q8_CHECK(sum == values.size() * static_cast<size_t>(round), "sum");
  }
}

Q8_TEST(nested_and_concurrent_forks_finish) {
  ThreadPool& pool = ThreadPool::instance();
  std::atomic<size_t> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        pool.parallel_for(
            8, 0, [&](size_t) { pool.parallel_for(8, 0, [&](size_t) { total.fetch_add(1); }); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  Q8_CHECK(total.load() == 4 * 20 * 64, std::to_string(total.load()));
}

Q8_TEST(submitted_jobs_run_and_may_fork) {
  ThreadPool& pool = ThreadPool::instance();
  std::mutex mutex;
  std::condition_variable done;
  size_t finished = 0;
  constexpr size_t kJobs = 50;
  for (size_t j = 0; j < kJobs; ++j) {
    pool.submit([&] {
      std::atomic<size_t> sum{0};
      pool.parallel_for(10, 0, [&](size_t i) { sum.fetch_add(i); });
      const std::lock_guard<std::mutex> lock(mutex);
      if (sum.load() == 45) ++finished;
      done.notify_one();
    });
  }
  std::unique_lock<std::mutex> lock(mutex);
  done.wait(lock, [&] { return finished == kJobs; });
}

}  // namespace q8::test

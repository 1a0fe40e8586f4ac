// SPDX-License-Identifier: MIT
#include "binding/async.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "binding/errors.h"
#include "core/abort_flag.h"
#include "core/thread_pool.h"

namespace q8 {
namespace {

/// A wake-up of the JavaScript thread costs it and the worker some ten microseconds each, more than
/// the call itself. Where short jobs wait, ends of several are therefore told at once.
///
/// A worker may leave an end untold (`ended`) if nothing but short jobs is queued or running in the
/// process and enough of them are of the same environment. So some short job of it will end soon,
/// and its worker decides anew: an end is late by a few short jobs, never by a long one.
constexpr std::chrono::microseconds kShort(300);
/// Ends that are told at once, for each thread of the pool: as many jobs must be left, so that no
/// worker runs dry until JavaScript has queued more.
constexpr size_t kEndsPerThread = 2;

using Clock = std::chrono::steady_clock;

/// Of the last short job; 0 before the first.
std::atomic<double> seconds_per_mac{0};
/// Jobs queued or running in the process that are not known to be short.
std::atomic<size_t> long_jobs{0};

struct Job;

/// Jobs in the order of their ends.
struct Ended {
  Job* first = nullptr;
  Job* last = nullptr;
  size_t count = 0;

  void push(Job* job);
};

/// The calls in flight of one environment; its instance data.
struct Calls {
  napi_threadsafe_function completions = nullptr;
  /// Promises not yet settled. While there are some the event loop is kept alive. Thread: JS.
  size_t unsettled = 0;

  std::mutex mutex;
  std::condition_variable delivered;
  /// Jobs queued or running, for their flags; guarded by mutex.
  std::unordered_set<Job*> running;
  /// Jobs whose ends have not been told; guarded by mutex.
  Ended ended;
  /// Jobs whose completion has not been handed over yet; guarded by mutex.
  size_t undelivered = 0;
};

struct Job {
  std::shared_ptr<Calls> calls;
  napi_deferred deferred = nullptr;
  napi_ref pins = nullptr;
  int32_t own_cancel = 0;
  int32_t* cancel = nullptr;
  double macs = 0;
  bool is_short = false;
  std::function<Status(const int32_t*)> work;
  Status status;
  Job* next = nullptr;
};

void Ended::push(Job* job) {
  (last != nullptr ? last->next : first) = job;
  last = job;
  ++count;
}

void settle(napi_env env, const Job& job) {
  napi_delete_reference(env, job.pins);
  if (--job.calls->unsettled == 0) napi_unref_threadsafe_function(env, job.calls->completions);
  if (job.status.ok()) {
    napi_resolve_deferred(env, job.deferred, Napi::Env(env).Undefined());
    return;
  }
  try {
    napi_reject_deferred(env, job.deferred, to_error(env, job.status).Value());
  } catch (const Napi::Error&) {
    // No error can be made in a worker that is being terminated, and nobody waits for the promise.
  }
}

/// `data` is the first of a list of jobs. Thread: JS. env is null when the environment ends before
/// the completions were delivered.
void settle_all(napi_env env, napi_value, void*, void* data) {
  for (Job* next = static_cast<Job*>(data); next != nullptr;) {
    const std::unique_ptr<Job> job(next);
    next = job->next;
    if (env == nullptr) continue;
    const Napi::HandleScope scope(env);
    settle(env, *job);
  }
}

/// Thread: worker.
void run(Job* job) {
  const std::shared_ptr<Calls> calls = job->calls;
  const Clock::time_point start = Clock::now();
  job->status = job->work(job->cancel);
  const Clock::duration took = Clock::now() - start;
  job->work = nullptr;
  if (job->macs != kUnknownWork)
    seconds_per_mac = std::chrono::duration<double>(took).count() / job->macs;
  const bool may_wait = job->is_short && took <= kShort && job->status.ok();
  if (!job->is_short) --long_jobs;
  const size_t most = kEndsPerThread * ThreadPool::instance().size();
  Ended ended;
  {
    const std::lock_guard<std::mutex> lock(calls->mutex);
    // From here on its flag may be gone.
    calls->running.erase(job);
    calls->ended.push(job);
    if (may_wait && long_jobs == 0 && calls->ended.count < most && calls->running.size() >= most)
      return;
    std::swap(ended, calls->ended);
  }
  // Not under the lock: this wakes the JavaScript thread, perhaps on this very core, which often
  // begins the next call at once.
  napi_call_threadsafe_function(calls->completions, ended.first, napi_tsfn_nonblocking);
  const std::lock_guard<std::mutex> lock(calls->mutex);
  calls->undelivered -= ended.count;
  if (calls->undelivered == 0) calls->delivered.notify_all();
}

/// Thread: JS. Runs before the thread-safe function's own cleanup, because hooks run last-in
/// first-out.
void abort_all(void* data) {
  Calls& calls = **static_cast<std::shared_ptr<Calls>*>(data);
  std::unique_lock<std::mutex> lock(calls.mutex);
  for (Job* job : calls.running) set_aborted(job->cancel);
  calls.delivered.wait(lock, [&calls] { return calls.undelivered == 0; });
}

const std::shared_ptr<Calls>& calls_of(Napi::Env env) {
  auto* calls = env.GetInstanceData<std::shared_ptr<Calls>>();
  if (calls != nullptr) return *calls;
  auto created = std::make_unique<std::shared_ptr<Calls>>(std::make_shared<Calls>());
  const Napi::String name = Napi::String::New(env, "q8");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr,
                                      settle_all, &(*created)->completions) != napi_ok) {
    throw_error(env, Code::kInternal, "Cannot create a thread-safe function.");
  }
  napi_unref_threadsafe_function(env, (*created)->completions);
  napi_add_env_cleanup_hook(env, abort_all, created.get());
  calls = created.release();
  env.SetInstanceData(calls);
  return *calls;
}

}  // namespace

Napi::Promise run_async(Napi::Env env, const std::vector<napi_value>& pins, int32_t* cancel,
                        double macs, std::function<Status(const int32_t* cancel)> work) {
  const std::shared_ptr<Calls>& calls = calls_of(env);
  auto job = std::make_unique<Job>();
  job->calls = calls;
  job->cancel = cancel != nullptr ? cancel : &job->own_cancel;
  job->macs = macs;
  const double seconds = macs * seconds_per_mac;
  job->is_short = seconds > 0 && seconds <= std::chrono::duration<double>(kShort).count();
  job->work = std::move(work);
  Napi::Array pinned = Napi::Array::New(env, pins.size());
  for (uint32_t i = 0; i < pins.size(); ++i) pinned.Set(i, Napi::Value(env, pins[i]));
  napi_value promise;
  if (napi_create_reference(env, pinned, 1, &job->pins) != napi_ok ||
      napi_create_promise(env, &job->deferred, &promise) != napi_ok) {
    throw_error(env, Code::kInternal, "Cannot create a promise.");
  }
  if (calls->unsettled++ == 0) napi_ref_threadsafe_function(env, calls->completions);
  Job* queued = job.release();
  if (!queued->is_short) ++long_jobs;
  {
    const std::lock_guard<std::mutex> lock(calls->mutex);
    calls->running.insert(queued);
    ++calls->undelivered;
  }
  ThreadPool::instance().submit([queued] { run(queued); });
  return Napi::Promise(env, promise);
}

}  // namespace q8

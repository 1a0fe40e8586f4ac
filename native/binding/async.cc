// SPDX-License-Identifier: MIT
#include "binding/async.h"

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

struct Job;

/// The calls in flight of one environment; its instance data.
struct Calls {
  napi_threadsafe_function completions = nullptr;
  /// Promises not yet settled. While there are some the event loop is kept alive. Thread: JS.
  size_t unsettled = 0;

  std::mutex mutex;
  std::condition_variable delivered;
  /// Jobs queued or running, for their flags; guarded by mutex.
  std::unordered_set<Job*> running;
  /// Jobs whose completion has not been handed over yet; guarded by mutex.
  size_t undelivered = 0;
};

struct Job {
  std::shared_ptr<Calls> calls;
  napi_deferred deferred = nullptr;
  napi_ref pins = nullptr;
  int32_t own_cancel = 0;
  int32_t* cancel = nullptr;
  std::function<Status(const int32_t*)> work;
  Status status;
};

/// Thread: JS. env is null when the environment ends before the completion was delivered.
void settle(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (env == nullptr) return;
  const Napi::HandleScope scope(env);
  napi_delete_reference(env, job->pins);
  if (--job->calls->unsettled == 0) napi_unref_threadsafe_function(env, job->calls->completions);
  if (job->status.ok()) {
    napi_resolve_deferred(env, job->deferred, Napi::Env(env).Undefined());
    return;
  }
  try {
    napi_reject_deferred(env, job->deferred, to_error(env, job->status).Value());
  } catch (const Napi::Error&) {
    // No error can be made in a worker that is being terminated, and nobody waits for the promise.
  }
}

/// Thread: worker.
void run(Job* job) {
  const std::shared_ptr<Calls> calls = job->calls;
  job->status = job->work(job->cancel);
  job->work = nullptr;
  {
    // From here on its flag may be gone.
    const std::lock_guard<std::mutex> lock(calls->mutex);
    calls->running.erase(job);
  }
  // Not under the lock: this wakes the JavaScript thread, perhaps on this very core, which often
  // begins the next call at once.
  napi_call_threadsafe_function(calls->completions, job, napi_tsfn_nonblocking);
  const std::lock_guard<std::mutex> lock(calls->mutex);
  if (--calls->undelivered == 0) calls->delivered.notify_all();
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
                                      settle, &(*created)->completions) != napi_ok) {
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
                        std::function<Status(const int32_t* cancel)> work) {
  const std::shared_ptr<Calls>& calls = calls_of(env);
  auto job = std::make_unique<Job>();
  job->calls = calls;
  job->cancel = cancel != nullptr ? cancel : &job->own_cancel;
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
  {
    const std::lock_guard<std::mutex> lock(calls->mutex);
    calls->running.insert(queued);
    ++calls->undelivered;
  }
  ThreadPool::instance().submit([queued] { run(queued); });
  return Napi::Promise(env, promise);
}

}  // namespace q8

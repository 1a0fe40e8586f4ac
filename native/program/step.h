// SPDX-License-Identifier: MIT
/// What a program is made of: tensors with a place, and steps that run on them. Steps are built
/// once from a description that is checked against the tensors' sizes, so that run() needs no
/// checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/status.h"
#include "gemm/gemm.h"
#include "kernels/kernel_table.h"

namespace q8 {

enum class DType : uint8_t {
  kFloat32,
  kUint8,
  kInt8,
  kInt32,
  kInt64,
  kBool,
  kFloat64,
  kUint16,
  kInt16,
  kUint32,
  kUint64,
  kFloat16,
  kBfloat16,
};

size_t dtype_bytes(DType dtype);
const char* dtype_name(DType dtype);
/// False when there is no such dtype.
bool dtype_from_name(const char* name, DType* out);

using BufferId = uint32_t;

enum class Place : uint8_t { kInput, kOutput, kConstant, kArena };

struct BufferInfo {
  DType dtype = DType::kFloat32;
  size_t elements = 0;
  Place place = Place::kArena;
  /// Input or output index, or byte offset in the arena.
  size_t position = 0;
};

/// What a step keeps from run to run: memory whose size only a run can tell. One for each arena, so
/// one run has it at a time.
class Workspace {
 public:
  virtual ~Workspace() = default;
};

/// One run: where each buffer is, and what the run may use. Shared by all threads of a step.
struct RunContext {
  /// By BufferId.
  uint8_t* const* buffers = nullptr;
  /// Memory for the running step alone, Step::scratch_bytes() of it, 64-byte aligned.
  uint8_t* scratch = nullptr;
  /// What make_workspace() of the running step has made.
  Workspace* workspace = nullptr;
  /// At most this many threads; 0 = all of the pool.
  size_t threads = 0;
  /// Polled inside long steps too; may be null.
  const int32_t* cancel = nullptr;
  /// Weights of the next step that has any.
  PackedBytes next_weights;

  template <typename T>
  T* data(BufferId id) const {
    return reinterpret_cast<T*>(buffers[id]);
  }
  /// Threads that may really work.
  size_t thread_count() const;
};

class Step {
 public:
  virtual ~Step() = default;
  virtual size_t scratch_bytes() const { return 0; }
  /// Null when the step needs none.
  virtual std::unique_ptr<Workspace> make_workspace() const { return nullptr; }
  /// What a run reads first, if it is worth being fetched before.
  virtual PackedBytes packed_weights() const { return {}; }
  /// Which of several ways this step computes, for profiles.
  virtual const char* kernel() const { return ""; }
  /// Thread: any; several runs of one step may be in flight, so steps are immutable.
  virtual Status run(const RunContext& context) const = 0;
};

}  // namespace q8

// SPDX-License-Identifier: MIT
/// A compiled plan: buffers of fixed sizes and a flat list of steps, immutable once built. Several
/// runs may be in flight; each takes an arena from a free list, so that steady state allocates
/// nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/status.h"
#include "program/fields.h"
#include "program/step.h"

namespace q8 {

class Program {
 public:
  /// `table` provides the vector operators; packed weights bring their own.
  Program(const KernelTable& table, size_t arena_bytes)
      : table_(table), arena_bytes_(arena_bytes) {}

  /// Buffers come before steps. A constant's data is copied.
  Status add_buffer(const BufferInfo& info, const ArrayCopy* constant);
  /// The description has the property "op" and those of its kind in binding.d.ts. Everything it may
  /// touch is checked here.
  Status add_step(const Fields& description);

  const std::vector<BufferInfo>& buffers() const { return buffers_; }
  size_t step_count() const { return steps_.size(); }
  const std::string& step_name(size_t index) const { return names_[index]; }
  const Step& step(size_t index) const { return *steps_[index]; }

  /// `io[b]` is the memory of input or output buffer b (ignored for others), at least as large as
  /// its BufferInfo says. `nanoseconds`, when not null, gets the time of each step. Thread: any.
  Status run(const std::vector<uint8_t*>& io, size_t threads, const int32_t* cancel,
             double* nanoseconds) const;

 private:
  struct Arena {
    AlignedBuffer memory;
    std::vector<uint8_t*> buffers;
    /// By step.
    std::vector<std::unique_ptr<Workspace>> workspaces;
  };

  std::unique_ptr<Arena> take_arena() const;
  void give_back(std::unique_ptr<Arena> arena) const;

  const KernelTable& table_;
  size_t arena_bytes_;
  size_t scratch_bytes_ = 0;
  std::vector<BufferInfo> buffers_;
  /// By BufferId; empty for other places.
  std::vector<AlignedBuffer> constants_;
  std::vector<std::unique_ptr<Step>> steps_;
  /// By step: the weights of the next one that has any.
  std::vector<PackedBytes> next_weights_;
  std::vector<std::string> names_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Arena>> free_arenas_;
};

}  // namespace q8

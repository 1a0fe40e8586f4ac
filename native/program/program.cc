// SPDX-License-Identifier: MIT
#include "program/program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "conv/conv_step.h"
#include "core/abort_flag.h"
#include "core/steady_state.h"
#include "ops/steps.h"
#include "program/step_reader.h"

namespace q8 {
namespace {

struct StepKind {
  const char* op;
  std::unique_ptr<Step> (*make)(StepReader& reader);
};

constexpr StepKind kStepKinds[] = {
    {"attention", make_attention},
    {"average_pool", make_average_pool},
    {"binary", make_binary},
    {"chain", make_chain},
    {"concat", make_concat},
    {"conv", make_conv},
    {"dequantize", make_dequantize},
    {"dequantize_nchw", make_dequantize_nchw},
    {"gather", make_gather},
    {"gather_dynamic", make_gather_dynamic},
    {"gemm", make_gemm},
    {"layer_norm", make_layer_norm},
    {"lut", make_lut},
    {"matmul", make_matmul},
    {"max_pool", make_max_pool},
    {"pad", make_pad},
    {"qaverage_pool", make_qaverage_pool},
    {"qbinary", make_qbinary},
    {"qconv", make_qconv},
    {"qconv_dynamic", make_qconv_dynamic},
    {"qgemm", make_qgemm},
    {"qgemm_dynamic", make_qgemm_dynamic},
    {"qglobal_average_pool", make_qglobal_average_pool},
    {"qmatmul", make_qmatmul},
    {"quantize", make_quantize},
    {"quantize_dynamic", make_quantize_dynamic},
    {"quantize_nhwc", make_quantize_nhwc},
    {"range", make_range},
    {"range_parameter", make_range_parameter},
    {"reduce", make_reduce},
    {"resample", make_resample},
    {"softmax", make_softmax},
    {"strided_copy", make_strided_copy},
    {"unary", make_unary},
    {"where", make_where},
};

constexpr size_t kMaxFreeArenas = 16;

constexpr size_t round_up(size_t n) {
  return (n + AlignedBuffer::kAlignment - 1) / AlignedBuffer::kAlignment *
         AlignedBuffer::kAlignment;
}

}  // namespace

Status Program::add_buffer(const BufferInfo& info, const ArrayCopy* constant) {
  const std::string name = "buffer " + std::to_string(buffers_.size());
  const size_t bytes = checked_product({info.elements, dtype_bytes(info.dtype)});
  AlignedBuffer memory;
  if (info.place == Place::kArena) {
    if (info.position % AlignedBuffer::kAlignment != 0 || info.position > arena_bytes_ ||
        bytes > arena_bytes_ - info.position) {
      return {Code::kInvalidArgument,
              "Expected " + name + " to lie inside the arena, at a multiple of 64."};
    }
  } else if (info.place == Place::kConstant) {
    if (constant == nullptr || constant->bytes.size() != bytes) {
      return {Code::kShapeMismatch,
              "Expected as many elements in the data of " + name + " as it declares."};
    }
    memory = AlignedBuffer(bytes);
    if (bytes != 0) {
      if (memory.data() == nullptr)
        return {Code::kOutOfMemory, "Cannot allocate memory for " + name + "."};
      std::memcpy(memory.data(), constant->bytes.data(), bytes);
    }
  }
  buffers_.push_back(info);
  constants_.push_back(std::move(memory));
  return {};
}

Status Program::add_step(const Fields& description) {
  std::string op;
  description.string("op", &op);
  const std::string name = "step " + std::to_string(steps_.size()) + " (" + op + ")";
  const auto kind = std::find_if(std::begin(kStepKinds), std::end(kStepKinds),
                                 [&op](const StepKind& k) { return op == k.op; });
  if (kind == std::end(kStepKinds))
    return {Code::kInvalidArgument, "Expected a known op for " + name + "."};
  StepReader reader(description, buffers_, table_);
  std::unique_ptr<Step> step = kind->make(reader);
  if (!reader.ok())
    return {reader.status().code(), "In " + name + ": " + reader.status().message()};
  scratch_bytes_ = std::max(scratch_bytes_, step->scratch_bytes());
  const PackedBytes weights = step->packed_weights();
  for (size_t s = steps_.size(); weights.data != nullptr && s > 0; --s) {
    if (next_weights_[s - 1].data != nullptr) break;
    next_weights_[s - 1] = weights;
  }
  next_weights_.emplace_back();
  steps_.push_back(std::move(step));
  names_.push_back(op);
  return {};
}

std::unique_ptr<Program::Arena> Program::take_arena() const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!free_arenas_.empty()) {
      std::unique_ptr<Arena> arena = std::move(free_arenas_.back());
      free_arenas_.pop_back();
      return arena;
    }
  }
  auto arena = std::make_unique<Arena>();
  const size_t bytes = round_up(arena_bytes_) + scratch_bytes_;
  arena->memory = AlignedBuffer(bytes);
  if (bytes != 0 && arena->memory.data() == nullptr) return nullptr;
  // Steps write all that they or others read, but an inconsistent plan must not show old memory.
  if (bytes != 0) std::memset(arena->memory.data(), 0, bytes);
  arena->buffers.resize(buffers_.size());
  for (size_t b = 0; b < buffers_.size(); ++b) {
    if (buffers_[b].place == Place::kArena)
      arena->buffers[b] = arena->memory.data() + buffers_[b].position;
    // SAFETY: steps write to outputs and the arena only (StepReader::output), so the const is kept.
    if (buffers_[b].place == Place::kConstant)
      arena->buffers[b] = const_cast<uint8_t*>(constants_[b].data());
  }
  arena->workspaces.reserve(steps_.size());
  for (const auto& step : steps_) arena->workspaces.push_back(step->make_workspace());
  return arena;
}

void Program::give_back(std::unique_ptr<Arena> arena) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (free_arenas_.size() < kMaxFreeArenas) free_arenas_.push_back(std::move(arena));
}

Status Program::run(const std::vector<uint8_t*>& io, size_t threads, const int32_t* cancel,
                    double* nanoseconds) const {
  const SteadyState steady;
  std::unique_ptr<Arena> arena = take_arena();
  if (arena == nullptr) {
    return {Code::kOutOfMemory, "Cannot allocate an arena of " +
                                    std::to_string(arena_bytes_ + scratch_bytes_) + " bytes."};
  }
  for (size_t b = 0; b < buffers_.size(); ++b) {
    const Place place = buffers_[b].place;
    if (place == Place::kInput || place == Place::kOutput) arena->buffers[b] = io[b];
  }
  RunContext context;
  context.buffers = arena->buffers.data();
  context.scratch = scratch_bytes_ == 0 ? nullptr : arena->memory.data() + round_up(arena_bytes_);
  context.threads = threads;
  context.cancel = cancel;
  Status status;
  using Clock = std::chrono::steady_clock;
  Clock::time_point start = nanoseconds == nullptr ? Clock::time_point() : Clock::now();
  for (size_t s = 0; s < steps_.size() && status.ok(); ++s) {
    if (is_aborted(cancel)) {
      status = Status(Code::kAborted, "The run was aborted.");
      break;
    }
    context.next_weights = next_weights_[s];
    context.workspace = arena->workspaces[s].get();
    status = steps_[s]->run(context);
    if (!status.ok() && status.code() != Code::kAborted) {
      status = Status(status.code(),
                      "In step " + std::to_string(s) + " (" + names_[s] + "): " + status.message());
    }
    if (nanoseconds != nullptr) {
      const Clock::time_point end = Clock::now();
      nanoseconds[s] = std::chrono::duration<double, std::nano>(end - start).count();
      start = end;
    }
  }
  give_back(std::move(arena));
  return status;
}

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Matrix products: 8-bit and float32, with constant packed weights or with both operands computed
/// at run time.
#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "core/abort_flag.h"
#include "ops/finish.h"
#include "ops/float_gemm.h"
#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

size_t bytes_of(OutKind kind) { return kind == OutKind::kU8 || kind == OutKind::kS8 ? 1 : 4; }

class QGemm final : public Step {
 public:
  QGemm(BufferId x, BufferId y, size_t m, bool x_signed, int32_t x_zero_point, OutputSpec spec,
        std::shared_ptr<const PackedB> weights, OutputRows rows, Finish finish)
      : x_(x),
        y_(y),
        m_(m),
        x_signed_(x_signed),
        spec_(std::move(spec)),
        weights_(std::move(weights)),
        columns_(spec_, 0, *weights_, x_zero_point, x_signed),
        rows_(rows),
        finish_(std::move(finish)) {}

  PackedBytes packed_weights() const override { return weights_->packed(); }

  Status run(const RunContext& context) const override {
    GemmCall call;
    call.m = m_;
    call.a.data = context.data<const uint8_t>(x_);
    call.a.row_bytes = weights_->k();
    call.a.is_signed = x_signed_;
    call.b = weights_.get();
    call.epilogue = columns_.epilogue(spec_);
    uint8_t* y = context.data<uint8_t>(y_) + rows_.offset * bytes_of(spec_.kind);
    call.c = y;
    call.ldc = rows_.stride;
    call.next = context.next_weights;
    call.threads = context.threads;
    call.cancel = context.cancel;
    const Status status = run_gemm(call);
    if (status.ok()) finish_.apply_all(context, m_, weights_->n(), y, rows_.stride);
    return status;
  }

 private:
  BufferId x_;
  BufferId y_;
  size_t m_;
  bool x_signed_;
  OutputSpec spec_;
  std::shared_ptr<const PackedB> weights_;
  Columns columns_;
  OutputRows rows_;
  Finish finish_;
};

/// Dimensions of a batch of products whose offsets are given one by one.
struct Batch {
  size_t m = 0;
  size_t n = 0;
  size_t k = 0;
  /// [a0, b0, y0, a1, b1, y1, ...] in elements.
  std::vector<size_t> offsets;

  explicit Batch(StepReader& reader) {
    m = reader.size("m");
    n = reader.size("n");
    k = reader.size("k");
    const std::vector<int32_t> values = reader.int32s("batchOffsets");
    if (values.size() % 3 != 0)
      reader.fail("three offsets per product", "batchOffsets", Code::kShapeMismatch);
    for (const int32_t value : values) {
      if (value < 0) reader.fail("offsets of at least 0", "batchOffsets");
      offsets.push_back(static_cast<size_t>(value));
    }
    if (!reader.ok()) offsets.clear();
  }

  size_t count() const { return offsets.size() / 3; }
  size_t a(size_t i) const { return offsets[i * 3]; }
  size_t b(size_t i) const { return offsets[i * 3 + 1]; }
  size_t y(size_t i) const { return offsets[i * 3 + 2]; }

  /// Elements that operand `which` (0: a, 1: b, 2: y) of `size` elements per product needs. At most
  /// 2^31 + 2^62.
  size_t extent(size_t which, size_t size) const {
    size_t last = 0;
    for (size_t i = 0; i < count(); ++i) last = std::max(last, offsets[i * 3 + which]);
    return count() == 0 ? 0 : last + size;
  }
  /// Threads per product: many products run side by side, few share the threads.
  size_t threads_each(size_t threads) const { return count() >= threads ? 1 : threads; }
};

/// The pieces of an 8-bit product whose B arrives at run time. Bias and multiplier are constants.
class QMatMul final : public Step {
 public:
  explicit QMatMul(StepReader& reader) : table_(reader.table()), batch_(reader) {
    a_ = reader.input("a", kCodes, batch_.extent(0, batch_.m * batch_.k));
    b_ = reader.input("b", kCodes, batch_.extent(1, batch_.k * batch_.n));
    a_signed_ = reader.is_signed(a_);
    b_signed_ = reader.is_signed(b_);
    a_zero_point_ = reader.zero_point("aZeroPoint", a_);
    b_zero_point_ = reader.zero_point("bZeroPoint", b_);
    spec_ =
        reader.output_spec(reader.ok() ? batch_.n : 0, batch_.extent(2, batch_.m * batch_.n), &y_);
  }

  Status run(const RunContext& context) const override {
    const size_t threads = context.thread_count();
    const size_t each = batch_.threads_each(threads);
    auto& desks = static_cast<Desks&>(*context.workspace);
    std::atomic<size_t> next{0};
    FirstError error;
    const size_t tasks = each == 1 ? std::min(threads, batch_.count()) : 1;
    ThreadPool::instance().parallel_for(tasks, tasks, [&](size_t task) {
      for (;;) {
        const size_t i = next.fetch_add(1, std::memory_order_relaxed);
        if (i >= batch_.count() || error.failed() || is_aborted(context.cancel)) return;
        error.keep(run_one(context, i, each, desks.all[task]));
      }
    });
    return error.take();
  }

  std::unique_ptr<Workspace> make_workspace() const override {
    auto desks = std::make_unique<Desks>();
    const size_t padded = (batch_.n + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
    const size_t count = std::min(ThreadPool::instance().size(), batch_.count());
    for (size_t i = 0; i < count; ++i)
      desks->all.push_back({PackedB(), Columns(spec_, 0, batch_.n, std::vector<int32_t>(padded))});
    return desks;
  }

 private:
  /// Where one product at a time is prepared.
  struct Desk {
    PackedB packed;
    Columns columns;
  };
  struct Desks final : Workspace {
    std::vector<Desk> all;
  };

  Status run_one(const RunContext& context, size_t i, size_t threads, Desk& desk) const {
    PackedB& packed = desk.packed;
    const Status status = PackedB::pack(table_, context.data<const uint8_t>(b_) + batch_.b(i),
                                        b_signed_, batch_.k, batch_.n, batch_.n,
                                        /*transposed=*/false, &b_zero_point_, 1, &packed, threads);
    if (!status.ok()) return status;
    fold_bias(packed, a_zero_point_, a_signed_, spec_.bias.empty() ? nullptr : spec_.bias.data(),
              desk.columns.bias.data());
    GemmCall call;
    call.m = batch_.m;
    call.a.data = context.data<const uint8_t>(a_) + batch_.a(i);
    call.a.row_bytes = batch_.k;
    call.a.is_signed = a_signed_;
    call.b = &packed;
    call.epilogue = desk.columns.epilogue(spec_);
    call.c = context.data<uint8_t>(y_) + batch_.y(i) * bytes_of(spec_.kind);
    call.ldc = batch_.n;
    call.threads = threads;
    call.cancel = context.cancel;
    return run_gemm(call);
  }

  const KernelTable& table_;
  Batch batch_;
  BufferId a_ = 0;
  BufferId b_ = 0;
  BufferId y_ = 0;
  bool a_signed_ = false;
  bool b_signed_ = false;
  int32_t a_zero_point_ = 0;
  int32_t b_zero_point_ = 0;
  OutputSpec spec_;
};

class Gemm final : public Step {
 public:
  explicit Gemm(StepReader& reader) : kernels_(*reader.table().vector) {
    m_ = reader.size("m");
    weights_ = reader.weights("weights").gemm_f32;
    if (weights_ == nullptr) reader.fail("weights from packGemmF32()", "weights");
    if (!reader.ok()) return;
    const size_t n = weights_->n();
    x_ = reader.input("x", kFloat, checked_product({m_, weights_->k()}));
    y_ = reader.output("y", kFloat, checked_product({m_, n}));
    bias_ = reader.optional_floats("bias", n);
    if (!bias_.empty()) bias_.resize((n + kPanelWidth - 1) / kPanelWidth * kPanelWidth);
    lo_ = reader.bound("min");
    hi_ = reader.bound("max");
  }

  Status run(const RunContext& context) const override {
    GemmF32Call call;
    call.kernels = &kernels_;
    call.m = m_;
    call.n = weights_->n();
    call.segment = weights_->k();
    call.a = context.data<const float>(x_);
    call.lda = weights_->k();
    call.b = weights_->data();
    call.epilogue = {bias_.empty() ? nullptr : bias_.data(), lo_, hi_};
    call.c = context.data<float>(y_);
    call.ldc = call.n;
    call.threads = context.threads;
    call.cancel = context.cancel;
    return run_gemm_f32(call);
  }

 private:
  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t m_ = 0;
  std::shared_ptr<const PackedBF32> weights_;
  std::vector<float> bias_;
  float lo_ = 0;
  float hi_ = 0;
};

class MatMul final : public Step {
 public:
  explicit MatMul(StepReader& reader) : kernels_(*reader.table().vector), batch_(reader) {
    a_ = reader.input("a", kFloat, batch_.extent(0, batch_.m * batch_.k));
    b_ = reader.input("b", kFloat, batch_.extent(1, batch_.k * batch_.n));
    y_ = reader.output("y", kFloat, batch_.extent(2, batch_.m * batch_.n));
  }

  Status run(const RunContext& context) const override {
    const size_t threads = context.thread_count();
    const size_t each = batch_.threads_each(threads);
    FirstError error;
    ThreadPool::instance().parallel_for(batch_.count(), each == 1 ? threads : 1, [&](size_t i) {
      if (!is_aborted(context.cancel)) error.keep(run_one(context, i, each));
    });
    return error.take();
  }

 private:
  Status run_one(const RunContext& context, size_t i, size_t threads) const {
    thread_local std::vector<float> packed;
    const size_t floats = PackedBF32::packed_floats(batch_.k, batch_.n);
    if (packed.size() < floats) packed.resize(floats);
    PackedBF32::pack_into(context.data<const float>(b_) + batch_.b(i), batch_.k, batch_.n, batch_.n,
                          /*transposed=*/false, packed.data());
    GemmF32Call call;
    call.kernels = &kernels_;
    call.m = batch_.m;
    call.n = batch_.n;
    call.segment = batch_.k;
    call.a = context.data<const float>(a_) + batch_.a(i);
    call.lda = batch_.k;
    call.b = packed.data();
    call.epilogue.lo = -std::numeric_limits<float>::infinity();
    call.epilogue.hi = std::numeric_limits<float>::infinity();
    call.c = context.data<float>(y_) + batch_.y(i);
    call.ldc = batch_.n;
    call.threads = threads;
    call.cancel = context.cancel;
    return run_gemm_f32(call);
  }

  const VectorKernels& kernels_;
  Batch batch_;
  BufferId a_ = 0;
  BufferId b_ = 0;
  BufferId y_ = 0;
};

}  // namespace

std::unique_ptr<Step> make_qgemm(StepReader& reader) {
  const size_t m = reader.size("m");
  std::shared_ptr<const PackedB> weights = reader.weights("weights").gemm;
  if (weights == nullptr) reader.fail("weights from packGemm()", "weights");
  if (!reader.ok()) return nullptr;
  const BufferId x = reader.input("x", kCodes, checked_product({m, weights->k()}));
  const int32_t x_zero_point = reader.zero_point("xZeroPoint", x);
  BufferId y = 0;
  const OutputRows rows = OutputRows::read(reader, weights->n());
  OutputSpec spec = reader.output_spec(weights->n(), rows.extent(m, weights->n()), &y);
  Finish finish = Finish::read(reader, m, weights->n(), y);
  if (!reader.ok()) return nullptr;
  return std::make_unique<QGemm>(x, y, m, reader.is_signed(x), x_zero_point, std::move(spec),
                                 std::move(weights), rows, std::move(finish));
}

std::unique_ptr<Step> make_qmatmul(StepReader& reader) { return std::make_unique<QMatMul>(reader); }

std::unique_ptr<Step> make_gemm(StepReader& reader) { return std::make_unique<Gemm>(reader); }

std::unique_ptr<Step> make_matmul(StepReader& reader) { return std::make_unique<MatMul>(reader); }

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Scaled dot-product attention of many heads: y = softmax(q k' * scale + mask) v. Queries, keys
/// and values are read where a projection left them, the heads side by side in each row, and the
/// result is written likewise: nothing is transposed in memory, and scores exist for one block of
/// rows at a time.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "core/abort_flag.h"
#include "ops/float_gemm.h"
#include "ops/steps.h"
#include "program/parallel.h"

namespace q8 {
namespace {

/// Query rows whose scores are computed together.
constexpr size_t kBlockRows = 64;

/// One of q, k, v: row r of batch item b starts at offset + (b * rows + r) * stride; head h has
/// `size` elements from h * size on.
struct Operand {
  BufferId buffer = 0;
  size_t offset = 0;
  size_t stride = 0;

  Operand() = default;
  Operand(StepReader& reader, const char* name, const char* offset_name, const char* stride_name,
          size_t rows, size_t width)
      : offset(reader.size(offset_name)), stride(reader.size(stride_name)) {
    if (reader.ok() && stride < width) reader.fail("room for all heads", stride_name);
    const size_t before_last = rows == 0 ? 0 : checked_product({rows - 1, stride});
    const size_t elements = rows == 0 ? 0 : offset + width;
    const bool fits = before_last <= std::numeric_limits<size_t>::max() - elements;
    buffer = reader.input(name, kFloat,
                          fits ? before_last + elements : std::numeric_limits<size_t>::max());
  }

  const float* row(const RunContext& context, size_t r) const {
    return context.data<const float>(buffer) + offset + r * stride;
  }
};

class Attention final : public Step {
 public:
  explicit Attention(StepReader& reader) : kernels_(*reader.table().vector) {
    batch_ = reader.size("batch");
    heads_ = reader.size("heads", 1);
    length_ = reader.size("length");
    keys_ = reader.size("keyLength");
    size_ = reader.size("headSize");
    value_size_ = reader.size("valueSize");
    const size_t width = checked_product({heads_, size_});
    const size_t value_width = checked_product({heads_, value_size_});
    q_ = Operand(reader, "q", "qOffset", "qStride", checked_product({batch_, length_}), width);
    k_ = Operand(reader, "k", "kOffset", "kStride", checked_product({batch_, keys_}), width);
    v_ = Operand(reader, "v", "vOffset", "vStride", checked_product({batch_, keys_}), value_width);
    y_ = reader.output("y", kFloat, checked_product({batch_, length_, value_width}));
    scale_ = reader.real("scale");
    causal_ = reader.boolean("causal");
    mask_value_ = reader.real("maskValue");
    if (!reader.is_null("mask")) {
      const std::string kind = reader.string("maskKind");
      if (kind == "keys") {
        mask_kind_ = MaskKind::kKeys;
      } else if (kind == "lengths") {
        mask_kind_ = MaskKind::kLengths;
      } else if (kind == "pairs") {
        mask_kind_ = MaskKind::kPairs;
      } else {
        reader.fail("'keys', 'lengths' or 'pairs'", "maskKind");
      }
      const size_t rows = kind == "pairs" ? length_ : 1;
      mask_ = reader.input("mask", {DType::kInt32},
                           kind == "lengths" ? batch_ : checked_product({batch_, rows, keys_}));
    }
    has_bias_ = !reader.is_null("bias");
    if (!has_bias_) return;
    bias_batch_stride_ = reader.size("biasBatchStride");
    bias_head_stride_ = reader.size("biasHeadStride");
    const size_t last =
        batch_ == 0 ? 0 : (batch_ - 1) * bias_batch_stride_ + (heads_ - 1) * bias_head_stride_;
    bias_ = reader.input("bias", kFloat, last + checked_product({length_, keys_}));
  }

  Status run(const RunContext& context) const override {
    if (batch_ == 0 || length_ == 0 || value_size_ == 0) return {};
    const size_t threads = context.thread_count();
    const size_t pairs = batch_ * heads_;
    // Keys and values are packed once per task, so rows are only divided for want of heads.
    const size_t blocks = (length_ + kBlockRows - 1) / kBlockRows;
    const size_t divisions = pairs >= threads ? 1 : std::min(blocks, (threads + pairs - 1) / pairs);
    ThreadPool::instance().parallel_for(pairs * divisions, threads, [&](size_t index) {
      const size_t part = index % divisions;
      run_head(context, index / divisions, blocks * part / divisions * kBlockRows,
               std::min(length_, blocks * (part + 1) / divisions * kBlockRows));
    });
    if (is_aborted(context.cancel)) return {Code::kAborted, "The run was aborted."};
    return {};
  }

 private:
  enum class MaskKind : uint8_t { kNone, kKeys, kLengths, kPairs };

  void run_head(const RunContext& context, size_t pair, size_t first, size_t last) const {
    thread_local std::vector<float> memory;
    const size_t key_floats = PackedBF32::packed_floats(size_, keys_);
    const size_t value_floats = PackedBF32::packed_floats(keys_, value_size_);
    const size_t needed = key_floats + value_floats + kBlockRows * keys_ + keys_;
    if (memory.size() < needed) memory.resize(needed);
    float* keys = memory.data();
    float* values = keys + key_floats;
    float* scores = values + value_floats;
    float* mask = scores + kBlockRows * keys_;

    const size_t b = pair / heads_;
    const size_t h = pair % heads_;
    PackedBF32::pack_into(k_.row(context, b * keys_) + h * size_, size_, keys_, k_.stride,
                          /*transposed=*/true, keys);
    PackedBF32::pack_into(v_.row(context, b * keys_) + h * value_size_, keys_, value_size_,
                          v_.stride, /*transposed=*/false, values);
    write_mask(context, b, 0, mask);

    GemmF32Call call;
    call.kernels = &kernels_;
    call.epilogue.lo = -std::numeric_limits<float>::infinity();
    call.epilogue.hi = std::numeric_limits<float>::infinity();
    call.threads = 1;
    call.cancel = context.cancel;
    for (size_t row = first; row < last && !is_aborted(context.cancel); row += kBlockRows) {
      call.m = std::min(kBlockRows, last - row);
      call.n = keys_;
      call.segment = size_;
      call.a = q_.row(context, b * length_ + row) + h * size_;
      call.lda = q_.stride;
      call.b = keys;
      call.c = scores;
      call.ldc = keys_;
      if (!run_gemm_f32(call).ok()) return;
      for (size_t i = 0; i < call.m; ++i) {
        if (mask_kind_ == MaskKind::kPairs) write_mask(context, b, row + i, mask);
        normalize(context, b, h, row + i, mask, scores + i * keys_);
      }
      call.n = value_size_;
      call.segment = keys_;
      call.a = scores;
      call.lda = keys_;
      call.b = values;
      call.c = context.data<float>(y_) + ((b * length_ + row) * heads_ + h) * value_size_;
      call.ldc = heads_ * value_size_;
      if (!run_gemm_f32(call).ok()) return;
    }
  }

  /// What is added to the scores of query `row` of batch item b; but for kPairs, of every query.
  void write_mask(const RunContext& context, size_t b, size_t row, float* mask) const {
    std::fill_n(mask, keys_, 0.0f);
    if (mask_kind_ == MaskKind::kKeys || mask_kind_ == MaskKind::kPairs) {
      const size_t at = mask_kind_ == MaskKind::kPairs ? b * length_ + row : b;
      const int32_t* kept = context.data<const int32_t>(mask_) + at * keys_;
      for (size_t t = 0; t < keys_; ++t) mask[t] = kept[t] > 0 ? 0.0f : mask_value_;
    } else if (mask_kind_ == MaskKind::kLengths) {
      const int32_t length = context.data<const int32_t>(mask_)[b];
      const size_t kept = length < 0 ? 0 : std::min<size_t>(static_cast<size_t>(length), keys_);
      std::fill(mask + kept, mask + keys_, mask_value_);
    }
  }

  /// Scores of query `row` to probabilities. With `causal`, the last query sees all keys.
  void normalize(const RunContext& context, size_t b, size_t h, size_t row, const float* mask,
                 float* scores) const {
    for (size_t t = 0; t < keys_; ++t) scores[t] = scores[t] * scale_ + mask[t];
    if (has_bias_) {
      const float* bias = context.data<const float>(bias_) + b * bias_batch_stride_ +
                          h * bias_head_stride_ + row * keys_;
      for (size_t t = 0; t < keys_; ++t) scores[t] += bias[t];
    }
    if (causal_) {
      const size_t seen = row + 1 + keys_ >= length_ ? row + 1 + keys_ - length_ : 0;
      if (seen < keys_) {
        // Unseen keys get probability 0 whatever their scores are.
        kernels_.softmax(std::max<size_t>(seen, 1), scores, scores);
        std::fill(scores + std::max<size_t>(seen, 1), scores + keys_, 0.0f);
        return;
      }
    }
    kernels_.softmax(keys_, scores, scores);
  }

  const VectorKernels& kernels_;
  size_t batch_ = 0;
  size_t heads_ = 1;
  size_t length_ = 0;
  size_t keys_ = 0;
  size_t size_ = 0;
  size_t value_size_ = 0;
  Operand q_;
  Operand k_;
  Operand v_;
  BufferId y_ = 0;
  BufferId mask_ = 0;
  BufferId bias_ = 0;
  size_t bias_batch_stride_ = 0;
  size_t bias_head_stride_ = 0;
  MaskKind mask_kind_ = MaskKind::kNone;
  bool has_bias_ = false;
  bool causal_ = false;
  float scale_ = 1;
  float mask_value_ = 0;
};

}  // namespace

std::unique_ptr<Step> make_attention(StepReader& reader) {
  return std::make_unique<Attention>(reader);
}

}  // namespace q8

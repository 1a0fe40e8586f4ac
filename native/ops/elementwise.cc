// SPDX-License-Identifier: MIT
/// Unary and binary float32 operators and chains of them, binary operators on 8-bit codes, and the
/// choice between two tensors.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

#include "ops/broadcast.h"
#include "ops/code_binary.h"
#include "ops/code_params.h"
#include "ops/finish.h"
#include "ops/steps.h"

namespace q8 {
namespace {

template <typename Kind>
struct Name {
  const char* name;
  Kind kind;
};

constexpr Name<UnaryKind> kUnaryNames[] = {
    {"abs", UnaryKind::kAbs},
    {"neg", UnaryKind::kNeg},
    {"relu", UnaryKind::kRelu},
    {"leaky_relu", UnaryKind::kLeakyRelu},
    {"clip", UnaryKind::kClip},
    {"sigmoid", UnaryKind::kSigmoid},
    {"hard_sigmoid", UnaryKind::kHardSigmoid},
    {"hard_swish", UnaryKind::kHardSwish},
    {"tanh", UnaryKind::kTanh},
    {"exp", UnaryKind::kExp},
    {"log", UnaryKind::kLog},
    {"sqrt", UnaryKind::kSqrt},
    {"reciprocal", UnaryKind::kReciprocal},
    {"erf", UnaryKind::kErf},
    {"gelu", UnaryKind::kGelu},
    {"gelu_tanh", UnaryKind::kGeluTanh},
    {"elu", UnaryKind::kElu},
    {"softplus", UnaryKind::kSoftplus},
    {"floor", UnaryKind::kFloor},
    {"ceil", UnaryKind::kCeil},
    {"round", UnaryKind::kRound},
    {"silu", UnaryKind::kSilu},
};

/// The first four also exist on codes.
constexpr Name<BinaryKind> kBinaryNames[] = {
    {"add", BinaryKind::kAdd}, {"sub", BinaryKind::kSub},     {"mul", BinaryKind::kMul},
    {"div", BinaryKind::kDiv}, {"min", BinaryKind::kMin},     {"max", BinaryKind::kMax},
    {"pow", BinaryKind::kPow}, {"prelu", BinaryKind::kPrelu},
};
constexpr size_t kCodeBinaryKinds = 4;

template <typename Kind>
bool find_kind(const std::string& name, const Name<Kind>* names, size_t count, Kind* kind) {
  for (size_t i = 0; i < count; ++i) {
    if (name != names[i].name) continue;
    *kind = names[i].kind;
    return true;
  }
  return false;
}

template <typename Kind>
Kind read_kind(StepReader& reader, const Name<Kind>* names, size_t count) {
  const std::string name = reader.string("kind");
  Kind kind = names[0].kind;
  if (!find_kind(name, names, count, &kind))
    reader.fail("a known kind (not \"" + name + "\")", "kind");
  return kind;
}

class Unary final : public Step {
 public:
  explicit Unary(StepReader& reader) : kernels_(*reader.table().vector) {
    kind_ = read_kind(reader, kUnaryNames, std::size(kUnaryNames));
    x_ = reader.input("x", kFloat, 0);
    elements_ = reader.ok() ? reader.info(x_).elements : 0;
    y_ = reader.output("y", kFloat, elements_);
    alpha_ = reader.bound("alpha");
    beta_ = reader.bound("beta");
  }

  Status run(const RunContext& context) const override {
    const float* x = context.data<const float>(x_);
    float* y = context.data<float>(y_);
    for_parts(context, elements_, 8, [&](size_t first, size_t count) {
      kernels_.unary(kind_, count, x + first, alpha_, beta_, y + first);
    });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  UnaryKind kind_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t elements_ = 0;
  float alpha_ = 0;
  float beta_ = 0;
};

class Binary final : public Step {
 public:
  explicit Binary(StepReader& reader)
      : kernels_(*reader.table().vector),
        kind_(read_kind(reader, kBinaryNames, std::size(kBinaryNames))),
        broadcast_(reader, {{{"a", "aStrides", kFloat, &a_}, {"b", "bStrides", kFloat, &b_}}},
                   kFloat, &y_) {}

  Status run(const RunContext& context) const override {
    const float* a = context.data<const float>(a_);
    const float* b = context.data<const float>(b_);
    float* y = context.data<float>(y_);
    broadcast_.for_rows(context, 12, [&](const auto& offsets, size_t y_offset, size_t count) {
      kernels_.binary(kind_, count, a + offsets[0], broadcast_.step(0), b + offsets[1],
                      broadcast_.step(1), y + y_offset);
    });
    return {};
  }

 private:
  const VectorKernels& kernels_;
  BinaryKind kind_;
  BufferId a_ = 0;
  BufferId b_ = 0;
  BufferId y_ = 0;
  Broadcast<2> broadcast_;
};

/// Operators on blocks that stay in the first-level cache from the first to the last.
class Chain final : public Step {
 public:
  explicit Chain(StepReader& reader) : kernels_(*reader.table().vector) {
    columns_ = reader.size("columns", 1);
    x_ = reader.input("x", kFloat, 0);
    elements_ = reader.ok() ? reader.info(x_).elements : 0;
    y_ = reader.output("y", kFloat, elements_);
    if (elements_ % columns_ != 0) reader.fail("a divisor of the elements of x", "columns");
    reader.for_objects("parts", [&](StepReader& part) { parts_.push_back(read_part(part)); });
    if (parts_.empty()) reader.fail("at least one operator", "parts");
  }

  Status run(const RunContext& context) const override {
    const size_t bytes = sizeof(float) * (2 + parts_.size());
    const size_t rows = elements_ / columns_;
    if (rows == 1) {
      for_parts(context, columns_, bytes,
                [&](size_t first, size_t count) { run_row(context, 0, first, count); });
    } else {
      for_parts(context, rows, columns_ * bytes, [&](size_t first, size_t count) {
        for (size_t row = first; row < first + count; ++row) run_row(context, row, 0, columns_);
      });
    }
    return {};
  }

 private:
  static constexpr size_t kBlock = 1024;

  struct Part {
    bool is_unary = false;
    UnaryKind unary = UnaryKind::kAbs;
    float alpha = 0;
    float beta = 0;
    BinaryKind binary = BinaryKind::kAdd;
    BufferId operand = 0;
    bool operand_first = false;
    /// Elements from one element of a row to the next, and from row to row.
    ptrdiff_t step = 0;
    size_t row_stride = 0;
  };

  Part read_part(StepReader& reader) const {
    Part part;
    if (reader.is_null("operand")) {
      part.is_unary = true;
      part.unary = read_kind(reader, kUnaryNames, std::size(kUnaryNames));
      part.alpha = reader.bound("alpha");
      part.beta = reader.bound("beta");
      return part;
    }
    part.binary = read_kind(reader, kBinaryNames, std::size(kBinaryNames));
    part.operand_first = reader.boolean("operandFirst");
    const std::string form = reader.string("form");
    if (form == "dense") {
      part.row_stride = columns_;
    } else if (form != "row" && form != "scalar") {
      reader.fail("\"dense\", \"row\" or \"scalar\"", "form");
    }
    part.step = form == "scalar" ? 0 : 1;
    part.operand = reader.input("operand", kFloat,
                                form == "dense" ? elements_
                                : form == "row" ? columns_
                                                : 1);
    return part;
  }

  void run_row(const RunContext& context, size_t row, size_t column, size_t count) const {
    for (size_t end = column + count; column < end; column += kBlock)
      run_block(context, row, column, std::min(kBlock, end - column));
  }

  /// The result is stored last: y may be the memory of x or of an operand.
  void run_block(const RunContext& context, size_t row, size_t column, size_t count) const {
    float between[kBlock];
    const size_t at = row * columns_ + column;
    const float* x = context.data<const float>(x_) + at;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      float* const y = i + 1 == parts_.size() ? context.data<float>(y_) + at : between;
      if (part.is_unary) {
        kernels_.unary(part.unary, count, x, part.alpha, part.beta, y);
      } else {
        const float* operand = context.data<const float>(part.operand) + row * part.row_stride;
        if (part.step != 0) operand += column;
        if (part.operand_first) {
          kernels_.binary(part.binary, count, operand, part.step, x, 1, y);
        } else {
          kernels_.binary(part.binary, count, x, 1, operand, part.step, y);
        }
      }
      x = y;
    }
  }

  const VectorKernels& kernels_;
  BufferId x_ = 0;
  BufferId y_ = 0;
  size_t elements_ = 0;
  size_t columns_ = 1;
  std::vector<Part> parts_;
};

class QBinary final : public Step {
 public:
  explicit QBinary(StepReader& reader)
      : broadcast_(reader, {{{"a", "aStrides", kCodes, &a_}, {"b", "bStrides", kCodes, &b_}}},
                   kCodes, &y_) {
    const BinaryKind kind = read_kind(reader, kBinaryNames, kCodeBinaryKinds);
    const CodeParams a_params =
        code_params(reader.dtype(a_), reader.scale("aScale"), reader.zero_point("aZeroPoint", a_));
    const CodeParams b_params =
        code_params(reader.dtype(b_), reader.scale("bScale"), reader.zero_point("bZeroPoint", b_));
    const QuantizeParams y_params = quantize_params(reader.dtype(y_), reader.scale("yScale"),
                                                    reader.zero_point("yZeroPoint", y_));
    if (!reader.ok()) return;
    operator_ = CodeBinary(*reader.table().vector, kind, a_params, b_params, y_params,
                           reader.info(y_).elements);
    if (broadcast_.columns() == 0 || broadcast_.columns() > kLongestRepeated) return;
    if (broadcast_.repeats(0)) repeated_ = 0;
    if (broadcast_.repeats(1)) repeated_ = 1;
  }

  Status run(const RunContext& context) const override {
    const uint8_t* a = context.data<const uint8_t>(a_);
    const uint8_t* b = context.data<const uint8_t>(b_);
    uint8_t* y = context.data<uint8_t>(y_);
    if (repeated_ != kNone) return run_repeated(context, a, b, y);
    broadcast_.for_rows(context, kBytesPerCode,
                        [&](const auto& offsets, size_t y_offset, size_t count) {
                          operator_.run(count, a + offsets[0], broadcast_.step(0), b + offsets[1],
                                        broadcast_.step(1), y + y_offset);
                        });
    return {};
  }

 private:
  /// The arithmetic takes about as long as so many bytes of traffic.
  static constexpr size_t kBytesPerCode = 8;
  /// Rows that are worth a call of their own.
  static constexpr size_t kLongestRepeated = 1024;
  /// Codes of a call for several rows: many against writing them out, few against the cache.
  static constexpr size_t kRepeatedBytes = 4096;
  static constexpr size_t kNone = SIZE_MAX;

  /// Gates of the channels of an image: written out for some pixels, they make long rows of short
  /// ones.
  Status run_repeated(const RunContext& context, const uint8_t* a, const uint8_t* b,
                      uint8_t* y) const {
    const size_t columns = broadcast_.columns();
    broadcast_.for_row_groups(context, kBytesPerCode, kRepeatedBytes / columns,
                              [&](const auto& offsets, size_t y_offset, size_t rows) {
                                const uint8_t* x[] = {a + offsets[0], b + offsets[1]};
                                const size_t count = rows * columns;
                                uint8_t copies[kRepeatedBytes];
                                std::memcpy(copies, x[repeated_], columns);
                                for (size_t done = columns; done < count; done *= 2)
                                  std::memcpy(copies + done, copies, std::min(done, count - done));
                                x[repeated_] = copies;
                                operator_.run(count, x[0], 1, x[1], 1, y + y_offset);
                              });
    return {};
  }

  CodeBinary operator_;
  BufferId a_ = 0;
  BufferId b_ = 0;
  BufferId y_ = 0;
  Broadcast<2> broadcast_;
  /// The operand that all pixels share, if short.
  size_t repeated_ = kNone;
};

/// y[i] = flags[i * flag_step] ? a[i * a_step] : b[i * b_step].
template <typename T>
void choose(size_t count, const uint8_t* flags, ptrdiff_t flag_step, const T* a, ptrdiff_t a_step,
            const T* b, ptrdiff_t b_step, T* y) {
  const ptrdiff_t n = static_cast<ptrdiff_t>(count);
  if (flag_step == 1 && a_step == 0 && b_step == 1) {
    const T value = *a;
    for (ptrdiff_t i = 0; i < n; ++i) y[i] = flags[i] != 0 ? value : b[i];
  } else if (flag_step == 1 && a_step == 1 && b_step == 0) {
    const T value = *b;
    for (ptrdiff_t i = 0; i < n; ++i) y[i] = flags[i] != 0 ? a[i] : value;
  } else if (flag_step == 1 && a_step == 1 && b_step == 1) {
    for (ptrdiff_t i = 0; i < n; ++i) y[i] = flags[i] != 0 ? a[i] : b[i];
  } else {
    for (ptrdiff_t i = 0; i < n; ++i) {
      y[i] = flags[i * flag_step] != 0 ? a[i * a_step] : b[i * b_step];
    }
  }
}

class Where final : public Step {
 public:
  explicit Where(StepReader& reader)
      : broadcast_(reader,
                   {{{"condition", "conditionStrides", {DType::kBool}, &condition_},
                     {"a", "aStrides", kAnyDType, &a_},
                     {"b", "bStrides", kAnyDType, &b_}}},
                   kAnyDType, &y_) {
    if (!reader.ok()) return;
    if (reader.dtype(a_) != reader.dtype(y_)) reader.fail("the dtype of y", "a");
    if (reader.dtype(b_) != reader.dtype(y_)) reader.fail("the dtype of y", "b");
    bytes_ = dtype_bytes(reader.dtype(y_));
  }

  Status run(const RunContext& context) const override {
    switch (bytes_) {
      case 1:
        run_as<uint8_t>(context);
        break;
      case 2:
        run_as<uint16_t>(context);
        break;
      case 4:
        run_as<uint32_t>(context);
        break;
      default:
        run_as<uint64_t>(context);
    }
    return {};
  }

 private:
  template <typename T>
  void run_as(const RunContext& context) const {
    const uint8_t* flags = context.data<const uint8_t>(condition_);
    const T* a = context.data<const T>(a_);
    const T* b = context.data<const T>(b_);
    T* y = context.data<T>(y_);
    broadcast_.for_rows(
        context, 1 + 3 * sizeof(T), [&](const auto& offsets, size_t y_offset, size_t count) {
          choose(count, flags + offsets[0], broadcast_.step(0), a + offsets[1], broadcast_.step(1),
                 b + offsets[2], broadcast_.step(2), y + y_offset);
        });
  }

  BufferId condition_ = 0;
  BufferId a_ = 0;
  BufferId b_ = 0;
  BufferId y_ = 0;
  Broadcast<3> broadcast_;
  size_t bytes_ = 1;
};

}  // namespace

bool binary_kind_on_codes(const std::string& name, BinaryKind* kind) {
  return find_kind(name, kBinaryNames, kCodeBinaryKinds, kind);
}

std::unique_ptr<Step> make_unary(StepReader& reader) { return std::make_unique<Unary>(reader); }
std::unique_ptr<Step> make_binary(StepReader& reader) { return std::make_unique<Binary>(reader); }
std::unique_ptr<Step> make_qbinary(StepReader& reader) { return std::make_unique<QBinary>(reader); }
std::unique_ptr<Step> make_chain(StepReader& reader) { return std::make_unique<Chain>(reader); }
std::unique_ptr<Step> make_where(StepReader& reader) { return std::make_unique<Where>(reader); }

}  // namespace q8

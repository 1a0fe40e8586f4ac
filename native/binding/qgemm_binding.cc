// SPDX-License-Identifier: MIT
#include "binding/qgemm_binding.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "binding/args.h"
#include "binding/async.h"
#include "binding/errors.h"
#include "cpu/dispatch.h"

namespace q8 {
namespace {

constexpr napi_type_tag kPackedGemmTag = {0x5b1f0c6a7d3e4f21, 0x9c84e2d10b7f6a35};

/// Positions in the `words` argument, see QgemmWords in binding.d.ts. Numbers travel in one array
/// because every Node-API call costs as much as a small product.
enum Word : size_t {
  kM,
  kN,
  kK,
  kLda,
  kLdb,
  kTransposeB,
  kAZeroPoint,
  kThreads,
  kKind,
  kScale,
  kOutZeroPoint,
  kMin,
  kMax,
  /// Which of the optional arguments are given, see Present.
  kPresent,
  kWordCount,
};

enum Present : uint32_t { kHasScale = 1, kHasBias = 2, kHasBZeroPoint = 4, kPackedIsB = 8 };

/// One call, free of JavaScript values: pointers into pinned buffers.
struct QgemmArgs {
  size_t m = 0;
  size_t n = 0;
  size_t k = 0;
  size_t lda = 0;
  size_t ldb = 0;
  bool transpose_b = false;
  int32_t a_zero_point = 0;
  size_t threads = 0;
  OutKind kind = OutKind::kS32;
  float scale = 1;
  int32_t out_zero_point = 0;
  float lo = 0;
  float hi = 0;
  ArrayView a;
  ArrayView b;
  std::shared_ptr<const PackedB> packed;
  ArrayView out;
  ArrayView scales;
  ArrayView bias;
  ArrayView b_zero_point;
};

/// Per-column arrays of a call, kept by a thread so that small calls do not allocate.
struct Columns {
  std::vector<int32_t> bias;
  std::vector<float> scale;
  std::vector<float> float_bias;
};

std::vector<int32_t> read_codes(const ArrayView& codes) {
  std::vector<int32_t> values(codes.length);
  for (size_t i = 0; i < codes.length; ++i) {
    values[i] = codes.type == napi_int8_array ? codes.as<int8_t>()[i] : codes.data[i];
  }
  return values;
}

/// By address, because two SharedArrayBuffer objects may be the same memory.
bool overlaps(const uint8_t* x, size_t x_bytes, const uint8_t* y, size_t y_bytes) {
  return x_bytes != 0 && y_bytes != 0 && x < y + y_bytes && y < x + x_bytes;
}

/// Arguments: words, a, b, out, scale, bias, bZeroPoint. Thread: JS.
QgemmArgs read_args(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const ArrayView words = array_view(env, info[0], napi_float64_array, "words");
  if (words.length < kWordCount)
    throw_error(env, Code::kInvalidArgument, "Expected all words for qgemm().");
  const double* w = words.as<const double>();
  QgemmArgs args;
  args.m = to_size(env, w[kM], "m");
  args.n = to_size(env, w[kN], "n");
  args.k = to_size(env, w[kK], "k");
  args.lda = to_size(env, w[kLda], "lda");
  args.ldb = to_size(env, w[kLdb], "ldb");
  args.transpose_b = w[kTransposeB] != 0;
  args.threads = to_size(env, w[kThreads], "threads");
  args.scale = static_cast<float>(w[kScale]);
  const size_t kind = to_size(env, w[kKind], "kind");
  if (kind > static_cast<size_t>(OutKind::kS8))
    throw_error(env, Code::kInvalidArgument, "Expected a kind of output.");
  args.kind = static_cast<OutKind>(kind);

  args.a = codes_view(env, info[1], "a");
  const auto check_code = [env](double value, bool is_signed, const char* name) {
    if (!(value >= (is_signed ? -128 : 0) && value <= (is_signed ? 127 : 255))) {
      throw_error(env, Code::kInvalidArgument,
                  std::string("Expected a code of its type for ") + name + ".");
    }
    return static_cast<int32_t>(value);
  };
  args.a_zero_point = check_code(w[kAZeroPoint], args.a.type == napi_int8_array, "aZeroPoint");
  if (!matrix_fits(args.m, args.k, args.lda, args.a.length)) {
    throw_error(env, Code::kShapeMismatch, "Expected m x k elements for a.");
  }

  const uint32_t present = static_cast<uint32_t>(to_size(env, w[kPresent], "present"));
  if (present & kPackedIsB) {
    args.packed = packed_gemm_of(env, info[2]);
    if (args.packed->k() != args.k || args.packed->n() != args.n) {
      throw_error(env, Code::kShapeMismatch, "Expected packed weights of k x n for b.");
    }
  } else {
    args.b = codes_view(env, info[2], "b");
    const bool fits = args.transpose_b ? matrix_fits(args.n, args.k, args.ldb, args.b.length)
                                       : matrix_fits(args.k, args.n, args.ldb, args.b.length);
    if (!fits) throw_error(env, Code::kShapeMismatch, "Expected k x n elements for b.");
    if (present & kHasBZeroPoint) {
      args.b_zero_point = array_view(env, info[6], args.b.type, "bZeroPoint");
      if (args.b_zero_point.length != 1 && args.b_zero_point.length != args.n) {
        throw_error(env, Code::kShapeMismatch, "Expected 1 or n elements for bZeroPoint.");
      }
    }
  }

  const napi_typedarray_type out_types[] = {napi_int32_array, napi_float32_array, napi_uint8_array,
                                            napi_int8_array};
  args.out = array_view(env, info[3], out_types[kind], "out");
  if (!matrix_fits(args.m, args.n, args.n, args.out.length)) {
    throw_error(env, Code::kShapeMismatch, "Expected m x n elements for out.");
  }
  const size_t out_bytes = args.out.length * (args.out.is_codes() ? 1 : sizeof(int32_t));
  if (overlaps(args.out.data, out_bytes, args.a.data, args.a.length) ||
      overlaps(args.out.data, out_bytes, args.b.data, args.b.length)) {
    throw_error(env, Code::kInvalidArgument,
                "Expected memory apart from a and b for out but received an overlap.");
  }
  const bool is_code_output = args.kind == OutKind::kU8 || args.kind == OutKind::kS8;
  if (is_code_output) {
    const bool is_signed = args.kind == OutKind::kS8;
    args.out_zero_point = check_code(w[kOutZeroPoint], is_signed, "zeroPoint");
    args.lo = static_cast<float>(check_code(w[kMin], is_signed, "min") - args.out_zero_point);
    args.hi = static_cast<float>(check_code(w[kMax], is_signed, "max") - args.out_zero_point);
  }
  if (present & kHasScale) {
    args.scales = array_view(env, info[4], napi_float32_array, "scale");
    if (args.scales.length != args.n)
      throw_error(env, Code::kShapeMismatch, "Expected n elements for scale.");
  }
  if (present & kHasBias) {
    args.bias = array_view(
        env, info[5], args.kind == OutKind::kF32 ? napi_float32_array : napi_int32_array, "bias");
    if (args.bias.length != args.n)
      throw_error(env, Code::kShapeMismatch, "Expected n elements for bias.");
  }
  return args;
}

/// Thread: any.
Status run_qgemm(const QgemmArgs& args, const int32_t* cancel) {
  const PackedB* b = args.packed.get();
  PackedB packed;
  if (b == nullptr) {
    const std::vector<int32_t> zero_point = read_codes(args.b_zero_point);
    const Status status = PackedB::pack(
        selected_table(), args.b.data, args.b.type == napi_int8_array, args.k, args.n, args.ldb,
        args.transpose_b, zero_point.data(), zero_point.size(), &packed, args.threads);
    if (!status.ok()) return status;
    b = &packed;
  }

  thread_local Columns columns;
  const size_t padded_n = b->padded_n();
  if (columns.bias.size() < padded_n) columns.bias.resize(padded_n);
  const bool is_float = args.kind == OutKind::kF32;
  fold_bias(*b, args.a_zero_point, args.a.type == napi_int8_array,
            is_float ? nullptr : args.bias.as<const int32_t>(), columns.bias.data());

  GemmCall call;
  call.m = args.m;
  call.a.data = args.a.data;
  call.a.row_bytes = args.lda;
  call.a.is_signed = args.a.type == napi_int8_array;
  call.b = b;
  call.epilogue = {};
  call.epilogue.kind = args.kind;
  call.epilogue.bias = columns.bias.data();
  if (args.kind != OutKind::kS32) {
    if (columns.scale.size() < padded_n) columns.scale.resize(padded_n);
    if (args.scales.data != nullptr) {
      std::copy_n(args.scales.as<const float>(), args.n, columns.scale.data());
    } else {
      std::fill_n(columns.scale.data(), padded_n, args.scale);
    }
    call.epilogue.scale = columns.scale.data();
  }
  if (is_float && args.bias.data != nullptr) {
    if (columns.float_bias.size() < padded_n) columns.float_bias.resize(padded_n);
    std::copy_n(args.bias.as<const float>(), args.n, columns.float_bias.data());
    call.epilogue.float_bias = columns.float_bias.data();
  }
  call.epilogue.lo = args.lo;
  call.epilogue.hi = args.hi;
  call.epilogue.zero_point = args.out_zero_point;
  call.c = args.out.data;
  call.ldc = args.n;
  call.threads = args.threads;
  call.cancel = cancel;
  return run_gemm(call);
}

/// qgemm(words, a, b, out, scale, bias, bZeroPoint). Thread: JS.
void qgemm(const Napi::CallbackInfo& info) {
  check(info.Env(), run_qgemm(read_args(info), nullptr));
}

/// qgemmAsync(words, a, b, out, scale, bias, bZeroPoint, cancel). Thread: JS.
Napi::Value qgemm_async(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  QgemmArgs args = read_args(info);
  int32_t* cancel = nullptr;
  if (!is_absent(info[7])) {
    const ArrayView flag = array_view(env, info[7], napi_int32_array, "cancel");
    if (flag.length == 0)
      throw_error(env, Code::kInvalidArgument, "Expected one element for cancel.");
    cancel = flag.as<int32_t>();
  }
  std::vector<napi_value> pins;
  for (size_t i = 1; i < info.Length(); ++i) pins.push_back(info[i]);
  return run_async(env, pins, cancel,
                   [args = std::move(args)](const int32_t* flag) { return run_qgemm(args, flag); });
}

/// packGemm(b, k, n, ldb, transposeB, zeroPoint, isa). Thread: JS.
Napi::Value pack_gemm(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const ArrayView b = codes_view(env, info[0], "b");
  const size_t k = to_size(env, info[1], "k");
  const size_t n = to_size(env, info[2], "n");
  const size_t ldb = to_size(env, info[3], "ldb");
  const bool transpose_b = info[4].ToBoolean();
  const bool fits =
      transpose_b ? matrix_fits(n, k, ldb, b.length) : matrix_fits(k, n, ldb, b.length);
  if (!fits) throw_error(env, Code::kShapeMismatch, "Expected k x n elements for b.");
  std::vector<int32_t> zero_point;
  if (!is_absent(info[5])) {
    const ArrayView codes = array_view(env, info[5], b.type, "zeroPoint");
    if (codes.length != 1 && codes.length != n) {
      throw_error(env, Code::kShapeMismatch, "Expected 1 or n elements for zeroPoint.");
    }
    zero_point = read_codes(codes);
  }
  const KernelTable* table = &selected_table();
  if (info[6].IsString()) {
    const std::string isa = info[6].As<Napi::String>();
    table = find_supported_table(isa);
    if (table == nullptr)
      throw_error(env, Code::kUnsupportedCpu, "\"" + isa + "\" cannot run here.");
  }
  auto packed = std::make_shared<PackedB>();
  check(env, PackedB::pack(*table, b.data, b.type == napi_int8_array, k, n, ldb, transpose_b,
                           zero_point.data(), zero_point.size(), packed.get(), /*threads=*/0));
  const size_t bytes = packed->bytes();
  Napi::Object handle = make_handle<PackedB>(env, std::move(packed), kPackedGemmTag, bytes);
  handle.Set("k", Napi::Number::New(env, static_cast<double>(k)));
  handle.Set("n", Napi::Number::New(env, static_cast<double>(n)));
  return handle;
}

}  // namespace

std::shared_ptr<const PackedB> packed_gemm_of(Napi::Env env, napi_value object) {
  return handle_value<PackedB>(env, object, kPackedGemmTag, "weights");
}

void InitQgemm(Napi::Env env, Napi::Object exports) {
  exports.Set("packGemm", Napi::Function::New(env, pack_gemm, "packGemm"));
  exports.Set("qgemm", Napi::Function::New(env, qgemm, "qgemm"));
  exports.Set("qgemmAsync", Napi::Function::New(env, qgemm_async, "qgemmAsync"));
}

}  // namespace q8

// SPDX-License-Identifier: MIT
#include "binding/qgemm_binding.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "binding/args.h"
#include "binding/async.h"
#include "binding/errors.h"
#include "core/abort_flag.h"
#include "core/thread_pool.h"
#include "cpu/dispatch.h"
#include "gemm/dynamic_quantize.h"

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
  kBatch,
  kStrideA,
  kStrideB,
  kStrideC,
  /// See Dynamic.
  kDynamic,
  kWordCount,
};

enum Present : uint32_t { kHasScale = 1, kHasBias = 2, kHasBZeroPoint = 4, kPackedIsB = 8 };

/// Quantization of a float A: none, one range for all of it, a range for each row.
enum class Dynamic : uint8_t { kNone, kTensor, kRow };

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
  size_t batch = 1;
  size_t stride_a = 0;
  size_t stride_b = 0;
  size_t stride_c = 0;
  Dynamic dynamic = Dynamic::kNone;
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

  /// For run_async: with some for each element that is read or written, which few rows are bound
  /// by.
  double macs() const {
    constexpr double kMacsPerElement = 8;
    const double dm = static_cast<double>(m);
    const double dn = static_cast<double>(n);
    const double dk = static_cast<double>(k);
    const double elements = dm * dk + dk * dn + dm * dn;
    return static_cast<double>(batch) * (dm * dn * dk + kMacsPerElement * elements) + 1;
  }
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

/// Whether `length` elements hold `batch` matrices that start `stride` elements apart.
bool batch_fits(size_t batch, size_t stride, size_t rows, size_t columns, size_t ld,
                size_t length) {
  if (batch == 0 || rows == 0 || columns == 0) return true;
  if (!matrix_fits(rows, columns, ld, length)) return false;
  return batch == 1 || stride <= (length - ((rows - 1) * ld + columns)) / (batch - 1);
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

  args.batch = to_size(env, w[kBatch], "batch");
  args.stride_a = to_size(env, w[kStrideA], "strideA");
  args.stride_b = to_size(env, w[kStrideB], "strideB");
  args.stride_c = to_size(env, w[kStrideC], "strideC");
  const size_t dynamic = to_size(env, w[kDynamic], "dynamicQuantize");
  if (dynamic > static_cast<size_t>(Dynamic::kRow)) {
    throw_error(env, Code::kInvalidArgument, "Expected a mode for dynamicQuantize.");
  }
  args.dynamic = static_cast<Dynamic>(dynamic);
  if (args.dynamic != Dynamic::kNone && args.kind != OutKind::kF32) {
    throw_error(env, Code::kInvalidArgument, "Expected float32 output for dynamicQuantize.");
  }

  args.a = args.dynamic == Dynamic::kNone ? codes_view(env, info[1], "a")
                                          : array_view(env, info[1], napi_float32_array, "a");
  const auto check_code = [env](double value, bool is_signed, const char* name) {
    if (!(value >= (is_signed ? -128 : 0) && value <= (is_signed ? 127 : 255))) {
      throw_error(env, Code::kInvalidArgument,
                  std::string("Expected a code of its type for ") + name + ".");
    }
    return static_cast<int32_t>(value);
  };
  args.a_zero_point = check_code(w[kAZeroPoint], args.a.type == napi_int8_array, "aZeroPoint");
  if (!batch_fits(args.batch, args.stride_a, args.m, args.k, args.lda, args.a.length)) {
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
    const size_t rows = args.transpose_b ? args.n : args.k;
    const size_t columns = args.transpose_b ? args.k : args.n;
    const bool fits = batch_fits(args.batch, args.stride_b, rows, columns, args.ldb, args.b.length);
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
  const bool is_shared_output = args.batch > 1 && args.n != 0 && args.stride_c / args.n < args.m;
  if (is_shared_output ||
      !batch_fits(args.batch, args.stride_c, args.m, args.n, args.n, args.out.length)) {
    throw_error(env, Code::kShapeMismatch, "Expected m x n elements for out.");
  }
  const size_t out_bytes = args.out.length * (args.out.is_codes() ? 1 : sizeof(int32_t));
  const size_t a_bytes = args.a.length * (args.a.is_codes() ? 1 : sizeof(float));
  if (overlaps(args.out.data, out_bytes, args.a.data, a_bytes) ||
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

/// Below this many multiply-adds a batch is not spread over threads.
constexpr size_t kMinMacsPerThread = 1 << 20;
/// Rows that a thread quantizes or dequantizes at a time.
constexpr size_t kRowsPerPart = 16;

/// Calls body(row) for every row.
template <typename Body>
void for_rows(size_t rows, size_t columns, size_t threads, const Body& body) {
  const size_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
  const auto run_part = [&](size_t part) {
    const size_t end = std::min(rows, (part + 1) * kRowsPerPart);
    for (size_t row = part * kRowsPerPart; row < end; ++row) body(row);
  };
  if (threads == 1 || rows < kMinMacsPerThread / 8 / std::max<size_t>(columns, 1)) {
    for (size_t part = 0; part < parts; ++part) run_part(part);
  } else {
    ThreadPool::instance().parallel_for(parts, threads, run_part);
  }
}

/// Parameters of the rows of a, each of its own range.
std::vector<QuantizeParams> row_params(const QgemmArgs& args, const VectorKernels& kernels,
                                       const float* a, size_t threads) {
  std::vector<QuantizeParams> params(args.m);
  for_rows(args.m, args.k, threads, [&](size_t row) {
    FloatRange range;
    range.include(kernels, a + row * args.lda, args.k);
    params[row] = dynamic_params(range);
  });
  return params;
}

/// Product `index` of the batch. tensor_params: of Dynamic::kTensor. Thread: any.
Status run_product(const QgemmArgs& args, const PackedB* shared_b, const KernelTable& table,
                   const QuantizeParams& tensor_params, size_t index, size_t threads,
                   const int32_t* cancel) {
  const PackedB* b = shared_b;
  PackedB packed;
  if (b == nullptr) {
    const std::vector<int32_t> zero_point = read_codes(args.b_zero_point);
    const Status status = PackedB::pack(
        table, args.b.data + index * args.stride_b, args.b.type == napi_int8_array, args.k, args.n,
        args.ldb, args.transpose_b, zero_point.data(), zero_point.size(), &packed, threads);
    if (!status.ok()) return status;
    b = &packed;
  }

  GemmCall call;
  call.m = args.m;
  call.a.data = args.a.data + index * args.stride_a;
  call.a.row_bytes = args.lda;
  call.a.is_signed = args.a.type == napi_int8_array;
  std::vector<QuantizeParams> by_row_params;
  int32_t a_zero_point = args.a_zero_point;
  float a_scale = 1;
  const bool by_row = args.dynamic == Dynamic::kRow;
  if (args.dynamic != Dynamic::kNone) {
    const float* a = args.a.as<const float>() + index * args.stride_a;
    if (by_row) by_row_params = row_params(args, *table.vector, a, threads);
    call.a.floats = a;
    call.a.row_bytes = args.lda * sizeof(float);
    call.a.params = by_row ? by_row_params.data() : &tensor_params;
    call.a.params_step = by_row ? 1 : 0;
    // Rows with zero points of their own get them afterwards.
    a_zero_point = by_row ? 0 : tensor_params.zero_point;
    if (!by_row) a_scale = tensor_params.scale;
  }

  thread_local Columns columns;
  const size_t padded_n = b->padded_n();
  if (columns.bias.size() < padded_n) columns.bias.resize(padded_n);
  const bool is_float = args.kind == OutKind::kF32;
  fold_bias(*b, a_zero_point, call.a.is_signed, is_float ? nullptr : args.bias.as<const int32_t>(),
            columns.bias.data());
  call.b = b;
  call.epilogue = {};
  call.epilogue.kind = by_row ? OutKind::kS32 : args.kind;
  call.epilogue.bias = columns.bias.data();
  if (args.kind != OutKind::kS32) {
    if (columns.scale.size() < padded_n) columns.scale.resize(padded_n);
    if (args.scales.data != nullptr) {
      std::copy_n(args.scales.as<const float>(), args.n, columns.scale.data());
    } else {
      std::fill_n(columns.scale.data(), padded_n, args.scale);
    }
    if (args.dynamic == Dynamic::kTensor) {
      for (size_t n = 0; n < args.n; ++n) columns.scale[n] = a_scale * columns.scale[n];
    }
    call.epilogue.scale = columns.scale.data();
    call.epilogue.scales_below_one = are_below_one(columns.scale.data(), args.n);
  }
  if (is_float && args.bias.data != nullptr) {
    if (columns.float_bias.size() < padded_n) columns.float_bias.resize(padded_n);
    std::copy_n(args.bias.as<const float>(), args.n, columns.float_bias.data());
    call.epilogue.float_bias = columns.float_bias.data();
  }
  call.epilogue.lo = args.lo;
  call.epilogue.hi = args.hi;
  call.epilogue.zero_point = args.out_zero_point;
  const size_t element = args.out.is_codes() ? 1 : sizeof(int32_t);
  uint8_t* const c = args.out.data + index * args.stride_c * element;
  call.c = c;
  call.ldc = args.n;
  call.threads = threads;
  call.cancel = cancel;
  const Status status = run_gemm(call);
  if (!status.ok() || !by_row) return status;

  // Sums of b - zero point, which the zero points of the rows multiply.
  std::vector<int32_t> b_sum(b->column_sum(), b->column_sum() + args.n);
  if (b->zero_point() != nullptr) {
    for (size_t n = 0; n < args.n; ++n) {
      b_sum[n] = static_cast<int32_t>(static_cast<uint32_t>(b_sum[n]) -
                                      static_cast<uint32_t>(args.k) *
                                          static_cast<uint32_t>(b->zero_point()[n]));
    }
  }
  const float* const b_scale = columns.scale.data();
  for_rows(args.m, args.n, threads, [&](size_t row) {
    const QuantizeParams& params = by_row_params[row];
    dequantize_row(args.n, params.scale, params.zero_point, b_sum.data(), b_scale,
                   call.epilogue.float_bias, c + row * args.n * sizeof(float));
  });
  return {};
}

/// Thread: any.
Status run_qgemm(const QgemmArgs& args, const int32_t* cancel) {
  if (args.batch == 0 || args.m == 0 || args.n == 0) return {};
  const PackedB* b = args.packed.get();
  const KernelTable& table = b != nullptr ? b->table() : selected_table();
  PackedB packed;
  if (b == nullptr && (args.batch == 1 || args.stride_b == 0)) {
    const std::vector<int32_t> zero_point = read_codes(args.b_zero_point);
    const Status status = PackedB::pack(table, args.b.data, args.b.type == napi_int8_array, args.k,
                                        args.n, args.ldb, args.transpose_b, zero_point.data(),
                                        zero_point.size(), &packed, args.threads);
    if (!status.ok()) return status;
    b = &packed;
  }
  QuantizeParams tensor_params = {};
  if (args.dynamic == Dynamic::kTensor) {
    FloatRange range;
    for (size_t index = 0; index < args.batch; ++index) {
      const float* a = args.a.as<const float>() + index * args.stride_a;
      for (size_t row = 0; row < args.m; ++row) {
        range.include(*table.vector, a + row * args.lda, args.k);
      }
    }
    tensor_params = dynamic_params(range);
  }
  if (args.batch == 1) return run_product(args, b, table, tensor_params, 0, args.threads, cancel);

  // Many products take one thread each, few of them all threads together.
  const size_t limit = args.threads == 0 ? ThreadPool::instance().size() : args.threads;
  const double macs = static_cast<double>(args.batch) * static_cast<double>(args.m) *
                      static_cast<double>(args.n) * static_cast<double>(args.k);
  if (args.batch < limit || macs < 2.0 * kMinMacsPerThread) {
    for (size_t index = 0; index < args.batch; ++index) {
      const Status status = run_product(args, b, table, tensor_params, index, args.threads, cancel);
      if (!status.ok()) return status;
    }
    return {};
  }
  std::mutex mutex;
  Status failure;
  ThreadPool::instance().parallel_for(args.batch, limit, [&](size_t index) {
    if (is_aborted(cancel)) return;
    const Status status = run_product(args, b, table, tensor_params, index, /*threads=*/1, cancel);
    if (status.ok()) return;
    const std::lock_guard<std::mutex> lock(mutex);
    failure = status;
  });
  if (is_aborted(cancel)) return {Code::kAborted, "The call was aborted."};
  return failure;
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
  const double macs = args.macs();
  return run_async(env, pins, cancel, macs,
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
  return packed_gemm_handle(env, std::move(packed));
}

}  // namespace

Napi::Object packed_gemm_handle(Napi::Env env, std::shared_ptr<const PackedB> packed) {
  const size_t bytes = packed->bytes();
  const double k = static_cast<double>(packed->k());
  const double n = static_cast<double>(packed->n());
  Napi::Object handle = make_handle<PackedB>(env, std::move(packed), kPackedGemmTag, bytes);
  handle.Set("k", Napi::Number::New(env, k));
  handle.Set("n", Napi::Number::New(env, n));
  return handle;
}

std::shared_ptr<const PackedB> packed_gemm_of(Napi::Env env, napi_value object) {
  return handle_value<PackedB>(env, object, kPackedGemmTag, "weights");
}

void InitQgemm(Napi::Env env, Napi::Object exports) {
  exports.Set("packGemm", Napi::Function::New(env, pack_gemm, "packGemm"));
  exports.Set("qgemm", Napi::Function::New(env, qgemm, "qgemm"));
  exports.Set("qgemmAsync", Napi::Function::New(env, qgemm_async, "qgemmAsync"));
}

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Programs and packed weights for JavaScript: descriptions are read property by property and
/// copied, run-time arrays are checked against the buffers they stand for.
#include "binding/program_binding.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/args.h"
#include "binding/async.h"
#include "binding/errors.h"
#include "binding/qgemm_binding.h"
#include "conv/packed_conv.h"
#include "cpu/dispatch.h"
#include "ops/float_gemm.h"
#include "program/program.h"
#include "program/step_reader.h"
#include "program/weight_registry.h"

namespace q8 {
namespace {

constexpr napi_type_tag kPackedConvTag = {0x2f8e15d0c94b4a77, 0xb3d61a08e5f0426c};
constexpr napi_type_tag kPackedConvF32Tag = {0x70c3a9d41e6b4f58, 0x8d25f7e1a04c9b13};
constexpr napi_type_tag kPackedGemmF32Tag = {0xd41b7e920f5c4863, 0xa7093e6f2d81c5b4};
constexpr napi_type_tag kProgramTag = {0x96a2d7f13c084e5b, 0x84f1c0b96e2d7a35};

/// Largest kernel, group count and channel count that a weight may have.
constexpr size_t kMaxDimension = size_t{1} << 24;

struct ElementType {
  napi_typedarray_type type;
  DType dtype;
};

/// How each typed array is stored. Bool, float16 and bfloat16 tensors are Uint8Array and
/// Uint16Array.
constexpr ElementType kElementTypes[] = {
    {napi_float32_array, DType::kFloat32}, {napi_uint8_array, DType::kUint8},
    {napi_int8_array, DType::kInt8},       {napi_int32_array, DType::kInt32},
    {napi_bigint64_array, DType::kInt64},  {napi_float64_array, DType::kFloat64},
    {napi_uint16_array, DType::kUint16},   {napi_int16_array, DType::kInt16},
    {napi_uint32_array, DType::kUint32},   {napi_biguint64_array, DType::kUint64},
};

DType storage_dtype(DType dtype) {
  switch (dtype) {
    case DType::kBool:
      return DType::kUint8;
    case DType::kFloat16:
    case DType::kBfloat16:
      return DType::kUint16;
    default:
      return dtype;
  }
}

bool dtype_of(napi_typedarray_type type, DType* dtype) {
  for (const ElementType& element : kElementTypes) {
    if (element.type != type) continue;
    *dtype = element.dtype;
    return true;
  }
  return false;
}

bool copy_array(Napi::Env env, const Napi::Value& value, ArrayCopy* out) {
  if (!value.IsTypedArray()) return false;
  const ArrayView view = array_view(env, value, "an array");
  if (!dtype_of(view.type, &out->dtype)) return false;
  out->bytes.assign(view.data, view.data + view.length * dtype_bytes(out->dtype));
  return true;
}

/// Fields over a JavaScript object. Thread: JS.
class ObjectFields final : public Fields {
 public:
  explicit ObjectFields(Napi::Object object) : object_(object) {}

  bool is_null(const char* name) const override { return is_absent(object_.Get(name)); }

  bool number(const char* name, double* out) const override {
    const Napi::Value value = object_.Get(name);
    return napi_get_value_double(object_.Env(), value, out) == napi_ok;
  }

  bool boolean(const char* name, bool* out) const override {
    const Napi::Value value = object_.Get(name);
    return napi_get_value_bool(object_.Env(), value, out) == napi_ok;
  }

  bool string(const char* name, std::string* out) const override {
    const Napi::Value value = object_.Get(name);
    if (!value.IsString()) return false;
    *out = value.As<Napi::String>();
    return true;
  }

  bool numbers(const char* name, std::vector<double>* out) const override {
    const Napi::Value value = object_.Get(name);
    if (!value.IsArray()) return false;
    const Napi::Array array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) {
      double element;
      if (napi_get_value_double(object_.Env(), array.Get(i), &element) != napi_ok) return false;
      out->push_back(element);
    }
    return true;
  }

  bool array(const char* name, ArrayCopy* out) const override {
    return copy_array(object_.Env(), object_.Get(name), out);
  }

  bool arrays(const char* name, std::vector<ArrayCopy>* out) const override {
    const Napi::Value value = object_.Get(name);
    if (!value.IsArray()) return false;
    const Napi::Array array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) {
      const Napi::Value element = array.Get(i);
      out->emplace_back();
      if (!is_absent(element) && !copy_array(object_.Env(), element, &out->back())) return false;
    }
    return true;
  }

  bool weights(const char* name, Weights* out) const override {
    const Napi::Env env = object_.Env();
    const Napi::Value value = object_.Get(name);
    if (!value.IsObject()) return false;
    if (has_tag(value, kPackedConvTag)) {
      out->conv = handle_value<PackedConv>(env, value, kPackedConvTag, name);
    } else if (has_tag(value, kPackedConvF32Tag)) {
      out->conv_f32 = handle_value<PackedConvF32>(env, value, kPackedConvF32Tag, name);
    } else if (has_tag(value, kPackedGemmF32Tag)) {
      out->gemm_f32 = handle_value<PackedBF32>(env, value, kPackedGemmF32Tag, name);
    } else {
      out->gemm = packed_gemm_of(env, value);
    }
    return true;
  }

  std::unique_ptr<Fields> object(const char* name) const override {
    const Napi::Value value = object_.Get(name);
    if (!value.IsObject()) return nullptr;
    return std::make_unique<ObjectFields>(value.As<Napi::Object>());
  }

  bool objects(const char* name, std::vector<std::unique_ptr<Fields>>* out) const override {
    const Napi::Value value = object_.Get(name);
    if (!value.IsArray()) return false;
    const Napi::Array array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); ++i) {
      const Napi::Value element = array.Get(i);
      if (!element.IsObject()) return false;
      out->push_back(std::make_unique<ObjectFields>(element.As<Napi::Object>()));
    }
    return true;
  }

 private:
  bool has_tag(const Napi::Value& value, const napi_type_tag& tag) const {
    bool matches = false;
    return napi_check_object_type_tag(object_.Env(), value, &tag, &matches) == napi_ok && matches;
  }

  Napi::Object object_;
};

/// An ISA by name, or the selected one.
const KernelTable& table_argument(Napi::Env env, const Napi::Value& isa) {
  if (!isa.IsString()) return selected_table();
  const std::string name = isa.As<Napi::String>();
  const KernelTable* table = find_supported_table(name);
  if (table == nullptr)
    throw_error(env, Code::kUnsupportedCpu, "\"" + name + "\" cannot run here.");
  return *table;
}

/// dims [M, C/group, KH, KW] of weights that have `length` elements.
ConvDims conv_dims(Napi::Env env, const Napi::Value& dims_value, const Napi::Value& group,
                   size_t length) {
  if (!dims_value.IsArray() || dims_value.As<Napi::Array>().Length() != 4) {
    throw_error(env, Code::kInvalidArgument, "Expected four numbers for dims.");
  }
  const Napi::Array array = dims_value.As<Napi::Array>();
  size_t sizes[4];
  for (uint32_t i = 0; i < 4; ++i) {
    sizes[i] = to_size(env, array.Get(i), "dims");
    if (sizes[i] == 0 || sizes[i] > kMaxDimension) {
      throw_error(env, Code::kShapeMismatch, "Expected numbers from 1 to 2^24 for dims.");
    }
  }
  ConvDims dims;
  dims.out_channels = sizes[0];
  dims.group_channels = sizes[1];
  dims.kernel_height = sizes[2];
  dims.kernel_width = sizes[3];
  dims.group = to_size(env, group, "group");
  if (dims.group == 0 || dims.out_channels % dims.group != 0) {
    throw_error(env, Code::kShapeMismatch, "Expected a divisor of the output channels for group.");
  }
  if (checked_product({sizes[0], sizes[1], sizes[2], sizes[3]}) != length) {
    throw_error(env, Code::kShapeMismatch, "Expected as many elements as dims says for w.");
  }
  return dims;
}

/// A handle of the weights that are set, or null. Thread: JS.
Napi::Value weights_handle(Napi::Env env, Weights weights) {
  if (weights.gemm != nullptr) return packed_gemm_handle(env, std::move(weights.gemm));
  if (weights.conv != nullptr) {
    const size_t bytes = weights.conv->bytes();
    return make_handle<PackedConv>(env, std::move(weights.conv), kPackedConvTag, bytes);
  }
  if (weights.conv_f32 != nullptr) {
    const size_t bytes = weights.conv_f32->bytes();
    return make_handle<PackedConvF32>(env, std::move(weights.conv_f32), kPackedConvF32Tag, bytes);
  }
  if (weights.gemm_f32 == nullptr) return env.Null();
  const size_t bytes = weights.gemm_f32->bytes();
  const double k = static_cast<double>(weights.gemm_f32->k());
  const double n = static_cast<double>(weights.gemm_f32->n());
  Napi::Object handle =
      make_handle<PackedBF32>(env, std::move(weights.gemm_f32), kPackedGemmF32Tag, bytes);
  handle.Set("k", Napi::Number::New(env, k));
  handle.Set("n", Napi::Number::New(env, n));
  return handle;
}

/// packConv(w, dims, group, zeroPoint, isa). Thread: JS.
Napi::Value pack_conv(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const KernelTable& table = table_argument(env, info[4]);
  // Array elements are read before the views are taken: a getter may detach a buffer.
  const ConvDims dims = conv_dims(env, info[1], info[2], codes_view(env, info[0], "w").length);
  const ArrayView w = codes_view(env, info[0], "w");
  if (w.length != dims.out_channels * dims.depth())
    throw_error(env, Code::kDetachedBuffer, "w was detached.");
  std::vector<int32_t> zero_point;
  if (!is_absent(info[3])) {
    const ArrayView codes = array_view(env, info[3], w.type, "zeroPoint");
    if (codes.length != 1 && codes.length != dims.out_channels) {
      throw_error(env, Code::kShapeMismatch, "Expected 1 or M elements for zeroPoint.");
    }
    for (size_t i = 0; i < codes.length; ++i) {
      zero_point.push_back(codes.type == napi_int8_array ? codes.as<int8_t>()[i] : codes.data[i]);
    }
  }
  auto packed = std::make_shared<PackedConv>();
  check(env, PackedConv::pack(table, w.data, w.type == napi_int8_array, dims, zero_point.data(),
                              zero_point.size(), packed.get()));
  return weights_handle(env, Weights{nullptr, std::move(packed), nullptr, nullptr});
}

/// packConvF32(w, dims, group). Thread: JS.
Napi::Value pack_conv_f32(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const ConvDims dims =
      conv_dims(env, info[1], info[2], array_view(env, info[0], napi_float32_array, "w").length);
  const ArrayView w = array_view(env, info[0], napi_float32_array, "w");
  if (w.length != dims.out_channels * dims.depth())
    throw_error(env, Code::kDetachedBuffer, "w was detached.");
  auto packed = std::make_shared<PackedConvF32>();
  check(env, PackedConvF32::pack(w.as<const float>(), dims, packed.get()));
  return weights_handle(env, Weights{nullptr, nullptr, nullptr, std::move(packed)});
}

/// packGemmF32(b, k, n, transposeB). Thread: JS.
Napi::Value pack_gemm_f32(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const size_t k = to_size(env, info[1], "k");
  const size_t n = to_size(env, info[2], "n");
  const bool transposed = info[3].ToBoolean();
  const ArrayView b = array_view(env, info[0], napi_float32_array, "b");
  // No rows or no columns leave the other dimension free: it must not grow the packed panels.
  if (k > kMaxDimension || n > kMaxDimension || checked_product({k, n}) != b.length) {
    throw_error(env, Code::kShapeMismatch, "Expected k x n elements for b.");
  }
  auto packed = std::make_shared<PackedBF32>();
  check(env, PackedBF32::pack(b.as<const float>(), k, n, transposed, packed.get()));
  return weights_handle(env, Weights{nullptr, nullptr, std::move(packed), nullptr});
}

/// findWeights(name). Thread: JS.
Napi::Value find_weights(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return weights_handle(env, WeightRegistry::instance().find(info[0].ToString()));
}

/// shareWeights(name, weights). Thread: JS.
void share_weights(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object holder = Napi::Object::New(env);
  holder.Set("weights", info[1]);
  Weights weights;
  if (!ObjectFields(holder).weights("weights", &weights))
    throw_error(env, Code::kInvalidArgument, "Expected packed weights for weights.");
  WeightRegistry::instance().add(info[0].ToString(), weights);
}

/// sharedWeights(). Thread: JS.
Napi::Value shared_weights(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(WeightRegistry::instance().count()));
}

void add_buffer(Napi::Env env, Program& program, const Napi::Value& value) {
  const std::string name = "buffer " + std::to_string(program.buffers().size());
  const auto fail = [&](const char* rule) {
    throw_error(env, Code::kInvalidArgument,
                std::string("Expected ") + rule + " for " + name + ".");
  };
  if (!value.IsObject()) fail("an object");
  const ObjectFields fields(value.As<Napi::Object>());
  BufferInfo buffer;
  std::string dtype;
  std::string kind;
  double number = 0;
  if (!fields.string("dtype", &dtype) || !dtype_from_name(dtype.c_str(), &buffer.dtype))
    fail("a dtype");
  if (!fields.number("elements", &number)) fail("a number of elements");
  buffer.elements = to_size(env, number, name.c_str());
  fields.string("kind", &kind);
  ArrayCopy constant;
  if (kind == "input" || kind == "output") {
    buffer.place = kind == "input" ? Place::kInput : Place::kOutput;
    if (!fields.number("index", &number)) fail("an index");
    buffer.position = to_size(env, number, name.c_str());
  } else if (kind == "constant") {
    buffer.place = Place::kConstant;
    if (!fields.array("data", &constant) || constant.dtype != storage_dtype(buffer.dtype)) {
      fail("data in the typed array of its dtype");
    }
  } else if (kind == "arena") {
    buffer.place = Place::kArena;
    if (!fields.number("offset", &number)) fail("an offset");
    buffer.position = to_size(env, number, name.c_str());
  } else {
    fail("'input', 'output', 'constant' or 'arena' as kind");
  }
  check(env, program.add_buffer(buffer, &constant));
}

/// The memory behind each input and output buffer of a program, checked. `pins`, when not null,
/// gets the typed arrays. Thread: JS.
std::vector<uint8_t*> bind_io(Napi::Env env, const Program& program, const Napi::Value& inputs,
                              const Napi::Value& outputs, std::vector<napi_value>* pins) {
  if (!inputs.IsArray() || !outputs.IsArray()) {
    throw_error(env, Code::kInvalidArgument,
                "Expected arrays of typed arrays for inputs and outputs.");
  }
  // Elements are fetched once, and all of them before any pointer is taken: a getter may detach a
  // buffer.
  const auto fetch = [](const Napi::Array& array) {
    std::vector<napi_value> values;
    for (uint32_t i = 0; i < array.Length(); ++i) values.push_back(array.Get(i));
    return values;
  };
  const std::vector<napi_value> in = fetch(inputs.As<Napi::Array>());
  const std::vector<napi_value> out = fetch(outputs.As<Napi::Array>());
  if (pins != nullptr) {
    pins->insert(pins->end(), in.begin(), in.end());
    pins->insert(pins->end(), out.begin(), out.end());
  }
  std::vector<uint8_t*> io(program.buffers().size());
  for (size_t b = 0; b < io.size(); ++b) {
    const BufferInfo& buffer = program.buffers()[b];
    if (buffer.place != Place::kInput && buffer.place != Place::kOutput) continue;
    const std::vector<napi_value>& values = buffer.place == Place::kInput ? in : out;
    const std::string name =
        (buffer.place == Place::kInput ? "input " : "output ") + std::to_string(buffer.position);
    if (buffer.position >= values.size()) {
      throw_error(env, Code::kInvalidArgument, "Expected a typed array for " + name + ".");
    }
    const ArrayView view = array_view(env, values[buffer.position], name.c_str());
    DType dtype;
    if (!dtype_of(view.type, &dtype) || dtype != storage_dtype(buffer.dtype)) {
      throw_error(env, Code::kUnsupportedDtype,
                  std::string("Expected a typed array of ") + dtype_name(buffer.dtype) + " for " +
                      name + ".");
    }
    if (view.length < buffer.elements) {
      const bool detached = view.length == 0;
      throw_error(env, detached ? Code::kDetachedBuffer : Code::kShapeMismatch,
                  "Expected at least " + std::to_string(buffer.elements) + " elements for " + name +
                      " but received " + std::to_string(view.length) +
                      (detached ? " (is its buffer detached?)." : "."));
    }
    io[b] = view.data;
  }
  return io;
}

std::shared_ptr<const Program> program_of(const Napi::CallbackInfo& info) {
  return handle_value<Program>(info.Env(), info.This(), kProgramTag, "program");
}

/// Program.runSync(inputs, outputs, threads). Thread: JS.
void run_sync(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<const Program> program = program_of(info);
  const size_t threads = to_size(env, info[2], "threads");
  check(env,
        program->run(bind_io(env, *program, info[0], info[1], nullptr), threads, nullptr, nullptr));
}

/// Program.run(inputs, outputs, threads, cancel). Thread: JS.
Napi::Value run(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<const Program> program = program_of(info);
  const size_t threads = to_size(env, info[2], "threads");
  std::vector<napi_value> pins = {info[3]};
  std::vector<uint8_t*> io = bind_io(env, *program, info[0], info[1], &pins);
  int32_t* cancel = nullptr;
  if (!is_absent(info[3])) {
    const ArrayView flag = array_view(env, info[3], napi_int32_array, "cancel");
    if (flag.length == 0)
      throw_error(env, Code::kInvalidArgument, "Expected one element for cancel.");
    cancel = flag.as<int32_t>();
  }
  return run_async(env, pins, cancel, kUnknownWork,
                   [program, io = std::move(io), threads](const int32_t* flag) {
                     return program->run(io, threads, flag, nullptr);
                   });
}

/// Program.profile(inputs, outputs, threads). Thread: JS.
Napi::Value profile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<const Program> program = program_of(info);
  const size_t threads = to_size(env, info[2], "threads");
  Napi::Float64Array times = Napi::Float64Array::New(env, program->step_count());
  check(env, program->run(bind_io(env, *program, info[0], info[1], nullptr), threads, nullptr,
                          times.Data()));
  return times;
}

/// Program.kernels(). Thread: JS.
Napi::Value kernels(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<const Program> program = program_of(info);
  Napi::Array names = Napi::Array::New(env, program->step_count());
  for (uint32_t i = 0; i < program->step_count(); ++i)
    names.Set(i, Napi::String::New(env, program->step(i).kernel()));
  return names;
}

/// createProgram(description, isa). Thread: JS.
Napi::Value create_program(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject())
    throw_error(env, Code::kInvalidArgument, "Expected an object for description.");
  const Napi::Object description = info[0].As<Napi::Object>();
  const Napi::Value buffers = description.Get("buffers");
  const Napi::Value steps = description.Get("steps");
  if (!buffers.IsArray() || !steps.IsArray()) {
    throw_error(env, Code::kInvalidArgument, "Expected arrays for buffers and steps.");
  }
  const size_t arena_bytes = to_size(env, description.Get("arenaBytes"), "arenaBytes");
  auto program = std::make_shared<Program>(table_argument(env, info[1]), arena_bytes);
  const Napi::Array buffer_array = buffers.As<Napi::Array>();
  for (uint32_t i = 0; i < buffer_array.Length(); ++i) {
    const Napi::HandleScope scope(env);
    add_buffer(env, *program, buffer_array.Get(i));
  }
  const Napi::Array step_array = steps.As<Napi::Array>();
  for (uint32_t i = 0; i < step_array.Length(); ++i) {
    const Napi::HandleScope scope(env);
    const Napi::Value step = step_array.Get(i);
    if (!step.IsObject()) {
      throw_error(env, Code::kInvalidArgument,
                  "Expected an object for step " + std::to_string(i) + ".");
    }
    check(env, program->add_step(ObjectFields(step.As<Napi::Object>())));
  }
  Napi::Object handle = make_handle<Program>(env, std::move(program), kProgramTag, arena_bytes);
  handle.Set("runSync", Napi::Function::New(env, run_sync, "runSync"));
  handle.Set("run", Napi::Function::New(env, run, "run"));
  handle.Set("profile", Napi::Function::New(env, profile, "profile"));
  handle.Set("kernels", Napi::Function::New(env, kernels, "kernels"));
  return handle;
}

}  // namespace

void InitProgram(Napi::Env env, Napi::Object exports) {
  exports.Set("packConv", Napi::Function::New(env, pack_conv, "packConv"));
  exports.Set("packConvF32", Napi::Function::New(env, pack_conv_f32, "packConvF32"));
  exports.Set("packGemmF32", Napi::Function::New(env, pack_gemm_f32, "packGemmF32"));
  exports.Set("findWeights", Napi::Function::New(env, find_weights, "findWeights"));
  exports.Set("shareWeights", Napi::Function::New(env, share_weights, "shareWeights"));
  exports.Set("sharedWeights", Napi::Function::New(env, shared_weights, "sharedWeights"));
  exports.Set("createProgram", Napi::Function::New(env, create_program, "createProgram"));
}

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Factories of the steps that are not convolutions, one family a file. They return null after
/// reader.fail().
#pragma once

#include <memory>

#include "program/step.h"
#include "program/step_reader.h"

namespace q8 {

// quantize.cc
std::unique_ptr<Step> make_quantize(StepReader& reader);
std::unique_ptr<Step> make_dequantize(StepReader& reader);
std::unique_ptr<Step> make_quantize_nhwc(StepReader& reader);
std::unique_ptr<Step> make_dequantize_nchw(StepReader& reader);
std::unique_ptr<Step> make_lut(StepReader& reader);
// gemm.cc
std::unique_ptr<Step> make_qgemm(StepReader& reader);
std::unique_ptr<Step> make_qmatmul(StepReader& reader);
std::unique_ptr<Step> make_gemm(StepReader& reader);
std::unique_ptr<Step> make_matmul(StepReader& reader);
// dynamic.cc
std::unique_ptr<Step> make_range(StepReader& reader);
std::unique_ptr<Step> make_quantize_dynamic(StepReader& reader);
std::unique_ptr<Step> make_range_parameter(StepReader& reader);
std::unique_ptr<Step> make_qgemm_dynamic(StepReader& reader);
// attention.cc
std::unique_ptr<Step> make_attention(StepReader& reader);
// elementwise.cc
std::unique_ptr<Step> make_unary(StepReader& reader);
std::unique_ptr<Step> make_binary(StepReader& reader);
std::unique_ptr<Step> make_qbinary(StepReader& reader);
std::unique_ptr<Step> make_chain(StepReader& reader);
std::unique_ptr<Step> make_where(StepReader& reader);
// pooling.cc
std::unique_ptr<Step> make_qglobal_average_pool(StepReader& reader);
std::unique_ptr<Step> make_qaverage_pool(StepReader& reader);
std::unique_ptr<Step> make_average_pool(StepReader& reader);
std::unique_ptr<Step> make_max_pool(StepReader& reader);
// rows.cc
std::unique_ptr<Step> make_softmax(StepReader& reader);
std::unique_ptr<Step> make_reduce(StepReader& reader);
std::unique_ptr<Step> make_layer_norm(StepReader& reader);
// copy.cc
std::unique_ptr<Step> make_strided_copy(StepReader& reader);
std::unique_ptr<Step> make_concat(StepReader& reader);
std::unique_ptr<Step> make_pad(StepReader& reader);
std::unique_ptr<Step> make_gather(StepReader& reader);
std::unique_ptr<Step> make_gather_dynamic(StepReader& reader);
// resample.cc
std::unique_ptr<Step> make_resample(StepReader& reader);

}  // namespace q8

// SPDX-License-Identifier: MIT
/// Factories of the convolution steps. They return null after reader.fail().
#pragma once

#include <memory>

#include "program/step.h"
#include "program/step_reader.h"

namespace q8 {

std::unique_ptr<Step> make_qconv(StepReader& reader);
std::unique_ptr<Step> make_qconv_dynamic(StepReader& reader);
std::unique_ptr<Step> make_conv(StepReader& reader);

}  // namespace q8

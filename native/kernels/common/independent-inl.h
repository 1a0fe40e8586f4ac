// SPDX-License-Identifier: MIT
/// Q8_INDEPENDENT, before a loop: iterations do not depend on each other, although the compiler
/// cannot see that pointers do not overlap, or are the same at the same index. Lets it vectorize.
#pragma once

#if defined(__clang__)
#define Q8_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define Q8_INDEPENDENT _Pragma("GCC ivdep")
#elif defined(_MSC_VER)
#define Q8_INDEPENDENT __pragma(loop(ivdep))
#else
#define Q8_INDEPENDENT
#endif

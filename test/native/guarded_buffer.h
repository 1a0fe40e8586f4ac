// SPDX-License-Identifier: MIT
/// Memory between two pages that nobody may touch: a read or write one byte outside ends the test.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace q8::test {

template <typename T>
class GuardedBuffer {
 public:
  enum class Touch { kEnd, kBegin };

  /// `count` elements that touch the guard page behind them, or the one before them.
  explicit GuardedBuffer(size_t count, Touch touch = Touch::kEnd) : count_(count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t inner = (count * sizeof(T) + page - 1) / page * page;
    bytes_ = inner + 2 * page;
    void* mapping = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) std::abort();
    mapping_ = static_cast<uint8_t*>(mapping);
    if (inner != 0 && mprotect(mapping_ + page, inner, PROT_READ | PROT_WRITE) != 0) std::abort();
    const size_t slack = touch == Touch::kEnd ? inner - count * sizeof(T) : 0;
    data_ = reinterpret_cast<T*>(mapping_ + page + slack);
  }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;
  ~GuardedBuffer() { munmap(mapping_, bytes_); }

  T* data() { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  size_t size() const { return count_; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }

 private:
  uint8_t* mapping_;
  size_t bytes_;
  T* data_;
  size_t count_;
};

}  // namespace q8::test

// SPDX-License-Identifier: MIT
/// Blocking and threads. The result is cut into a grid of tasks. A task takes B in chunks of column
/// tiles that stay in L2, and walks along its rows for each: a strip of A stays in L1 while the
/// tiles of the chunk pass by as one sequential stream. Where A has to be packed, it goes block by
/// block of rows, so that no more than a block is packed at a time. A tile covers full K:
/// accumulators live in registers from the first product to the finished output.
#include "gemm/gemm.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "core/abort_flag.h"
#include "core/thread_pool.h"
#include "cpu/topology.h"
#include "gemm/tile_choice.h"

namespace q8 {
namespace {

/// Packed A of one block has at least so much, and a quarter of a larger L2.
constexpr size_t kMinABlockBytes = 128 * 1024;
/// The same where a widened panel of B serves all of its strips: with the rows of C, to which every
/// panel adds a few bytes, it stays in L1 if K is short.
constexpr size_t kWideABlockBytes = 16 * 1024;
/// Strips beside which widening the panels anew for each block does not count.
constexpr size_t kMinWideBlockStrips = 16;
/// A chunk of B where A stays in L2 as well has at least so much, and an eighth of a larger L2.
/// Weights of a network come from memory in every run, and while the first strip passes over a
/// chunk, the next one is fetched; the first has to be waited for, so it is short.
constexpr size_t kMinShortChunkBytes = 128 * 1024;
constexpr size_t kShortABytes = 512 * 1024;
/// Else a chunk has at least so much, and five eighths of a larger L2: what is left serves A and C.
constexpr size_t kMinChunkBytes = 384 * 1024;
/// Scratch beyond this goes back to the system after the call.
constexpr size_t kKeepBytes = 4 * 1024 * 1024;
/// Above so many times GemmKernels::macs_per_thread for each thread, several tasks a thread even
/// out cores of different speed.
constexpr size_t kSharesPerTask = 2;
/// Bytes of B that pay for a thread, too: with few rows they take longer than the products.
constexpr double kBytesPerThread = 2 << 20;
constexpr size_t kTasksPerThread = 3;
constexpr size_t kLineBytes = 64;
/// Rows this far apart fall into the same few cache sets.
constexpr size_t kAliasBytes = 4096;
/// Unaligned rows cost more than their packing from here on.
constexpr size_t kMaxUnalignedRows = 4;
/// Packed rows this far apart fall into an eighth of them.
constexpr size_t kPackedAliasBytes = 512;
constexpr size_t kMaxTileRows = 64;
/// Strips of a call of a tile that takes blocks: between calls an abort is noticed.
constexpr size_t kMaxCallStrips = 64;
/// Strips that pay for widening a panel of B.
constexpr size_t kMinWideStrips = 4;

size_t short_chunk_bytes() { return l2_share(8, kMinShortChunkBytes); }

size_t chunk_bytes(size_t a_bytes) {
  static const size_t bytes = std::max(topology().l2_bytes / 8 * 5, kMinChunkBytes);
  return a_bytes < kShortABytes ? short_chunk_bytes() : bytes;
}

size_t a_block_bytes() { return l2_share(4, kMinABlockBytes); }

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
constexpr size_t round_up(size_t a, size_t b) { return ceil_div(a, b) * b; }

/// Packed A of one block and its row sums, reused by the calls of a thread.
struct Scratch {
  AlignedBuffer buffer;

  uint8_t* reserve(size_t bytes) {
    if (buffer.size() < bytes) buffer = AlignedBuffer(bytes);
    return buffer.data();
  }
  void trim() {
    if (buffer.size() > kKeepBytes) buffer = AlignedBuffer();
  }
};
thread_local Scratch scratch;

/// GemmKernels::enter and leave around the calls of a thread.
class TileThread {
 public:
  explicit TileThread(const GemmKernels& kernels) : kernels_(kernels) {}
  TileThread(const TileThread&) = delete;
  TileThread& operator=(const TileThread&) = delete;
  ~TileThread() {
    if (rows_ != 0) kernels_.leave();
  }

  void enter(size_t rows) {
    if (kernels_.enter == nullptr || rows == rows_) return;
    kernels_.enter(rows);
    rows_ = rows;
  }

 private:
  const GemmKernels& kernels_;
  size_t rows_ = 0;
};

/// What all tasks of a call share.
struct Plan {
  const GemmCall* call;
  const GemmKernels* kernels;
  const GemmTile* tile;
  size_t strips;
  /// Rows of a strip; the last one may have fewer.
  size_t strip_rows;
  size_t tiles;
  bool pack;
  /// Rows are read in place, and zero points of B need their sums.
  bool sum;
  /// The tiles follow the table of the call themselves.
  bool segments;
  uint8_t flip;
  /// Bytes between rows of A as the tile reads them; of a row, for segments.
  size_t lda;
  TaskGrid grid;
};

/// The spare line keeps packed rows of K = 2048 and the like out of each other's cache sets.
size_t packed_row_bytes(const GemmKernels& kernels, size_t k) {
  const size_t bytes = round_up(kernels.padded_k(k) * kernels.a_element_bytes, kLineBytes);
  return bytes % kPackedAliasBytes == 0 ? bytes + kLineBytes : bytes;
}

size_t output_bytes(OutKind kind) { return kind == OutKind::kU8 || kind == OutKind::kS8 ? 1 : 4; }

Epilogue at(const Epilogue& epilogue, size_t column) {
  Epilogue e = epilogue;
  e.bias += column;
  if (e.b_zero_point != nullptr) e.b_zero_point += column;
  if (e.scale != nullptr) e.scale += column;
  if (e.float_bias != nullptr) e.float_bias += column;
  return e;
}

/// `codes` has room for the rows if A is floats.
void pack_strip(const Plan& plan, size_t row, size_t rows, uint8_t* dst, int32_t* row_sum,
                uint8_t* codes) {
  const RowSource& a = plan.call->a;
  const PackedB& b = *plan.call->b;
  const GemmKernels& kernels = *plan.kernels;
  if (a.table != nullptr) {
    kernels.pack_a(rows, a.segments, a.segment_bytes, a.table + row * a.segments, plan.flip, dst,
                   plan.lda, row_sum);
    return;
  }
  if (a.run_stride != 0) {
    kernels.pack_runs(rows, a.segments, a.segment_bytes, a.data + row * a.row_bytes, a.row_bytes,
                      a.run_stride, dst, plan.lda, row_sum);
    return;
  }
  const uint8_t* source[kMaxTileRows];
  if (a.floats == nullptr) {
    for (size_t r = 0; r < rows; ++r) source[r] = a.data + (row + r) * a.row_bytes;
  } else {
    const bool is_packed = kernels.a_in_place && plan.flip == 0 && row_sum == nullptr;
    for (size_t r = 0; r < rows; ++r) {
      uint8_t* const to = is_packed ? dst + r * plan.lda : codes + r * b.k();
      b.table().vector->quantize(b.k(), a.floats + (row + r) * (a.row_bytes / sizeof(float)),
                                 a.params[(row + r) * a.params_step], to);
      if (is_packed) std::memset(to + b.k(), 0, kernels.padded_k(b.k()) - b.k());
      source[r] = to;
    }
    if (is_packed) return;
  }
  kernels.pack_a(rows, 1, b.k(), source, plan.flip, dst, plan.lda, row_sum);
}

/// Sums of rows as pack_strip() would make them, of rows read in place.
void sum_strip(const Plan& plan, size_t row, size_t rows, int32_t* row_sum) {
  const RowSource& a = plan.call->a;
  const PackedB& b = *plan.call->b;
  const SumAFn sum_a = plan.kernels->sum_a;
  if (plan.segments) {
    return sum_a(rows, a.segments, a.segment_bytes, a.table + row * a.segments, row_sum);
  }
  const uint8_t* source[kMaxTileRows];
  if (a.run_stride == 0) {
    for (size_t r = 0; r < rows; ++r) source[r] = a.data + (row + r) * a.row_bytes;
    return sum_a(rows, 1, b.k(), source, row_sum);
  }
  for (size_t r = 0; r < rows; ++r) {
    uint32_t sum = 0;
    for (size_t run = 0; run < a.segments; run += kMaxTileRows) {
      const size_t count = std::min(kMaxTileRows, a.segments - run);
      const uint8_t* const first = a.data + (row + r) * a.row_bytes + run * a.run_stride;
      for (size_t i = 0; i < count; ++i) source[i] = first + i * a.run_stride;
      int32_t part;
      sum_a(1, count, a.counted, source, &part);
      sum += static_cast<uint32_t>(part);
    }
    row_sum[r] = static_cast<int32_t>(sum);
  }
}

/// The cell (index / columns, index % columns) of the grid.
Status run_task(const Plan& plan, size_t index) {
  const GemmCall& call = *plan.call;
  const PackedB& b = *call.b;
  const GemmTile& tile = *plan.tile;
  const size_t grid_row = index / plan.grid.columns;
  const size_t grid_column = index % plan.grid.columns;
  const size_t first_strip = plan.strips * grid_row / plan.grid.rows;
  const size_t last_strip = plan.strips * (grid_row + 1) / plan.grid.rows;
  const size_t first_tile = plan.tiles * grid_column / plan.grid.columns;
  const size_t last_tile = plan.tiles * (grid_column + 1) / plan.grid.columns;
  const size_t strip_bytes = plan.strip_rows * plan.lda;
  const size_t tile_bytes = tile.nr / kPanelWidth * b.panel_stride();
  const size_t chunk_tiles =
      std::max<size_t>(chunk_bytes(call.m * b.k()) / std::max<size_t>(tile_bytes, 1), 1);
  size_t block_strips = last_strip - first_strip;
  const GemmKernels& kernels = *plan.kernels;
  const bool is_wide = kernels.wide != nullptr && plan.pack && &tile == kernels.tiles &&
                       block_strips >= kMinWideStrips;
  if (plan.pack) {
    // With one chunk a packed strip is read once, and best from L1.
    const size_t bytes = is_wide ? std::max(kWideABlockBytes, kMinWideBlockStrips * strip_bytes)
                         : last_tile - first_tile <= chunk_tiles ? 0
                                                                 : a_block_bytes();
    block_strips = std::clamp<size_t>(bytes / std::max<size_t>(strip_bytes, 1), 1, block_strips);
  }

  uint8_t* packed = nullptr;
  uint8_t* wide = nullptr;
  uint8_t* codes = nullptr;
  int32_t* row_sum = nullptr;
  if (plan.pack) {
    // pack_runs() may write a line too many.
    const size_t packed_bytes =
        round_up(block_strips * strip_bytes + kLineBytes, AlignedBuffer::kAlignment);
    const size_t row_sum_bytes = block_strips * plan.strip_rows * sizeof(int32_t);
    const size_t wide_bytes = is_wide ? b.panel_stride() * kernels.a_element_bytes : 0;
    packed = scratch.reserve(packed_bytes + wide_bytes + row_sum_bytes +
                             (call.a.floats != nullptr ? plan.strip_rows * b.k() : 0));
    if (packed == nullptr) {
      return {Code::kOutOfMemory,
              "Cannot allocate " + std::to_string(packed_bytes) + " bytes to pack A."};
    }
    wide = packed + packed_bytes;
    if (b.zero_point() != nullptr) row_sum = reinterpret_cast<int32_t*>(wide + wide_bytes);
    codes = wide + wide_bytes + row_sum_bytes;
  } else if (plan.sum) {
    const size_t bytes = block_strips * plan.strip_rows * sizeof(int32_t);
    row_sum = reinterpret_cast<int32_t*>(scratch.reserve(bytes));
    if (row_sum == nullptr) {
      return {Code::kOutOfMemory,
              "Cannot allocate " + std::to_string(bytes) + " bytes for sums of A."};
    }
  }

  TileThread tiles(kernels);
  uint8_t* const c = static_cast<uint8_t*>(call.c);
  const size_t element = output_bytes(call.epilogue.kind);
  for (size_t block = first_strip; block < last_strip; block += block_strips) {
    const size_t block_end = std::min(last_strip, block + block_strips);
    const size_t first_row = block * plan.strip_rows;
    TileA a = {};
    if (!plan.segments) a.data = call.a.data + (plan.pack ? 0 : first_row * plan.lda);
    a.lda = plan.lda;
    a.segments = plan.segments || (call.a.run_stride != 0 && !plan.pack) ? call.a.segments : 1;
    a.segment = call.a.segment_bytes;
    a.run_stride = plan.pack ? 0 : call.a.run_stride;
    a.is_padded = plan.pack;
    if (plan.pack) {
      for (size_t strip = block; strip < block_end; ++strip) {
        const size_t row = strip * plan.strip_rows;
        pack_strip(plan, row, std::min(plan.strip_rows, call.m - row),
                   packed + (strip - block) * strip_bytes,
                   row_sum == nullptr ? nullptr : row_sum + (row - first_row), codes);
      }
      a.data = packed;
    }
    if (is_wide) {
      const TileB panel = {reinterpret_cast<const int8_t*>(wide), 0, nullptr};
      for (size_t t = first_tile; t < last_tile; ++t) {
        if (is_aborted(call.cancel)) return {Code::kAborted, "The call was aborted."};
        const size_t column = t * tile.nr;
        const size_t columns = std::min<size_t>(tile.nr, b.n() - column);
        kernels.wide->widen(b.panel_stride(), b.panels(t).data, wide);
        Epilogue epilogue = at(call.epilogue, column);
        TileA strip_a = a;
        for (size_t strip = block; strip < block_end; ++strip) {
          const size_t row = strip * plan.strip_rows;
          strip_a.data = packed + (row - first_row) * plan.lda;
          if (row_sum != nullptr) epilogue.row_sum = row_sum + (row - first_row);
          kernels.wide->run(std::min(plan.strip_rows, call.m - row), columns, b.k(), strip_a, panel,
                            epilogue, c + (row * call.ldc + column) * element, call.ldc);
        }
      }
      continue;
    }
    for (size_t chunk = first_tile; chunk < last_tile; chunk += chunk_tiles) {
      const size_t chunk_end = std::min(last_tile, chunk + chunk_tiles);
      const size_t chunk_column = chunk * tile.nr;
      // Copied once: where K is short, a copy for each strip would be felt.
      Epilogue chunk_epilogue = at(call.epilogue, chunk_column);
      TileA strip_a = a;
      const size_t call_strips =
          tile.takes_blocks ? std::min(block_end - block, kMaxCallStrips) : 1;
      for (size_t strip = block; strip < block_end; strip += call_strips) {
        if (is_aborted(call.cancel)) return {Code::kAborted, "The call was aborted."};
        const size_t row = strip * plan.strip_rows;
        const size_t call_end = std::min(strip + call_strips, block_end);
        const size_t rows = std::min((call_end - strip) * plan.strip_rows, call.m - row);
        if (plan.segments) {
          strip_a.source = call.a.table + row * call.a.segments;
        } else {
          strip_a.data = static_cast<const uint8_t*>(a.data) + (row - first_row) * plan.lda;
        }
        if (row_sum != nullptr) chunk_epilogue.row_sum = row_sum + (row - first_row);
        tiles.enter(rows);
        // Here, where the tiles read the rows next.
        for (size_t i = 0; plan.sum && chunk == first_tile && i < rows; i += plan.strip_rows) {
          sum_strip(plan, row + i, std::min(plan.strip_rows, rows - i),
                    row_sum + (row + i - first_row));
        }
        const auto multiply = [&](size_t from, size_t to, const int8_t* fetched) {
          const size_t column = from * tile.nr;
          TileB panels = b.panels(column / kPanelWidth);
          if (fetched != nullptr) {
            // Of two arrays, perhaps: as numbers.
            panels.ahead = static_cast<ptrdiff_t>(reinterpret_cast<uintptr_t>(fetched) -
                                                  reinterpret_cast<uintptr_t>(panels.data));
          }
          const size_t columns = std::min<size_t>(to * tile.nr, b.n()) - column;
          uint8_t* const out = c + (row * call.ldc + column) * element;
          if (column == chunk_column) {
            tile.run(rows, columns, b.k(), strip_a, panels, chunk_epilogue, out, call.ldc);
          } else {
            tile.run(rows, columns, b.k(), strip_a, panels,
                     at(chunk_epilogue, column - chunk_column), out, call.ldc);
          }
        };
        // The first strip fetches the next chunk; the very last one what follows the call, as much
        // of it as a first chunk has.
        size_t start = chunk;
        if (strip == block && chunk_end < last_tile) {
          multiply(chunk, chunk_end, b.panels(chunk_end * tile.nr / kPanelWidth).data);
          start = chunk_end;
        } else if (call_end == last_strip && chunk_end == last_tile && call.next.data != nullptr) {
          const size_t bytes = std::min(call.next.size, short_chunk_bytes());
          start = std::min(chunk_end, chunk + bytes / std::max<size_t>(tile_bytes, 1));
          if (start != chunk) multiply(chunk, start, call.next.data);
        }
        if (start != chunk_end) multiply(start, chunk_end, nullptr);
      }
    }
  }
  scratch.trim();
  return {};
}

}  // namespace

bool reads_segments(const PackedB& b, size_t segment) {
  const GemmKernels& kernels = b.kernels();
  return kernels.tiles[kernels.tile_count - 1].takes_segments && segment != 0 &&
         segment % kernels.kr == 0;
}

Status run_gemm(const GemmCall& user_call) {
  GemmCall call = user_call;
  const PackedB& b = *call.b;
  if (call.m == 0 || b.n() == 0) return {};
  const GemmKernels& kernels = b.kernels(call.a.is_signed);
  call.epilogue.b_zero_point = b.zero_point();

  Plan plan;
  plan.call = &call;
  plan.kernels = &kernels;
  plan.flip = call.a.is_signed == kernels.a_signed ? 0 : 0x80;
  plan.segments = call.a.table != nullptr && reads_segments(b, call.a.segment_bytes) &&
                  (call.a.is_canonical || (plan.flip == 0 && kernels.a_in_place));
  plan.tile =
      call.tile != nullptr ? call.tile : &choose_tile(kernels, call.m, b.n(), plan.segments);
  plan.strips = ceil_div(call.m, plan.tile->mr);
  plan.strip_rows = ceil_div(call.m, plan.strips);
  plan.strips = ceil_div(call.m, plan.strip_rows);
  plan.tiles = ceil_div(b.n(), plan.tile->nr);
  const bool aliased = call.a.row_bytes % kAliasBytes == 0 && plan.strip_rows > 8;
  const bool unaligned =
      (reinterpret_cast<uintptr_t>(call.a.data) | call.a.row_bytes) % kernels.a_alignment != 0 &&
      plan.strip_rows > kMaxUnalignedRows;
  plan.pack = !plan.segments && (call.a.run_stride == 0 || kernels.pack_runs != nullptr) &&
              (call.a.run_stride != 0 || call.a.table != nullptr || call.a.floats != nullptr ||
               plan.flip != 0 || !kernels.a_in_place || unaligned || (aliased && plan.tiles > 1));
  plan.sum = !plan.pack && b.zero_point() != nullptr;
  plan.lda = plan.pack       ? packed_row_bytes(kernels, b.k())
             : plan.segments ? b.k() * kernels.a_element_bytes
                             : call.a.row_bytes;

  const double macs =
      static_cast<double>(call.m) * static_cast<double>(b.n()) * static_cast<double>(b.k());
  const double b_bytes = static_cast<double>(b.bytes());
  const double min_macs = static_cast<double>(kernels.macs_per_thread);
  const size_t limit = call.threads == 0 ? ThreadPool::instance().size() : call.threads;
  const size_t threads = static_cast<size_t>(std::clamp(
      std::max(macs / min_macs, b_bytes / kBytesPerThread), 1.0, static_cast<double>(limit)));
  if (threads == 1) return run_task(plan, 0);

  const bool many =
      macs / static_cast<double>(threads) > kTasksPerThread * kSharesPerTask * min_macs;
  plan.grid =
      choose_grid(plan.strips, plan.tiles, plan.strip_rows * b.k() * kernels.a_element_bytes,
                  plan.tile->nr * b.k(), many ? threads * kTasksPerThread : threads, threads);
  std::atomic<Code> failure{Code::kOk};
  ThreadPool::instance().parallel_for(plan.grid.rows * plan.grid.columns, threads,
                                      [&](size_t index) {
                                        if (failure.load(std::memory_order_relaxed) != Code::kOk)
                                          return;
                                        const Status status = run_task(plan, index);
                                        if (!status.ok())
                                          failure.store(status.code(), std::memory_order_relaxed);
                                      });
  switch (failure.load(std::memory_order_relaxed)) {
    case Code::kOk:
      return {};
    case Code::kAborted:
      return {Code::kAborted, "The call was aborted."};
    default:
      return {Code::kOutOfMemory, "Cannot allocate memory to pack A."};
  }
}

}  // namespace q8

// Shared by all kernels: threads, scratch memory, and conversions between bfloat16 and float32.
//

#pragma once

#include <immintrin.h>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <new>
#include <vector>

typedef uint16_t bf16;
static const int LANES = 16;

// ---- threads: the OpenMP pool of the host process, so that two pools do not compete for the cores
typedef void (*fork_t)(void (*)(void*), void*, unsigned, unsigned);
typedef int (*ask_t)();
inline fork_t fork_ = nullptr;
inline ask_t number_ = nullptr, count_ = nullptr;
template <class Work>
static void enter(void* work) {
  (*(Work*)work)(number_(), count_());
}
template <class Work>
static void parallel(int threads, Work work) {  // calls work(thread index, number of threads)
  std::atomic<bool> lacks{false};               // an exception must not leave a pool thread
  auto safe = [&](int me, int of) {
    try {
      work(me, of);
    } catch (const std::bad_alloc&) { lacks = true; }
  };
  if (threads <= 1 || !fork_) safe(0, 1);
  else fork_(enter<decltype(safe)>, &safe, threads, 0);
  if (lacks) throw std::bad_alloc();
}
static inline void share(int64_t n, int i, int of, int64_t& first, int64_t& last) {
  first = n * i / of;
  last = n * (i + 1) / of;
}

// ---- scratch memory: each thread keeps its own for the next call, up to a limit
static const size_t KEPT_BYTES = (size_t)64 << 20;
inline std::atomic<size_t> held_{0};  // total of all threads
struct Scratch {
  char* p = nullptr;
  size_t n = 0;
  ~Scratch() { drop(); }
  void drop() {
    free(p);
    held_ -= n;
    p = nullptr;
    n = 0;
  }
  char* get(size_t m) {
    if (m > n) {
      drop();
      size_t size = (m + (m >> 3) + 4095) / 4096 * 4096;
      p = (char*)aligned_alloc(4096, size);
      if (!p) throw std::bad_alloc();
      n = size;
      held_ += n;
    }
    return p;
  }
};
inline thread_local Scratch scratch_[6];
template <class T>
static T* scratch(int i, size_t n) {
  return (T*)scratch_[i].get(n * sizeof(T));
}
static void drop_much(int threads) {
  if (held_ <= KEPT_BYTES) return;
  parallel(threads, [](int, int) {
    size_t mine = 0;
    for (Scratch& each : scratch_) mine += each.n;
    if (mine > KEPT_BYTES)
      for (Scratch& each : scratch_) each.drop();
  });
}
template <class Work>
static int status_of(int threads, Work work) {  // returns 0, or 1 if memory could not be allocated
  int lacks = 0;
  try {
    work();
  } catch (const std::bad_alloc&) { lacks = 1; }
  drop_much(threads);
  return lacks;
}

static const __mmask16 ALL = 0xFFFF;  // full vectors avoid masked moves, which are slow on some processors
static inline __m512 widen(__m256i a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(a), 16)); }
static inline __m512 load(const bf16* p, __mmask16 m) {
  return widen(m == ALL ? _mm256_loadu_si256((const __m256i*)p) : _mm256_maskz_loadu_epi16(m, p));
}
static inline __m512 loaded(const float* p, int k, __mmask16 m) {
  return m == ALL ? _mm512_loadu_ps(p + k) : _mm512_maskz_loadu_ps(m, p + k);
}
static inline void store(bf16* p, __mmask16 m, __m256i a) {
  if (m == ALL) _mm256_storeu_si256((__m256i*)p, a);
  else _mm256_mask_storeu_epi16(p, m, a);
}
static inline __m256i narrow(__m512 a) { return (__m256i)_mm512_cvtneps_pbh(a); }
static const __m512i ZIP = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                            5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
static inline __m512i zip(__m512 a, __m512 b) { return _mm512_permutexvar_epi16(ZIP, (__m512i)_mm512_cvtne2ps_pbh(b, a)); }
static inline __mmask16 lanes(int n) { return n >= 16 ? 0xFFFF : (__mmask16)((1u << n) - 1); }

// A norm by stored statistics with the activation after it, act(a x + b) for each channel, in one pass per direction; bfloat16 in
// and out, float32 in between.
//
// A map is read as one contiguous array of values, 32 at a time; the coefficients repeat after lcm(channels, 32) values. So only
// the very end of the array needs a tail, for any number of channels.
//
// The backward pass needs the norm's input x or, for the identity, ReLU and ReLU6, the output y. Sums are computed over a fixed
// number of parts of the array and added in order, so the result is bit-identical for any number of threads.

#include "activations.h"

#include <numeric>

static const int PAIR = 32, PARTS = 64;
static const __m512i UPPER = _mm512_set1_epi32((int)0xFFFF0000);

// 32 values as two vectors: even positions and odd positions
struct Two {
  __m512 even, odd;
};
static inline Two split(__m512i v) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)), _mm512_castsi512_ps(_mm512_and_si512(v, UPPER))};
}
static inline __m512i read(const bf16* p, int64_t left) {
  return left >= PAIR ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((__mmask32)((1ull << left) - 1), p);
}
static inline void write(bf16* p, int64_t left, __m512 even, __m512 odd) {
  __m512i v = zip(even, odd);
  if (left >= PAIR) _mm512_storeu_si512(p, v);
  else _mm512_mask_storeu_epi16(p, (__mmask32)((1ull << left) - 1), v);
}
// coefficients of the array: for each 32 values, 16 of even positions, then 16 of odd ones
static int period(int C) { return C / std::gcd(C, PAIR); }
static float* lined(int slot, const float* of, int C) {
  int blocks = period(C);
  float* to = scratch<float>(slot, (size_t)blocks * PAIR);
  for (int64_t j = 0; j < blocks; j++)
    for (int i = 0; i < PAIR; i++) to[j * PAIR + i % 2 * LANES + i / 2] = of[(j * PAIR + i) % C];
  return to;
}

// whether all of x is finite
template <int ACT>
static bool stored_norm_forward(const bf16* x, int64_t rows, int C, const float* a, const float* b, bf16* y, int threads) {
  std::atomic<bool> finite{true};
  int64_t n = rows * C, blocks = (n + PAIR - 1) / PAIR, round = period(C);
  const float *as = lined(0, a, C), *bs = lined(1, b, C);
  parallel(threads, [&](int me, int of) {
    int64_t first, last;
    share(blocks, me, of, first, last);
    int64_t j = first % round;
    __m512 zero = _mm512_setzero_ps(), zeros = zero;  // sum of 0 * x: NaN if any value is not finite
    for (int64_t k = first; k < last; k++) {
      Two v = split(read(x + k * PAIR, n - k * PAIR));
      zeros = _mm512_fmadd_ps(v.even, zero, _mm512_fmadd_ps(v.odd, zero, zeros));
      const float *aj = as + j * PAIR, *bj = bs + j * PAIR;
      __m512 even, odd, slope;
      activate<ACT>(_mm512_fmadd_ps(v.even, _mm512_load_ps(aj), _mm512_load_ps(bj)), even, slope);
      activate<ACT>(_mm512_fmadd_ps(v.odd, _mm512_load_ps(aj + LANES), _mm512_load_ps(bj + LANES)), odd, slope);
      write(y + k * PAIR, n - k * PAIR, even, odd);
      if (++j == round) j = 0;
    }
    if (_mm512_cmp_ps_mask(zeros, zeros, _CMP_UNORD_Q)) finite = false;
  });
  return finite;
}

// gradient of the activation's input, from x (with z = a x + b) or from y
template <int ACT, bool BEHIND>
static inline __m512 before(__m512 v, __m512 g, __m512 a, __m512 b) {
  if (BEHIND) return _mm512_maskz_mov_ps(open<ACT>(v), g);
  return back<ACT>(_mm512_fmadd_ps(v, a, b), g);
}
// dx = a g, and optionally sums of g and of g (p v + q), for the gradient g of the activation's input
template <int ACT, bool BEHIND, bool SUMS>
static void stored_norm_backward(const bf16* dy, const bf16* v, int64_t rows, int C, const float* a, const float* b,
                                 const float* p, const float* q, bf16* dx, double* total, int threads) {
  int64_t n = rows * C, blocks = (n + PAIR - 1) / PAIR, round = period(C);
  int parts = SUMS ? (int)std::min<int64_t>(PARTS, blocks) : threads;
  const float *as = lined(0, a, C), *bs = lined(1, b, C), *ps = SUMS ? lined(2, p, C) : nullptr,
              *qs = SUMS ? lined(3, q, C) : nullptr;
  size_t length = (size_t)round * PAIR;
  float* sums = SUMS ? scratch<float>(4, (size_t)parts * 2 * length) : nullptr;
  parallel(threads, [&](int me, int of) {
    int64_t mine, end;
    share(parts, me, of, mine, end);
    for (int64_t part = mine; part < end; part++) {
      int64_t first, last;
      share(blocks, part, parts, first, last);
      float *s0 = sums + part * 2 * length, *s1 = s0 + length;
      if (SUMS) std::fill(s0, s0 + 2 * length, 0.f);
      int64_t j = first % round;
      for (int64_t k = first; k < last; k++) {
        int64_t at = k * PAIR, left = n - at, c = j * PAIR;
        Two g = split(read(dy + at, left)), u = split(read(v + at, left));
        __m512 ae = _mm512_load_ps(as + c), ao = _mm512_load_ps(as + c + LANES);
        __m512 ge = before<ACT, BEHIND>(u.even, g.even, ae, _mm512_load_ps(bs + c)),
               go = before<ACT, BEHIND>(u.odd, g.odd, ao, _mm512_load_ps(bs + c + LANES));
        if (dx) write(dx + at, left, ge * ae, go * ao);
        if (SUMS) {
          if (left < PAIR) {  // values past the end must not contribute 0 * inf
            ge = _mm512_maskz_mov_ps(lanes((int)(left + 1) / 2), ge);
            go = _mm512_maskz_mov_ps(lanes((int)left / 2), go);
          }
          _mm512_store_ps(s0 + c, _mm512_load_ps(s0 + c) + ge);
          _mm512_store_ps(s0 + c + LANES, _mm512_load_ps(s0 + c + LANES) + go);
          __m512 we = _mm512_fmadd_ps(u.even, _mm512_load_ps(ps + c), _mm512_load_ps(qs + c)),
                 wo = _mm512_fmadd_ps(u.odd, _mm512_load_ps(ps + c + LANES), _mm512_load_ps(qs + c + LANES));
          if (left < PAIR) {
            we = _mm512_maskz_mov_ps(lanes((int)(left + 1) / 2), we);
            wo = _mm512_maskz_mov_ps(lanes((int)left / 2), wo);
          }
          if (BEHIND) {  // where the activation is constant, y does not determine x, and g is 0
            we = _mm512_maskz_mov_ps(open<ACT>(u.even), we);
            wo = _mm512_maskz_mov_ps(open<ACT>(u.odd), wo);
          }
          _mm512_store_ps(s1 + c, _mm512_fmadd_ps(ge, we, _mm512_load_ps(s1 + c)));
          _mm512_store_ps(s1 + c + LANES, _mm512_fmadd_ps(go, wo, _mm512_load_ps(s1 + c + LANES)));
        }
        if (++j == round) j = 0;
      }
    }
  });
  if (!SUMS) return;
  std::fill(total, total + 2 * C, 0.0);
  for (int part = 0; part < parts; part++)
    for (int which = 0; which < 2; which++)
      for (int64_t j = 0; j < round; j++) {
        const float* from = sums + ((size_t)part * 2 + which) * length + j * PAIR;
        for (int i = 0; i < PAIR; i++) total[which * C + (j * PAIR + i) % C] += from[i % 2 * LANES + i / 2];
      }
}
template <int ACT>
static void stored_norm_backward_by_input(const bf16* dy, const bf16* v, int behind, int64_t rows, int C, const float* a,
                                          const float* b, const float* p, const float* q, bf16* dx, double* total,
                                          int threads) {
  if (behind && (ACT == NONE || ACT == RELU || ACT == RELU6))
    (total ? stored_norm_backward<ACT, true, true> : stored_norm_backward<ACT, true, false>)(dy, v, rows, C, a, b, p, q, dx,
                                                                                             total, threads);
  else
    (total ? stored_norm_backward<ACT, false, true> : stored_norm_backward<ACT, false, false>)(dy, v, rows, C, a, b, p, q,
                                                                                               dx, total, threads);
}

// y may be x; sets finite to 1 if all of x is finite, else to 0
extern "C" int visus_stored_norm_forward(const bf16* x, int64_t rows, int C, const float* a, const float* b, int act,
                                         bf16* y, int* finite, int threads) {
  return status_of(threads, [&] { *finite = BY_ACTIVATION(act, stored_norm_forward)(x, rows, C, a, b, y, threads); });
}
// v is y if behind, else x; dx and total may be null; total has 2 C values
extern "C" int visus_stored_norm_backward(const bf16* dy, const bf16* v, int behind, int64_t rows, int C, const float* a,
                                          const float* b, const float* p, const float* q, int act, bf16* dx, double* total,
                                          int threads) {
  return status_of(threads, [&] {
    BY_ACTIVATION(act, stored_norm_backward_by_input)(dy, v, behind, rows, C, a, b, p, q, dx, total, threads);
  });
}

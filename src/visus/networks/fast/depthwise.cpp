// Depthwise convolutions in bfloat16 with float32 sums: forward pass and both gradients, for AVX-512 BF16.
//
// Layouts: maps (N, H, W, C) bfloat16; weights (KY, KX, C) float32.
// Letters: k a tap (kernel position), s a stride, p a padding, T the number of positions computed at once.
//
// A block has 32 channels. The kernel copies a band of rows of a block to zero-padded scratch memory, so that the inner loops
// need no bounds checks. In a vector of 32 bfloat16, a shift converts the even channels to float32, and a mask the odd ones.
// For T neighboring positions, each loaded value contributes to all sums that contain it.
//
// The input gradient is a convolution too. With stride s, the input positions form s classes on each axis. Only every s-th tap
// reaches a class, so each class is a convolution with stride 1 and a subset of the taps in reverse order.
// The weight gradient keeps the sums of a row of taps in registers. The work is split into parts that depend only on the shape,
// and the parts are added in order, so the result is bit-identical for any number of threads.

#include "processor.h"

static const int PAIR = 32;
static const size_t BAND_BYTES = (size_t)96 << 10;
static const __m512i UPPER = _mm512_set1_epi32((int)0xFFFF0000);

static inline __m512 even(__m512i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
static inline __m512 odd(__m512i v) { return _mm512_castsi512_ps(_mm512_and_si512(v, UPPER)); }
static inline int ceil_div(int a, int b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }

// load 32 channels, of which `left` exist; full halves avoid masked moves
static inline __m512i read(const bf16* p, int left) {
  if (left >= PAIR) return _mm512_loadu_si512(p);
  if (left == LANES) return _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i*)p));
  return _mm512_maskz_loadu_epi16((__mmask32)((1ull << left) - 1), p);
}
static inline void write(bf16* p, int left, __m512i v) {
  if (left >= PAIR) _mm512_storeu_si512(p, v);
  else if (left == LANES) _mm256_storeu_si256((__m256i*)p, _mm512_castsi512_si256(v));
  else _mm512_mask_storeu_epi16(p, (__mmask32)((1ull << left) - 1), v);
}

struct Map {
  int N, H, W, C;
};

// copy rows from `top` and columns from `left` of 32 channels of one map, with zeros outside the map
static void copy(const bf16* x, const Map& m, int n, int c0, int top, int rows, int left, int cols, bf16* to) {
  int there = m.C - c0, begin = std::min(cols, std::max(0, -left)), end = std::max(begin, std::min(cols, m.W - left));
  for (int y = 0; y < rows; y++, to += (int64_t)cols * PAIR) {
    if (top + y < 0 || top + y >= m.H) {
      memset(to, 0, (size_t)cols * PAIR * sizeof(bf16));
      continue;
    }
    const bf16* from = x + (((int64_t)n * m.H + top + y) * m.W + left) * m.C + c0;
    memset(to, 0, (size_t)begin * PAIR * sizeof(bf16));
    if (there >= PAIR)
      for (int i = begin; i < end; i++) _mm512_store_si512(to + i * PAIR, _mm512_loadu_si512(from + (int64_t)i * m.C));
    else
      for (int i = begin; i < end; i++) _mm512_store_si512(to + i * PAIR, read(from + (int64_t)i * m.C, there));
    memset(to + end * PAIR, 0, (size_t)(cols - end) * PAIR * sizeof(bf16));
  }
}

// ---- sums over taps: KX taps in a row, stride S between positions (0: any stride `s`), T positions at once
template <int KX, int S, int T>
static inline void strip(const bf16* src, int64_t row, int ky, const float* w, int s, __m512* e, __m512* o) {
  for (int t = 0; t < T; t++) e[t] = o[t] = _mm512_setzero_ps();
  for (int y = 0; y < ky; y++, src += row, w += KX * PAIR) {
    if (S == 0) {
      for (int k = 0; k < KX; k++) {
        __m512 we = _mm512_load_ps(w + k * PAIR), wo = _mm512_load_ps(w + k * PAIR + LANES);
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
          __m512i v = _mm512_load_si512(src + (t * s + k) * PAIR);
          e[t] = _mm512_fmadd_ps(even(v), we, e[t]);
          o[t] = _mm512_fmadd_ps(odd(v), wo, o[t]);
        }
      }
      continue;
    }
    __m512 we[KX], wo[KX];
#pragma GCC unroll 8
    for (int k = 0; k < KX; k++) {
      we[k] = _mm512_load_ps(w + k * PAIR);
      wo[k] = _mm512_load_ps(w + k * PAIR + LANES);
    }
#pragma GCC unroll 32
    for (int col = 0; col < (T - 1) * S + KX; col++) {
      if (col % (S ? S : 1) >= KX) continue;  // between the taps
      __m512i v = _mm512_load_si512(src + col * PAIR);
      __m512 ve = even(v), vo = odd(v);
#pragma GCC unroll 8
      for (int t = 0; t < T; t++) {
        int k = col - t * S;
        if (k >= 0 && k < KX) {
          e[t] = _mm512_fmadd_ps(ve, we[k], e[t]);
          o[t] = _mm512_fmadd_ps(vo, wo[k], o[t]);
        }
      }
    }
  }
}

// `count` positions of one row, written at distance `step`
template <int KX, int S, int T>
static void line(const bf16* src, int64_t row, int ky, const float* w, int s, int count, bf16* dst, int64_t step,
                 int there) {
  for (int x = 0; x < count; x += T) {
    __m512 e[T], o[T];
    strip<KX, S, T>(src + (int64_t)x * s * PAIR, row, ky, w, s, e, o);
    bf16* to = dst + x * step;
    if (x + T <= count && there >= PAIR)
      for (int t = 0; t < T; t++) _mm512_storeu_si512(to + t * step, zip(e[t], o[t]));
    else {
      alignas(64) bf16 done[T][PAIR];
      for (int t = 0; t < T; t++) _mm512_store_si512(done[t], zip(e[t], o[t]));
      for (int t = 0; t < std::min(T, count - x); t++) write(to + t * step, there, _mm512_load_si512(done[t]));
    }
  }
}
typedef void (*line_t)(const bf16*, int64_t, int, const float*, int, int, bf16*, int64_t, int);
template <int KX, int S>
static line_t line_of(int T) {
  return T == 8 ? line<KX, S, 8> : T == 7 ? line<KX, S, 7> : line<KX, S, 5>;
}
#define BY_TAPS(kx, f) \
  (kx == 1 ? f(1) : kx == 2 ? f(2) : kx == 3 ? f(3) : kx == 4 ? f(4) : kx == 5 ? f(5) : kx == 6 ? f(6) : f(7))
#define BY_ODD_TAPS(kx, f) (kx == 3 ? f(3) : kx == 5 ? f(5) : f(7))
static bool is_usual(int kx) { return kx == 3 || kx == 5 || kx == 7; }
static line_t line_of(int kx, int s, int T) {  // specialized code for common cases, general code for others
#define ONE(KX) line_of<KX, 1>(T)
#define TWO(KX) line_of<KX, 2>(T)
#define ANY(KX) line<KX, 0, 5>
  return s == 1 ? BY_TAPS(kx, ONE) : s == 2 && is_usual(kx) ? BY_ODD_TAPS(kx, TWO) : BY_TAPS(kx, ANY);
#undef ONE
#undef TWO
#undef ANY
}
static int at_once(int count) {  // the T that wastes the fewest positions
  int best = 8;
  for (int T : {7, 5})
    if (ceil_div(count, T) * T < ceil_div(count, best) * best) best = T;
  return best;
}

// one class of positions on one axis, and its taps
struct Axis {
  int at, step, count;  // position at + i step, for i < count
  int first, by, taps;  // taps first + j by, for j < taps
  int pad;              // position i starts to read at i * stride - pad
};
// the only class of a forward pass
static Axis forward_axis(int length, int taps, int pad) { return {0, 1, length, 0, 1, taps, pad}; }
// class r of a gradient: positions r, r + s, ..., with the taps of one remainder from last to first
static Axis gradient_axis(int length, int taps, int s, int pad, int r) {
  int first = (r + pad) % s, num = first < taps ? (taps - first + s - 1) / s : 0;
  return {r, s, r < length ? (length - r + s - 1) / s : 0, first + (num - 1) * s, -s, num, num - 1 - (r + pad - first) / s};
}

static void convolve(const bf16* src, const float* w, bf16* dst, Map from, Map to, int kx, int sy, int sx,
                     const std::vector<Axis>& ys, const std::vector<Axis>& xs, int threads) {
  int C = from.C, blocks = ceil_div(C, PAIR);
  int count_y = 0, count_x = 0, lo_y = INT32_MIN, lo_x = INT32_MIN, hi_y = INT32_MIN, hi_x = INT32_MIN;
  for (const Axis& a : ys) {
    count_y = std::max(count_y, a.count);
    lo_y = std::max(lo_y, a.pad);
    hi_y = std::max(hi_y, a.taps - a.pad);
  }
  for (const Axis& a : xs) {
    count_x = std::max(count_x, a.count);
    lo_x = std::max(lo_x, a.pad);
    hi_x = std::max(hi_x, a.taps - a.pad);
  }
  int T = at_once(count_x),
      cols = (std::max(ceil_div(count_x, T) * T, ceil_div(count_x, 5) * 5) - 1) * sx + lo_x + std::max(1, hi_x);
  int extra = lo_y + std::max(1, hi_y), fit = (int)(BAND_BYTES / sizeof(bf16) / PAIR / cols);
  int band = std::max(1, std::min(count_y, (std::max(fit, 2 * extra) - extra) / sy + 1));
  int bands = ceil_div(count_y, band), rows = (band - 1) * sy + extra;
  // weights of each block and class in reading order, even and odd channels separately
  int taps = 0;
  for (const Axis& y : ys)
    for (const Axis& x : xs) taps += y.taps * x.taps;
  float* panels = scratch<float>(2, (size_t)blocks * taps * PAIR);
  float* put = panels;
  for (int b = 0; b < blocks; b++)
    for (const Axis& y : ys)
      for (const Axis& x : xs)
        for (int i = 0; i < y.taps; i++)
          for (int j = 0; j < x.taps; j++, put += PAIR) {
            const float* of = w + ((int64_t)(y.first + i * y.by) * kx + x.first + j * x.by) * C + b * PAIR;
            for (int c = 0; c < PAIR; c++) put[c % 2 * LANES + c / 2] = b * PAIR + c < C ? of[c] : 0.f;
          }
  parallel(threads, [&](int me, int of) {
    bf16* band_scratch = scratch<bf16>(0, (size_t)rows * cols * PAIR);
    int64_t first, last;
    share((int64_t)from.N * bands * blocks, me, of, first, last);
    for (int64_t task = first; task < last; task++) {
      int b = task % blocks, i0 = task / blocks % bands * band, n = task / blocks / bands, there = C - b * PAIR;
      int these = std::min(band, count_y - i0);
      copy(src, from, n, b * PAIR, i0 * sy - lo_y, (these - 1) * sy + extra, -lo_x, cols, band_scratch);
      const float* panel = panels + (size_t)b * taps * PAIR;
      for (const Axis& y : ys)
        for (const Axis& x : xs) {
          line_t run = line_of(std::max(1, x.taps), sx, T);
          for (int i = i0; i < std::min(i0 + these, y.count); i++) {
            const bf16* at = band_scratch + ((int64_t)((i - i0) * sy + lo_y - y.pad) * cols + lo_x - x.pad) * PAIR;
            bf16* out = dst + (((int64_t)n * to.H + y.at + i * y.step) * to.W + x.at) * C + b * PAIR;
            run(at, (int64_t)cols * PAIR, x.taps ? y.taps : 0, panel, sx, x.count, out, (int64_t)x.step * C, there);
          }
          panel += y.taps * x.taps * PAIR;
        }
    }
  });
}

// ---- the gradient of the weights
template <int KX, int S, int KY, int T>
static inline void add(const bf16* x, int64_t row, const bf16* g, int s, __m512 (&e)[KY][KX], __m512 (&o)[KY][KX]) {
  __m512 ge[T], go[T];
#pragma GCC unroll 4
  for (int t = 0; t < T; t++) {
    __m512i v = _mm512_load_si512(g + t * PAIR);
    ge[t] = even(v);
    go[t] = odd(v);
  }
#pragma GCC unroll 4
  for (int y = 0; y < KY; y++) {
    if (S == 0) {
#pragma GCC unroll 8
      for (int k = 0; k < KX; k++)
        for (int t = 0; t < T; t++) {
          __m512i v = _mm512_load_si512(x + y * row + (t * s + k) * PAIR);
          e[y][k] = _mm512_fmadd_ps(even(v), ge[t], e[y][k]);
          o[y][k] = _mm512_fmadd_ps(odd(v), go[t], o[y][k]);
        }
      continue;
    }
#pragma GCC unroll 32
    for (int col = 0; col < (T - 1) * S + KX; col++) {
      if (col % (S ? S : 1) >= KX) continue;
      __m512i v = _mm512_load_si512(x + y * row + col * PAIR);
      __m512 ve = even(v), vo = odd(v);
#pragma GCC unroll 4
      for (int t = 0; t < T; t++) {
        int k = col - t * S;
        if (k >= 0 && k < KX) {
          e[y][k] = _mm512_fmadd_ps(ve, ge[t], e[y][k]);
          o[y][k] = _mm512_fmadd_ps(vo, go[t], o[y][k]);
        }
      }
    }
  }
}
// KY rows of taps over all rows of a band, with sums of even and of odd channels
template <int KX, int S, int KY>
static void add_band(const bf16* x, int64_t row, const bf16* g, int rows, int count, int sy, int s, float* sums) {
  __m512 e[KY][KX], o[KY][KX];
  for (int y = 0; y < KY; y++)
    for (int k = 0; k < KX; k++) e[y][k] = o[y][k] = _mm512_setzero_ps();
  for (int i = 0; i < rows; i++) {
    const bf16 *xi = x + i * sy * row, *gi = g + (int64_t)i * count * PAIR;
    int j = 0;
    for (; j + 4 <= count; j += 4) add<KX, S, KY, 4>(xi + (int64_t)j * s * PAIR, row, gi + j * PAIR, s, e, o);
    for (; j < count; j++) add<KX, S, KY, 1>(xi + (int64_t)j * s * PAIR, row, gi + j * PAIR, s, e, o);
  }
  for (int y = 0; y < KY; y++)
    for (int k = 0; k < KX; k++) {
      float* to = sums + (y * KX + k) * PAIR;
      _mm512_store_ps(to, _mm512_load_ps(to) + e[y][k]);
      _mm512_store_ps(to + LANES, _mm512_load_ps(to + LANES) + o[y][k]);
    }
}
template <int KX, int S>
static void add_taps(const bf16* x, int64_t row, const bf16* g, int rows, int count, int ky, int sy, int s, float* sums) {
  const int KY = KX <= 3 ? 3 : KX <= 5 ? 2 : 1;  // as many as fit into the registers
  int y = 0;
  for (; y + KY <= ky; y += KY) add_band<KX, S, KY>(x + y * row, row, g, rows, count, sy, s, sums + y * KX * PAIR);
  for (; y < ky; y++) add_band<KX, S, 1>(x + y * row, row, g, rows, count, sy, s, sums + y * KX * PAIR);
}
typedef void (*taps_t)(const bf16*, int64_t, const bf16*, int, int, int, int, int, float*);
static taps_t taps_of(int kx, int s) {
#define ONE(KX) add_taps<KX, 1>
#define TWO(KX) add_taps<KX, 2>
#define ANY(KX) add_taps<KX, 0>
  return s == 1 && is_usual(kx) ? BY_ODD_TAPS(kx, ONE) : s == 2 && is_usual(kx) ? BY_ODD_TAPS(kx, TWO) : BY_TAPS(kx, ANY);
#undef ONE
#undef TWO
#undef ANY
}

static void weight_gradient(const bf16* x, const bf16* g, float* dw, Map from, Map to, int ky, int kx, int sy, int sx,
                            int py, int px, int threads) {
  int C = from.C, blocks = ceil_div(C, PAIR), cols = (to.W - 1) * sx + kx;
  int fit = (int)(BAND_BYTES / sizeof(bf16) / PAIR) / (cols * sy + to.W);
  int band = std::max(1, std::min(to.H, std::max(fit, 2))), bands = ceil_div(to.H, band), rows = (band - 1) * sy + ky;
  int64_t units = (int64_t)from.N * bands;
  int parts = (int)std::min<int64_t>(units, std::max(4, ceil_div(64, blocks)));
  size_t length = (size_t)ky * kx * PAIR;
  float* sums = scratch<float>(2, (size_t)parts * blocks * length);
  taps_t run = taps_of(kx, sx);
  parallel(threads, [&](int me, int of) {
    bf16 *xs = scratch<bf16>(0, (size_t)rows * cols * PAIR), *gs = scratch<bf16>(1, (size_t)band * to.W * PAIR);
    int64_t first, last;
    share((int64_t)parts * blocks, me, of, first, last);
    for (int64_t task = first; task < last; task++) {
      int b = task % blocks;
      int64_t begin, end;
      share(units, task / blocks, parts, begin, end);
      float* mine = sums + task * length;
      std::fill(mine, mine + length, 0.f);
      for (int64_t u = begin; u < end; u++) {
        int n = u / bands, i0 = u % bands * band, these = std::min(band, to.H - i0);
        copy(x, from, n, b * PAIR, i0 * sy - py, (these - 1) * sy + ky, -px, cols, xs);
        copy(g, to, n, b * PAIR, i0, these, 0, to.W, gs);
        run(xs, (int64_t)cols * PAIR, gs, these, to.W, ky, sy, sx, mine);
      }
    }
  });
  for (int b = 0; b < blocks; b++)
    for (int k = 0; k < ky * kx; k++)
      for (int c = 0; c < std::min(PAIR, C - b * PAIR); c++) {
        float sum = 0.f;
        for (int part = 0; part < parts; part++)
          sum += sums[((size_t)part * blocks + b) * length + (size_t)k * PAIR + c % 2 * LANES + c / 2];
        dw[(int64_t)k * C + b * PAIR + c] = sum;
      }
}

// x (N, H, W, C), w (KY, KX, C) -> y (N, OH, OW, C)
extern "C" int visus_depthwise_forward(const bf16* x, const float* w, bf16* y, int N, int H, int W, int C, int OH, int OW,
                                       int ky, int kx, int sy, int sx, int py, int px, int threads) {
  return status_of(threads, [&] {
    convolve(x, w, y, {N, H, W, C}, {N, OH, OW, C}, kx, sy, sx, {forward_axis(OH, ky, py)}, {forward_axis(OW, kx, px)},
             threads);
  });
}
extern "C" int visus_depthwise_input_gradient(const bf16* dy, const float* w, bf16* dx, int N, int H, int W, int C, int OH,
                                              int OW, int ky, int kx, int sy, int sx, int py, int px, int threads) {
  return status_of(threads, [&] {
    std::vector<Axis> ys, xs;
    for (int r = 0; r < sy; r++) ys.push_back(gradient_axis(H, ky, sy, py, r));
    for (int r = 0; r < sx; r++) xs.push_back(gradient_axis(W, kx, sx, px, r));
    convolve(dy, w, dx, {N, OH, OW, C}, {N, H, W, C}, kx, 1, 1, ys, xs, threads);
  });
}
extern "C" int visus_depthwise_weight_gradient(const bf16* x, const bf16* dy, float* dw, int N, int H, int W, int C, int OH,
                                               int OW, int ky, int kx, int sy, int sx, int py, int px, int threads) {
  return status_of(threads,
                   [&] { weight_gradient(x, dy, dw, {N, H, W, C}, {N, OH, OW, C}, ky, kx, sy, sx, py, px, threads); });
}

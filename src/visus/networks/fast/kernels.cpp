// Convolutions of 3 x 3 taps, stride 1, in bfloat16 with sums in float32, by Winograd's F(2 x 2, 3 x 3), for AVX-512 BF16.
//
// Winograd 1980; Lavin and Gray 2016 (arXiv:1509.09308, sections 4.1 and 4.3): a tile of 2 x 2 outputs depends on a patch d of
// 4 x 4 inputs. With the transforms B, G and A,
//
//     y = A' [ (G g G') * (B' d B) ] A        for each pair of channels, summed over the input channels,
//
// so each of the 16 positions of a patch is a matrix product, and a tile takes 16 multiplications instead of 36.
// The gradients are the adjoints of the same four steps: dM = A dy A', dd = B (dM U') B', dg = G' (V' dM) G.
//
// Layouts: maps (N, H, W, channels) bfloat16; weights (9, C, K) float32; transformed weights in panels of 64 output channels,
// [panel][position][pair of input channels][output channel][2], the order in which the dot product of pairs reads them.
// With 2 x 2 max pooling, a tile is one pooled value, so the full map is never written; `argmax` holds the index of the maximum.
//
// An infinite or NaN input affects every output that it affects in a direct convolution, and at most the rest of the tiles that
// read it. Each function returns 0, or 1 if it could not allocate its scratch memory.

#include "activations.h"
#include "processor.h"

static const int MR = 6, PANEL = 64;

extern "C" void visus_threads(void* fork, void* number, void* count) {
  fork_ = (fork_t)fork;
  number_ = (ask_t)number;
  count_ = (ask_t)count;
}
extern "C" size_t visus_held_bytes() { return held_; }

// ---- product: out[m][n] (+)= sum over pairs of a[m * rs + p * ps] . b[p * width + n]
template <int M, int V, bool ADD>
static inline void tile(int pairs, const int32_t* a, int64_t rs, int64_t ps, const int32_t* b, int64_t bs, float* out,
                        int64_t os) {
  __m512 s[M][V];
  for (int i = 0; i < M; i++)
    for (int v = 0; v < V; v++) s[i][v] = _mm512_setzero_ps();
  if (ADD)
    for (int i = 0; i < M; i++)
      for (int v = 0; v < V; v++) _mm_prefetch((const char*)(out + i * os + v * 16), _MM_HINT_T0);
  for (int p = 0; p < pairs; p++) {
    __m512i w[V];
    for (int v = 0; v < V; v++) w[v] = _mm512_load_si512(b + v * 16);
    for (int i = 0; i < M; i++) {
      __m512i x = _mm512_set1_epi32(a[i * rs]);
      for (int v = 0; v < V; v++) s[i][v] = _mm512_dpbf16_ps(s[i][v], (__m512bh)x, (__m512bh)w[v]);
    }
    a += ps;
    b += bs;
  }
  for (int i = 0; i < M; i++)
    for (int v = 0; v < V; v++) {
      float* to = out + i * os + v * 16;
      _mm512_storeu_ps(to, ADD ? _mm512_loadu_ps(to) + s[i][v] : s[i][v]);
    }
}
template <int V, bool ADD>
static void rows(int m, int pairs, const int32_t* a, int64_t rs, int64_t ps, const int32_t* b, int64_t bs, float* out,
                 int64_t os) {
  for (; m >= MR; m -= MR, a += MR * rs, out += MR * os) tile<MR, V, ADD>(pairs, a, rs, ps, b, bs, out, os);
  switch (m) {
    case 5:
      tile<5, V, ADD>(pairs, a, rs, ps, b, bs, out, os);
      break;
    case 4:
      tile<4, V, ADD>(pairs, a, rs, ps, b, bs, out, os);
      break;
    case 3:
      tile<3, V, ADD>(pairs, a, rs, ps, b, bs, out, os);
      break;
    case 2:
      tile<2, V, ADD>(pairs, a, rs, ps, b, bs, out, os);
      break;
    case 1:
      tile<1, V, ADD>(pairs, a, rs, ps, b, bs, out, os);
      break;
  }
}
template <bool ADD>
static void product(int m, int width, int pairs, const int32_t* a, int64_t rs, int64_t ps, const int32_t* b, float* out,
                    int64_t os) {
  switch (width / LANES) {
    case 4:
      rows<4, ADD>(m, pairs, a, rs, ps, b, width, out, os);
      break;
    case 3:
      rows<3, ADD>(m, pairs, a, rs, ps, b, width, out, os);
      break;
    case 2:
      rows<2, ADD>(m, pairs, a, rs, ps, b, width, out, os);
      break;
    case 1:
      rows<1, ADD>(m, pairs, a, rs, ps, b, width, out, os);
      break;
  }
}
static inline int up(int n, int to) { return (n + to - 1) / to * to; }

// ---- the four transforms
static inline void input_transform(__m512 d[16]) {  // B' d B
  for (int j = 0; j < 4; j++) {
    __m512 a = d[j], b = d[4 + j], c = d[8 + j], e = d[12 + j];
    d[j] = a - c;
    d[4 + j] = b + c;
    d[8 + j] = c - b;
    d[12 + j] = b - e;
  }
  for (int i = 0; i < 16; i += 4) {
    __m512 a = d[i], b = d[i + 1], c = d[i + 2], e = d[i + 3];
    d[i] = a - c;
    d[i + 1] = b + c;
    d[i + 2] = c - b;
    d[i + 3] = b - e;
  }
}
static inline void from_input(__m512 d[16]) {  // B d B', its adjoint
  for (int j = 0; j < 4; j++) {
    __m512 a = d[j], b = d[4 + j], c = d[8 + j], e = d[12 + j];
    d[j] = a;
    d[4 + j] = b - c + e;
    d[8 + j] = b + c - a;
    d[12 + j] = _mm512_setzero_ps() - e;
  }
  for (int i = 0; i < 16; i += 4) {
    __m512 a = d[i], b = d[i + 1], c = d[i + 2], e = d[i + 3];
    d[i] = a;
    d[i + 1] = b - c + e;
    d[i + 2] = b + c - a;
    d[i + 3] = _mm512_setzero_ps() - e;
  }
}
static inline void output_transform(const __m512 m[16], __m512 y[4]) {  // A' m A
  __m512 t[8];
  for (int j = 0; j < 4; j++) {
    t[j] = m[j] + m[4 + j] + m[8 + j];
    t[4 + j] = m[4 + j] - m[8 + j] - m[12 + j];
  }
  for (int i = 0; i < 2; i++) {
    const __m512* r = t + 4 * i;
    y[2 * i] = r[0] + r[1] + r[2];
    y[2 * i + 1] = r[1] - r[2] - r[3];
  }
}
static inline void into_output(const __m512 y[4], __m512 m[16]) {  // A y A', its adjoint
  __m512 t[8];
  for (int j = 0; j < 2; j++) {
    t[j] = y[j];
    t[2 + j] = y[j] + y[2 + j];
    t[4 + j] = y[j] - y[2 + j];
    t[6 + j] = _mm512_setzero_ps() - y[2 + j];
  }
  for (int i = 0; i < 4; i++) {
    __m512 a = t[2 * i], b = t[2 * i + 1];
    m[4 * i] = a;
    m[4 * i + 1] = a + b;
    m[4 * i + 2] = a - b;
    m[4 * i + 3] = _mm512_setzero_ps() - b;
  }
}

struct Shape {
  int N, H, W, C, K, pad, th, tw, pooled, oh, ow;
};

static inline void read_patch(const bf16* x, const Shape& s, int n, int ty, int tx, int c, __mmask16 mask, __m512 d[16]) {
  int y0 = 2 * ty - s.pad, x0 = 2 * tx - s.pad;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      int yy = y0 + i, xx = x0 + j;
      d[4 * i + j] = (unsigned)yy < (unsigned)s.H && (unsigned)xx < (unsigned)s.W
                         ? load(x + (((int64_t)n * s.H + yy) * s.W + xx) * s.C + c, mask)
                         : _mm512_setzero_ps();
    }
}

// weights (9, C, K) float32 -> panels [K / 64][16][C / 2][64] of pairs
static void winograd_weights(const float* w, int C, int K, bf16* out, int threads) {
  int pairs = (C + 1) / 2, Kp = up(K, LANES);
  parallel(threads, [&](int me, int of) {
    int64_t first, last;
    share(pairs, me, of, first, last);
    for (int64_t p = first; p < last; p++)
      for (int k = 0; k < K; k += LANES) {
        __mmask16 mask = lanes(K - k);
        __m512 u[2][16];
        for (int h = 0; h < 2; h++) {
          int c = 2 * p + h;
          __m512 g[9], t[12];
          for (int i = 0; i < 9; i++)
            g[i] = c < C ? _mm512_maskz_loadu_ps(mask, w + ((int64_t)i * C + c) * K + k) : _mm512_setzero_ps();
          __m512 half = _mm512_set1_ps(0.5f);
          for (int j = 0; j < 3; j++) {
            __m512 e = g[j] + g[6 + j];
            t[j] = g[j];
            t[3 + j] = half * (e + g[3 + j]);
            t[6 + j] = half * (e - g[3 + j]);
            t[9 + j] = g[6 + j];
          }
          for (int i = 0; i < 4; i++) {
            __m512 e = t[3 * i] + t[3 * i + 2];
            u[h][4 * i] = t[3 * i];
            u[h][4 * i + 1] = half * (e + t[3 * i + 1]);
            u[h][4 * i + 2] = half * (e - t[3 * i + 1]);
            u[h][4 * i + 3] = t[3 * i + 2];
          }
        }
        int nb = k / PANEL, width = std::min(PANEL, Kp - nb * PANEL);
        int32_t* base = (int32_t*)out + (int64_t)nb * PANEL * 16 * pairs;
        for (int q = 0; q < 16; q++)
          _mm512_storeu_si512(base + ((int64_t)q * pairs + p) * width + (k - nb * PANEL), zip(u[0][q], u[1][q]));
      }
  });
}

// V[q][t][pairs of C]
static void input_rows(const bf16* x, const Shape& s, int64_t t0, int tiles, int32_t* V, int64_t qs, int ld) {
  int per = s.th * s.tw;
  for (int t = 0; t < tiles; t++) {
    int64_t g = t0 + t;
    int n = g / per, r = g % per, ty = r / s.tw, tx = r % s.tw;
    for (int c = 0; c < s.C; c += LANES) {
      __m512 d[16];
      read_patch(x, s, n, ty, tx, c, lanes(s.C - c), d);
      input_transform(d);
      for (int q = 0; q < 16; q++) _mm256_storeu_si256((__m256i*)((bf16*)(V + q * qs + (int64_t)t * ld) + c), narrow(d[q]));
    }
  }
}

// x (N, H, W, C) bf16, u from visus_winograd_weights -> y (N, oh, ow, K) bf16; pooled: maximum of each 2 x 2, and its index
static void winograd_forward(const bf16* x, const bf16* u, bf16* y, uint8_t* argmax, int N, int H, int W, int C, int K,
                             int pad, int oh, int ow, int pooled, int threads) {
  Shape s{N, H, W, C, K, pad, (oh + 1) / 2, (ow + 1) / 2, pooled, oh, ow};
  if (pooled) {
    s.th = oh / 2;
    s.tw = ow / 2;
  }
  const int TB = 36;
  int per = s.th * s.tw;
  int64_t total = (int64_t)N * per;
  int64_t blocks = (total + TB - 1) / TB;
  int pairs = (C + 1) / 2, ld = up(C, LANES) / 2, Kp = up(K, LANES);
  int64_t qs = (int64_t)TB * ld + 48, ms = (int64_t)TB * PANEL + 48;
  parallel(threads, [&](int me, int of) {
    int32_t* V = scratch<int32_t>(0, 16 * qs);
    float* M = scratch<float>(1, 16 * ms);
    int64_t first, last;
    share(blocks, me, of, first, last);
    for (int64_t b = first; b < last; b++) {
      int64_t t0 = b * TB;
      int tiles = (int)std::min<int64_t>(TB, total - t0);
      input_rows(x, s, t0, tiles, V, qs, ld);
      for (int k0 = 0; k0 < Kp; k0 += PANEL) {
        int width = std::min(PANEL, Kp - k0);
        const int32_t* panel = (const int32_t*)u + (int64_t)k0 * 16 * pairs;
        for (int q = 0; q < 16; q++)
          product<false>(tiles, width, pairs, V + q * qs, ld, 1, panel + (int64_t)q * pairs * width, M + q * ms, PANEL);
        for (int t = 0; t < tiles; t++) {
          int64_t g = t0 + t;
          int n = g / per, r = g % per, ty = r / s.tw, tx = r % s.tw;
          for (int k = 0; k < width && k0 + k < K; k += LANES) {
            __mmask16 mask = lanes(K - k0 - k);
            __m512 m[16], o[4];
            for (int q = 0; q < 16; q++) m[q] = _mm512_loadu_ps(M + q * ms + (int64_t)t * PANEL + k);
            output_transform(m, o);
            if (pooled) {
              __m512 best = o[0];
              __m512i at = _mm512_setzero_si512();
              for (int i = 1; i < 4; i++) {
                __mmask16 more = _mm512_cmp_ps_mask(o[i], best, _CMP_GT_OQ) | _mm512_cmp_ps_mask(o[i], o[i], _CMP_UNORD_Q);
                best = _mm512_mask_mov_ps(best, more, o[i]);
                at = _mm512_mask_set1_epi32(at, more, i);
              }
              int64_t to = (((int64_t)n * s.th + ty) * s.tw + tx) * K + k0 + k;
              store(y + to, mask, narrow(best));
              if (mask == ALL) _mm_storeu_si128((__m128i*)(argmax + to), _mm512_cvtepi32_epi8(at));
              else _mm_mask_storeu_epi8(argmax + to, mask, _mm512_cvtepi32_epi8(at));
            } else
              for (int i = 0; i < 4; i++) {
                int yy = 2 * ty + i / 2, xx = 2 * tx + i % 2;
                if (yy < oh && xx < ow) store(y + (((int64_t)n * oh + yy) * ow + xx) * K + k0 + k, mask, narrow(o[i]));
              }
          }
        }
      }
    }
  });
}

// gradients of x (dx, may be null) and of the weights (dw, may be null), (9, C, K) float32
static void winograd_backward(const bf16* dy, const uint8_t* argmax, const bf16* x, const bf16* ut, bf16* dx, float* dw,
                              int N, int H, int W, int C, int K, int pad, int oh, int ow, int pooled, int threads) {
  Shape s{N, H, W, C, K, pad, (oh + 1) / 2, (ow + 1) / 2, pooled, oh, ow};
  if (pooled) {
    s.th = oh / 2;
    s.tw = ow / 2;
  }
  int per = s.th * s.tw, group = std::max(1, std::min(N, (128 + per / 2) / per)), TB = up(group * per, 2);
  int64_t blocks = (N + group - 1) / group;
  int Cp = up(C, LANES), Kp = up(K, LANES), kpairs = (K + 1) / 2, ldk = Kp / 2, half = TB / 2, ldc = Cp + 16;
  int64_t gs = (int64_t)TB * ldk + 48, vs = (int64_t)TB * PANEL + 48, zs = (int64_t)half * Kp + 48,
          xs = (int64_t)half * ldc + 48;
  int bh = 2 * s.th + 2, bw = 2 * s.tw + 2;
  std::vector<float*> sums(std::max(1, threads), nullptr);
  int64_t us = (int64_t)C * Kp + 16;
  parallel(threads, [&](int me, int of) {
    int32_t* G = dx ? scratch<int32_t>(0, 16 * gs) : nullptr;
    float* D = dx ? scratch<float>(1, 16 * vs) : nullptr;
    int32_t* Z = dw ? scratch<int32_t>(2, 16 * zs) : nullptr;
    int32_t* X = dw ? scratch<int32_t>(3, 16 * xs) : nullptr;
    float* S = dw ? scratch<float>(4, 16 * us) : nullptr;
    float* P = dx ? scratch<float>(5, (size_t)group * bh * bw * PANEL) : nullptr;
    if (dw) { memset(S, 0, 16 * us * sizeof(float)); }
    int64_t first, last;
    share(blocks, me, of, first, last);
    if (dw && last > first) sums[me] = S;
    for (int64_t b = first; b < last; b++) {
      int n0 = b * group, images = std::min(group, N - n0), tiles = images * per, evened = up(tiles, 2);
      // gradient of the products, for two tiles at a time
      for (int t = 0; t < evened; t += 2)
        for (int k = 0; k < Kp; k += LANES) {
          __mmask16 mask = lanes(K - k);
          __m512 m[2][16];
          for (int h = 0; h < 2; h++) {
            int r = (t + h) % per, n = n0 + (t + h) / per, ty = r / s.tw, tx = r % s.tw;
            __m512 o[4];
            if (t + h >= tiles || !mask) {
              for (int q = 0; q < 16; q++) m[h][q] = _mm512_setzero_ps();
              continue;
            }
            if (pooled) {
              int64_t from = (((int64_t)n * s.th + ty) * s.tw + tx) * K + k;
              __m512 g = load(dy + from, mask);
              __m512i at = _mm512_cvtepu8_epi32(mask == ALL ? _mm_loadu_si128((const __m128i*)(argmax + from))
                                                            : _mm_maskz_loadu_epi8(mask, argmax + from));
              for (int i = 0; i < 4; i++) o[i] = _mm512_maskz_mov_ps(_mm512_cmpeq_epi32_mask(at, _mm512_set1_epi32(i)), g);
            } else
              for (int i = 0; i < 4; i++) {
                int yy = 2 * ty + i / 2, xx = 2 * tx + i % 2;
                o[i] =
                    yy < oh && xx < ow ? load(dy + (((int64_t)n * oh + yy) * ow + xx) * K + k, mask) : _mm512_setzero_ps();
              }
            into_output(o, m[h]);
          }
          if (dx)
            for (int h = 0; h < 2; h++)
              for (int q = 0; q < 16; q++)
                _mm256_storeu_si256((__m256i*)((bf16*)(G + q * gs + (int64_t)(t + h) * ldk) + k), narrow(m[h][q]));
          if (dw) {
            int nb = k / PANEL, width = std::min(PANEL, Kp - nb * PANEL);
            for (int q = 0; q < 16; q++)
              _mm512_storeu_si512(
                  Z + q * zs + (int64_t)nb * PANEL * (evened / 2) + (int64_t)(t / 2) * width + k - nb * PANEL,
                  zip(m[0][q], m[1][q]));
          }
        }
      if (dx)
        for (int c0 = 0; c0 < Cp; c0 += PANEL) {
          int width = std::min(PANEL, Cp - c0);
          const int32_t* panel = (const int32_t*)ut + (int64_t)c0 * 16 * kpairs;
          for (int q = 0; q < 16; q++)
            product<false>(tiles, width, kpairs, G + q * gs, ldk, 1, panel + (int64_t)q * kpairs * width, D + q * vs, PANEL);
          memset(P, 0, (size_t)images * bh * bw * PANEL * sizeof(float));
          for (int t = 0; t < tiles; t++) {
            int n = t / per, r = t % per, ty = r / s.tw, tx = r % s.tw;
            float* to = P + (((int64_t)n * bh + 2 * ty) * bw + 2 * tx) * PANEL;
            for (int c = 0; c < width; c += LANES) {
              __m512 d[16];
              for (int q = 0; q < 16; q++) d[q] = _mm512_loadu_ps(D + q * vs + (int64_t)t * PANEL + c);
              from_input(d);
              for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) {
                  float* p = to + ((int64_t)i * bw + j) * PANEL + c;
                  _mm512_store_ps(p, _mm512_load_ps(p) + d[4 * i + j]);
                }
            }
          }
          for (int n = 0; n < images; n++)
            for (int yy = 0; yy < H; yy++)
              for (int xx = 0; xx < W; xx++) {
                bf16* to = dx + (((int64_t)(n0 + n) * H + yy) * W + xx) * C + c0;
                bool in = yy + pad < bh && xx + pad < bw;
                const float* from = P + (((int64_t)n * bh + yy + pad) * bw + xx + pad) * PANEL;
                for (int c = 0; c < width && c0 + c < C; c += LANES)
                  store(to + c, lanes(C - c0 - c), in ? narrow(_mm512_load_ps(from + c)) : _mm256_setzero_si256());
              }
        }
      if (dw) {
        for (int t = 0; t < evened; t += 2)
          for (int c = 0; c < C; c += LANES) {
            __m512 d[2][16];
            __mmask16 mask = lanes(C - c);
            for (int h = 0; h < 2; h++) {
              int r = (t + h) % per, n = n0 + (t + h) / per;
              if (t + h < tiles) {
                read_patch(x, s, n, r / s.tw, r % s.tw, c, mask, d[h]);
                input_transform(d[h]);
              } else
                for (int q = 0; q < 16; q++) d[h][q] = _mm512_setzero_ps();
            }
            for (int q = 0; q < 16; q++) _mm512_storeu_si512(X + q * xs + (int64_t)(t / 2) * ldc + c, zip(d[0][q], d[1][q]));
          }
        for (int q = 0; q < 16; q++)
          for (int k0 = 0; k0 < Kp; k0 += PANEL) {
            int width = std::min(PANEL, Kp - k0);
            product<true>(C, width, evened / 2, X + q * xs, 1, ldc, Z + q * zs + (int64_t)k0 * (evened / 2), S + q * us + k0,
                          Kp);
          }
      }
    }
  });
  if (dw)
    parallel(threads, [&](int me, int of) {
      int64_t first, last;
      share(C, me, of, first, last);
      for (int64_t c = first; c < last; c++)
        for (int k = 0; k < K; k += LANES) {
          __m512 u[16], t[12];
          __mmask16 mask = lanes(K - k);
          for (int q = 0; q < 16; q++) {
            u[q] = _mm512_setzero_ps();
            for (size_t i = 0; i < sums.size(); i++)
              if (sums[i]) u[q] += _mm512_loadu_ps(sums[i] + q * us + c * Kp + k);
          }
          __m512 half = _mm512_set1_ps(0.5f);
          for (int j = 0; j < 4; j++) {
            __m512 p = half * (u[4 + j] + u[8 + j]), m = half * (u[4 + j] - u[8 + j]);
            t[j] = u[j] + p;
            t[4 + j] = m;
            t[8 + j] = p + u[12 + j];
          }
          for (int i = 0; i < 3; i++) {
            __m512 p = half * (t[4 * i + 1] + t[4 * i + 2]), m = half * (t[4 * i + 1] - t[4 * i + 2]);
            __m512 r[3] = {t[4 * i] + p, m, p + t[4 * i + 3]};
            for (int j = 0; j < 3; j++) _mm512_mask_storeu_ps(dw + ((int64_t)(3 * i + j) * C + c) * K + k, mask, r[j]);
          }
        }
    });
}

extern "C" int visus_winograd_weights(const float* w, int C, int K, bf16* out, int threads) {
  return status_of(threads, [&] { winograd_weights(w, C, K, out, threads); });
}
extern "C" int visus_winograd_forward(const bf16* x, const bf16* u, bf16* y, uint8_t* argmax, int N, int H, int W, int C,
                                      int K, int pad, int oh, int ow, int pooled, int threads) {
  return status_of(threads, [&] { winograd_forward(x, u, y, argmax, N, H, W, C, K, pad, oh, ow, pooled, threads); });
}
extern "C" int visus_winograd_backward(const bf16* dy, const uint8_t* argmax, const bf16* x, const bf16* ut, bf16* dx,
                                       float* dw, int N, int H, int W, int C, int K, int pad, int oh, int ow, int pooled,
                                       int threads) {
  return status_of(threads,
                   [&] { winograd_backward(dy, argmax, x, ut, dx, dw, N, H, W, C, K, pad, oh, ow, pooled, threads); });
}

// ---- batch norm with the activation after it; rows are positions of all samples, columns are channels
// Sums of two values per channel over all rows: in float32 over a few rows, then in double.
template <class Two>
static void sum_rows(int64_t rows, int K, double* total, int threads, Two two) {
  std::vector<std::vector<double>> parts(std::max(1, threads));
  parallel(threads, [&](int me, int of) {
    std::vector<double>& mine = parts[me];
    mine.assign(2 * K, 0.0);
    int64_t first, last, few = std::max(8, 8192 / K);
    share(rows, me, of, first, last);
    for (int64_t r0 = first; r0 < last; r0 += few)
      for (int k = 0; k < K; k += LANES) {
        __mmask16 mask = lanes(K - k);
        __m512 a = _mm512_setzero_ps(), b = a;
        auto of_row = two(k, mask);  // loads the coefficients of its channels once
        for (int64_t r = r0, end = std::min(last, r0 + few); r < end; r++) of_row(r, a, b);
        float x[LANES], y[LANES];
        _mm512_storeu_ps(x, a);
        _mm512_storeu_ps(y, b);
        for (int i = 0; i < LANES && k + i < K; i++) {
          mine[k + i] += x[i];
          mine[K + k + i] += y[i];
        }
      }
  });
  std::fill(total, total + 2 * K, 0.0);
  for (auto& part : parts)
    for (size_t i = 0; i < part.size(); i++) total[i] += part[i];
}
template <class Row>
static void each_row(int64_t rows, int K, int threads, Row row) {
  parallel(threads, [&](int me, int of) {
    int64_t first, last;
    share(rows, me, of, first, last);
    for (int64_t r = first; r < last; r++)
      for (int k = 0; k < K; k += LANES) row(r, k, lanes(K - k));
  });
}

// Each direction has two halves, channel sums and then the maps, so that several processes can reduce their sums in between.
//
// Sums of the values and of their squares. E[x^2] - E[x]^2 loses all precision if the mean is large relative to the standard
// deviation. Therefore each channel sums differences from a center (Chan, Golub and LeVeque 1983,
// doi:10.1080/00031305.1983.10483115, the shifted algorithm): the mean of some rows. These sums are converted in double, where a
// mean of 10,000 standard deviations still leaves 8 digits of the variance. If the center turns out to be far from a channel's
// mean, the sums are computed again around that mean.
static const int SAMPLED_ROWS = 32;
static const double FAR =
    4;  // standard deviations between center and mean; up to this, float32 keeps 5 digits of the variance
static void centered_sums(const bf16* x, int64_t rows, int K, const float* center, double* total, int threads) {
  sum_rows(rows, K, total, threads, [=](int k, __mmask16 m) {
    __m512 middle = loaded(center, k, m);
    return [=](int64_t r, __m512& a, __m512& b) {
      __m512 d = load(x + r * K + k, m) - middle;
      a += d;
      b = _mm512_fmadd_ps(d, d, b);
    };
  });
}
static void norm_sums(const bf16* x, int64_t rows, int K, double* total, int threads) {
  std::vector<float> center(K, 0.f);
  int sampled = (int)std::min<int64_t>(SAMPLED_ROWS, rows);
  for (int i = 0; i < sampled; i++) {
    const bf16* row = x + (2 * i + 1) * rows / (2 * sampled) * K;
    for (int k = 0; k < K; k++) {
      uint32_t bits = (uint32_t)row[k] << 16;
      float v;
      memcpy(&v, &bits, sizeof v);
      center[k] += v;
    }
  }
  for (int k = 0; k < K; k++) {
    center[k] /= sampled;
    if (!std::isfinite(center[k])) center[k] = 0.f;
  }
  for (int pass = 0; pass < 2; pass++) {
    centered_sums(x, rows, K, center.data(), total, threads);
    bool is_far = false;
    if (pass == 0)
      for (int k = 0; k < K; k++) {
        double distance = total[k] / rows, variance = std::max(0.0, total[K + k] / rows - distance * distance);
        if (std::isfinite(distance) && distance * distance > FAR * FAR * variance && distance != 0) {
          center[k] += (float)distance;
          is_far = true;
        }
      }
    if (!is_far) break;
  }
  for (int k = 0; k < K; k++) {
    double c = center[k], of_distances = total[k];
    total[k] += rows * c;
    total[K + k] += 2 * c * of_distances + rows * c * c;
  }
}
template <int ACT>
static void norm_forward(const bf16* x, int64_t rows, int K, const float* scale, const float* base, bf16* out, int threads) {
  each_row(rows, K, threads, [&](int64_t r, int k, __mmask16 m) {
    __m512 value, slope;
    activate<ACT>(_mm512_fmadd_ps(load(x + r * K + k, m), loaded(scale, k, m), loaded(base, k, m)), value, slope);
    store(out + r * K + k, m, narrow(value));
  });
}
// gradient of the activation's output, and input of the norm
template <int ACT>
static inline __m512 through(const bf16* dout, const bf16* x, int64_t at, int k, __mmask16 m, const float* scale,
                             const float* base, __m512& v) {
  v = load(x + at, m);
  return back<ACT>(_mm512_fmadd_ps(v, loaded(scale, k, m), loaded(base, k, m)), load(dout + at, m));
}
// sums of the gradients, and of gradients times normalized values inv x + off
template <int ACT>
static void norm_backward_sums(const bf16* dout, const bf16* x, int64_t rows, int K, const float* scale, const float* base,
                               const float* inv, const float* off, double* total, int threads) {
  sum_rows(rows, K, total, threads, [=](int k, __mmask16 m) {
    __m512 slope = loaded(inv, k, m), start = loaded(off, k, m);
    return [=](int64_t r, __m512& a, __m512& b) {
      __m512 v, g = through<ACT>(dout, x, r * K + k, k, m, scale, base, v);
      a += g;
      b = _mm512_fmadd_ps(g, _mm512_fmadd_ps(v, slope, start), b);
    };
  });
}
// scale g + slant x + level
template <int ACT>
static void norm_backward(const bf16* dout, const bf16* x, int64_t rows, int K, const float* scale, const float* base,
                          const float* slant, const float* level, bf16* dx, int threads) {
  each_row(rows, K, threads, [&](int64_t r, int k, __mmask16 m) {
    __m512 v, g = through<ACT>(dout, x, r * K + k, k, m, scale, base, v);
    __m512 d = _mm512_fmadd_ps(g, loaded(scale, k, m), _mm512_fmadd_ps(v, loaded(slant, k, m), loaded(level, k, m)));
    store(dx + r * K + k, m, narrow(d));
  });
}
extern "C" int visus_norm_sums(const bf16* x, int64_t rows, int K, double* total, int threads) {
  return status_of(threads, [&] { norm_sums(x, rows, K, total, threads); });
}
extern "C" int visus_norm_forward(const bf16* x, int64_t rows, int K, const float* scale, const float* base, int act,
                                  bf16* out, int threads) {
  return status_of(threads, [&] { BY_ACTIVATION(act, norm_forward)(x, rows, K, scale, base, out, threads); });
}
extern "C" int visus_norm_backward_sums(const bf16* dout, const bf16* x, int64_t rows, int K, const float* scale,
                                        const float* base, const float* inv, const float* off, int act, double* total,
                                        int threads) {
  return status_of(threads,
                   [&] { BY_ACTIVATION(act, norm_backward_sums)(dout, x, rows, K, scale, base, inv, off, total, threads); });
}
extern "C" int visus_norm_backward(const bf16* dout, const bf16* x, int64_t rows, int K, const float* scale,
                                   const float* base, const float* slant, const float* level, int act, bf16* dx,
                                   int threads) {
  return status_of(threads,
                   [&] { BY_ACTIVATION(act, norm_backward)(dout, x, rows, K, scale, base, slant, level, dx, threads); });
}
// an activation without a norm
template <int ACT>
static void act_only(const bf16* dout, const bf16* x, int64_t n, bf16* out, int threads) {
  each_row((n + LANES - 1) / LANES, LANES, threads, [&](int64_t r, int, __mmask16) {
    __mmask16 m = lanes((int)std::min<int64_t>(LANES, n - r * LANES));
    __m512 z = load(x + r * LANES, m), value, slope;
    if (dout) value = back<ACT>(z, load(dout + r * LANES, m));
    else activate<ACT>(z, value, slope);
    store(out + r * LANES, m, narrow(value));
  });
}
extern "C" int visus_activation(const bf16* dout, const bf16* x, int64_t n, int act, bf16* out,
                                int threads) {  // forward if dout is null
  return status_of(threads, [&] { BY_ACTIVATION(act, act_only)(dout, x, n, out, threads); });
}

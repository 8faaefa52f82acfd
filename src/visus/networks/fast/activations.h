// Activations and their derivatives, for 16 float32 values. `max` and `min` return the second argument if either is NaN.

#pragma once

#include "processor.h"

enum { NONE, RELU, GELU, SILU, RELU6, HARDSWISH };
#define BY_ACTIVATION(act, f)        \
  (act == RELU        ? f<RELU>      \
   : act == GELU      ? f<GELU>      \
   : act == SILU      ? f<SILU>      \
   : act == RELU6     ? f<RELU6>     \
   : act == HARDSWISH ? f<HARDSWISH> \
                      : f<NONE>)

static inline __m512 exponential(__m512 x) {  // e^x for x <= 0, relative error 2e-7; 0 below -105, where float32 underflows
  x = _mm512_max_ps(_mm512_set1_ps(-110.f), x);
  __m512 n = _mm512_roundscale_ps(x * _mm512_set1_ps(1.44269504f), 0);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f, 1.f, 1.f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, n);
}
static inline __m512 inverse(__m512 x) {  // 1 / x, by one Newton step from 14 bits
  __m512 r = _mm512_rcp14_ps(x);
  return r * _mm512_fnmadd_ps(x, r, _mm512_set1_ps(2.f));
}
// mask of nonzero derivatives; equal for the input and the output of the activation, except for Hardswish
template <int ACT>
static inline __mmask16 open(__m512 z) {
  if (ACT == RELU) return _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_NLE_UQ);
  if (ACT == RELU6)
    return _mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_NLE_UQ) & _mm512_cmp_ps_mask(z, _mm512_set1_ps(6.f), _CMP_NGE_UQ);
  if (ACT == HARDSWISH) return _mm512_cmp_ps_mask(z, _mm512_set1_ps(-3.f), _CMP_NLT_UQ);
  return ALL;
}
// activation and derivative; GELU by the normal distribution's integral, to 1e-7 (Abramowitz and Stegun 1964, 7.1.26)
template <int ACT>
static inline void activate(__m512 z, __m512& value, __m512& slope) {
  __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1.f);
  if (ACT == NONE) {
    value = z;
    slope = one;
  }
  if (ACT == RELU) {
    __mmask16 on = _mm512_cmp_ps_mask(z, zero, _CMP_NLE_UQ);
    value = _mm512_max_ps(zero, z);
    slope = _mm512_maskz_mov_ps(on, one);
  }
  if (ACT == GELU) {
    __m512 a = _mm512_min_ps(_mm512_set1_ps(64.f), _mm512_abs_ps(z)), e = exponential(_mm512_set1_ps(-0.5f) * z * z);
    __m512 t = inverse(_mm512_fmadd_ps(a, _mm512_set1_ps(0.3275911f * 0.70710678f), one)), p = _mm512_set1_ps(1.061405429f);
    for (float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(c));
    __m512 tail = _mm512_set1_ps(0.5f) * p * t * e;  // tail of the normal distribution beyond |z|
    __m512 share = _mm512_mask_sub_ps(tail, _mm512_cmp_ps_mask(z, zero, _CMP_GE_OQ), one, tail);
    value = z * share;
    slope = _mm512_fmadd_ps(z * _mm512_set1_ps(0.39894228f), e, share);
  }
  if (ACT == SILU) {
    __m512 e = exponential(zero - _mm512_abs_ps(z)), s = inverse(one + e);
    s = _mm512_mask_mul_ps(s, _mm512_cmp_ps_mask(z, zero, _CMP_LT_OQ), s, e);
    value = z * s;
    slope = _mm512_fmadd_ps(value, one - s, s);
  }
  __m512 six = _mm512_set1_ps(6.f);
  if (ACT == RELU6) {
    value = _mm512_min_ps(six, _mm512_max_ps(zero, z));
    slope = _mm512_maskz_mov_ps(open<RELU6>(z), one);
  }
  if (ACT == HARDSWISH) {  // z min(max(z + 3, 0), 6) / 6
    __m512 three = _mm512_set1_ps(3.f), sixth = _mm512_set1_ps(1.f / 6.f);
    value = z * _mm512_min_ps(six, _mm512_max_ps(zero, z + three)) * sixth;
    slope = _mm512_mask_mov_ps(_mm512_fmadd_ps(z, _mm512_set1_ps(1.f / 3.f), _mm512_set1_ps(0.5f)),
                               _mm512_cmp_ps_mask(z, three, _CMP_GE_OQ), one);
    slope = _mm512_maskz_mov_ps(open<HARDSWISH>(z), slope);
  }
}

// gradient of the input: exactly 0 where the derivative is 0, even for NaN
template <int ACT>
static inline __m512 back(__m512 z, __m512 gradient) {
  if (ACT == NONE) return gradient;
  if (ACT == RELU || ACT == RELU6) return _mm512_maskz_mov_ps(open<ACT>(z), gradient);
  __m512 value, slope;
  activate<ACT>(z, value, slope);
  return _mm512_maskz_mov_ps(open<ACT>(z), gradient * slope);
}

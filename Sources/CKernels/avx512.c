#include "ckernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

int ckernels_has_avx512(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

#define AVX512 __attribute__((target("avx512f,avx512vl,fma")))

// A row of C is one register. Two FMA units with a latency of four need eight sums; with twenty-four, B is loaded once
// for as many products. `m` and the smaller step are constants where this is inlined.
//
// Four products of a row follow one another, so that their factors lie at fixed places from one address: with an
// address each, the front end could not keep up. Where A is in column order, the rows' factors do. The empty assembly
// keeps the address in one register: with a sum of two, the processor would split each instruction, at a quarter of
// the speed.
AVX512 static inline __attribute__((always_inline)) void rows(
    const int m, intptr_t k, const float *a, intptr_t row_step, intptr_t column_step, const float *b, intptr_t b_step,
    float *c, intptr_t c_step, int accumulate) {
  __m512 sums[24];
#pragma clang loop unroll(full)
  for (int i = 0; i < m; i++) sums[i] = _mm512_setzero_ps();
  intptr_t left = k;
  for (; column_step == 1 && left >= 4; left -= 4) {
    const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + b_step);
    const __m512 b2 = _mm512_loadu_ps(b + 2 * b_step), b3 = _mm512_loadu_ps(b + 3 * b_step);
    const float *from = a;
#pragma clang loop unroll(full)
    for (int i = 0; i < m; i++) {
      sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(from[0]), b0, sums[i]);
      sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(from[1]), b1, sums[i]);
      sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(from[2]), b2, sums[i]);
      sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(from[3]), b3, sums[i]);
      from += row_step;
      __asm__("" : "+r"(from));
    }
    a += 4;
    b += 4 * b_step;
  }
  for (; left > 0; left--) {
    const __m512 row = _mm512_loadu_ps(b);
    const float *from = a;
#pragma clang loop unroll(full)
    for (int i = 0; i < m; i++) {
      sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(*from), row, sums[i]);
      from += row_step;
    }
    a += column_step;
    b += b_step;
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < m; i++) {
    float *to = c + i * c_step;
    _mm512_storeu_ps(to, accumulate ? _mm512_add_ps(sums[i], _mm512_loadu_ps(to)) : sums[i]);
  }
}

// Instances for A in row order and for A in column order, so that one step is a constant.
#define INSTANCE(M)                                                                                                    \
  AVX512 static __attribute__((noinline)) void rows_##M(                                                              \
      intptr_t k, const float *a, intptr_t row_step, intptr_t column_step, const float *b, intptr_t b_step, float *c,  \
      intptr_t c_step, int accumulate) {                                                                               \
    if (column_step == 1) {                                                                                            \
      rows(M, k, a, row_step, 1, b, b_step, c, c_step, accumulate);                                                    \
    } else {                                                                                                           \
      rows(M, k, a, 1, column_step, b, b_step, c, c_step, accumulate);                                                 \
    }                                                                                                                  \
  }
INSTANCE(24)
INSTANCE(12)
INSTANCE(6)
INSTANCE(4)
INSTANCE(2)
INSTANCE(1)

typedef void function(
    intptr_t, const float *, intptr_t, intptr_t, const float *, intptr_t, float *, intptr_t, int);

void ckernels_multiply_avx512(
    intptr_t m, intptr_t k, const float *a, intptr_t row_step, intptr_t column_step, const float *b, intptr_t b_step,
    float *c, intptr_t c_step, int accumulate) {
  static const struct { int m; function *run; } sizes[] = {
      {24, rows_24}, {12, rows_12}, {6, rows_6}, {4, rows_4}, {2, rows_2}, {1, rows_1}};
  for (int size = 0; m > 0;) {
    if (m < sizes[size].m) {
      size++;
      continue;
    }
    sizes[size].run(k, a, row_step, column_step, b, b_step, c, c_step, accumulate);
    a += sizes[size].m * row_step;
    c += sizes[size].m * c_step;
    m -= sizes[size].m;
  }
}

#else

int ckernels_has_avx512(void) { return 0; }

void ckernels_multiply_avx512(
    intptr_t m, intptr_t k, const float *a, intptr_t row_step, intptr_t column_step, const float *b, intptr_t b_step,
    float *c, intptr_t c_step, int accumulate) {
  __builtin_trap();
}

#endif

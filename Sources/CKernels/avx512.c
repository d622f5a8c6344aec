#include "ckernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

int ckernels_has_avx512(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

#define AVX512 __attribute__((target("avx512f,avx512vl,fma")))
#define UNROLL _Pragma("clang loop unroll(full)")

typedef const ckernels_product product;

AVX512 static inline __attribute__((always_inline)) void store(
    product *p, __m512 sum, int column, float *to, const float *residual) {
  if (p->accumulate) sum = _mm512_add_ps(sum, _mm512_loadu_ps(to));
  if (p->mean) {
    sum = _mm512_sub_ps(sum, _mm512_loadu_ps(p->mean + column));
    sum = _mm512_fmadd_ps(sum, _mm512_loadu_ps(p->scale + column), _mm512_loadu_ps(p->shift + column));
    if (residual) sum = _mm512_add_ps(sum, _mm512_loadu_ps(residual));
    // The second operand comes back where one of them is NaN.
    sum = _mm512_max_ps(_mm512_set1_ps(p->floor), sum);
  }
  _mm512_storeu_ps(to, sum);
}

// Up to twelve rows and two registers of columns, from row `top` on. Two FMA units with a latency of four need eight
// sums; with twenty-four, and a factor of A in two products, loads take little more than half of their ports.
//
// Where A is in row order, three rows share an address, and the empty assembly keeps it in a register: with a sum of
// registers for each row, there would be more additions than loads.
AVX512 static inline __attribute__((always_inline)) void tile(
    const int m, const int panels, const int in_rows, product *p, intptr_t top) {
  __m512 sums[2][12];
  UNROLL for (int j = 0; j < panels; j++) UNROLL for (int i = 0; i < m; i++) sums[j][i] = _mm512_setzero_ps();
  const intptr_t row_step = in_rows ? p->row_step : 1, column_step = in_rows ? 1 : p->column_step;
  const intptr_t b_step = p->b_step, panel_step = p->panel_step;
  const int shared = in_rows ? 3 : 12;
  const float *a[4];
  UNROLL for (int i = 0; i * shared < m; i++) a[i] = p->a + (top + shared * i) * row_step;
  const float *b = p->b;
#define STEP(Q)                                                                                                        \
  {                                                                                                                    \
    __m512 row[2];                                                                                                     \
    UNROLL for (int j = 0; j < panels; j++) row[j] = _mm512_loadu_ps(b + (Q) * b_step + j * panel_step);               \
    UNROLL for (int i = 0; i < m; i++) {                                                                               \
      const __m512 factor = _mm512_set1_ps(a[i / shared][i % shared * row_step + (Q) * column_step]);                  \
      UNROLL for (int j = 0; j < panels; j++) sums[j][i] = _mm512_fmadd_ps(factor, row[j], sums[j][i]);                \
    }                                                                                                                  \
  }
#define ADVANCE(COUNT)                                                                                                 \
  UNROLL for (int i = 0; i * shared < m; i++) {                                                                        \
    a[i] += (COUNT) * column_step;                                                                                     \
    __asm__("" : "+r"(a[i]));                                                                                          \
  }                                                                                                                    \
  b += (COUNT) * b_step;
  intptr_t left = p->k;
  for (; left >= 4; left -= 4) {
    STEP(0)
    STEP(1)
    STEP(2)
    STEP(3)
    ADVANCE(4)
  }
  for (; left > 0; left--) {
    STEP(0)
    ADVANCE(1)
  }
  UNROLL for (int i = 0; i < m; i++) UNROLL for (int j = 0; j < panels; j++) {
    const intptr_t place = (top + i) * p->c_step + 16 * j;
    store(p, sums[j][i], 16 * j, p->c + place, p->residual ? p->residual + place : 0);
  }
}

// Instances for one and two panels, and for A in row order and in column order.
#define INSTANCE(M)                                                                                                    \
  AVX512 static __attribute__((noinline)) void tile_##M(product *p, intptr_t top) {                                   \
    if (p->n == 16) {                                                                                                  \
      if (p->column_step == 1) tile(M, 1, 1, p, top); else tile(M, 1, 0, p, top);                                      \
    } else {                                                                                                           \
      if (p->column_step == 1) tile(M, 2, 1, p, top); else tile(M, 2, 0, p, top);                                      \
    }                                                                                                                  \
  }
INSTANCE(12)
INSTANCE(8)
INSTANCE(6)
INSTANCE(4)
INSTANCE(2)
INSTANCE(1)

void ckernels_multiply_avx512(product *p) {
  static const struct { int m; void (*run)(product *, intptr_t); } sizes[] = {
      {12, tile_12}, {8, tile_8}, {6, tile_6}, {4, tile_4}, {2, tile_2}, {1, tile_1}};
  intptr_t top = 0;
  for (int size = 0; top < p->m;) {
    if (p->m - top < sizes[size].m) {
      size++;
      continue;
    }
    sizes[size].run(p, top);
    top += sizes[size].m;
  }
}

#else

int ckernels_has_avx512(void) { return 0; }

void ckernels_multiply_avx512(const ckernels_product *product) { __builtin_trap(); }

#endif

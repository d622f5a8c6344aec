// The innermost product for an instruction set that the build does not ask for, and the processor may have: Swift
// compiles a module for one instruction set, C a function.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stdint.h>

/// C (m, n) ← A (m, k) · B (k, n) (+ C), then the epilogue.
typedef struct {
  /// Any m and k; n is 16 or 32.
  intptr_t m, n, k;
  /// A(i, p) = a[i·row_step + p·column_step]; one of the steps is 1.
  const float *a;
  intptr_t row_step, column_step;
  /// Rows of B are `b_step` floats apart, its second sixteen columns `panel_step` floats after the first.
  const float *b;
  intptr_t b_step, panel_step;
  float *c;
  intptr_t c_step;
  int accumulate;
  /// max(floor, (z − mean)·scale + shift + residual), with a value of the first three for each column; mean is null for
  /// none. The residual lies as C does, and may be null.
  const float *mean, *scale, *shift, *residual;
  float floor;
} ckernels_product;

/// Whether this processor can run the function below.
int ckernels_has_avx512(void);

/// Computes a product. Each element is summed in the order of p, as with any other registers.
void ckernels_multiply_avx512(const ckernels_product *product);

#endif

// Innermost products for an instruction set that the build does not ask for, and the processor may have: Swift compiles
// a module for one instruction set, C a function.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stdint.h>

/// Whether this processor can run the functions below.
int ckernels_has_avx512(void);

/// C (m, 16) ← A · B (+ C), with A(i, p) = a[i·row_step + p·column_step], and rows of B and C that are `b_step` and
/// `c_step` floats apart. Each element is summed in the order of p, as with any other registers.
void ckernels_multiply_avx512(
    intptr_t m, intptr_t k, const float *a, intptr_t row_step, intptr_t column_step, const float *b, intptr_t b_step,
    float *c, intptr_t c_step, int accumulate);

#endif

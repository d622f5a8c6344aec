#include "copenblas.h"

#include <cblas.h>

void copenblas_sgemm(int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                     const float *b, int ldb, float beta, float *c, int ldc) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k,
              alpha, a, lda, b, ldb, beta, c, ldc);
}

void copenblas_single_thread(void) { openblas_set_num_threads(1); }
const char *copenblas_core(void) { return openblas_get_corename(); }
const char *copenblas_config(void) { return openblas_get_config(); }

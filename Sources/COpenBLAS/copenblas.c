#include "copenblas.h"

#include <cblas.h>
#include <stdlib.h>

// Weak, so that the program also starts with an OpenBLAS that was built without LAPACK.
extern void dsyev_(const char *job, const char *triangle, const blasint *n, double *a, const blasint *lda, double *w,
                   double *work, const blasint *work_size, blasint *info) __attribute__((weak));

void copenblas_sgemm(int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                     const float *b, int ldb, float beta, float *c, int ldc) {
  cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, m, n, k,
              alpha, a, lda, b, ldb, beta, c, ldc);
}

int copenblas_eigenvalues(int rows, double *matrix, double *values) {
  if (dsyev_ == NULL) return -1;
  blasint n = rows, lda = rows > 1 ? rows : 1, work_size = -1, info = 0;
  double best = 0;
  dsyev_("N", "L", &n, matrix, &lda, values, &best, &work_size, &info);
  if (info != 0) return 1;
  work_size = (blasint)best;
  double *work = malloc((size_t)work_size * sizeof(double));
  if (work == NULL) return 1;
  dsyev_("N", "L", &n, matrix, &lda, values, work, &work_size, &info);
  free(work);
  return info == 0 ? 0 : 1;
}

void copenblas_single_thread(void) { openblas_set_num_threads(1); }
const char *copenblas_core(void) { return openblas_get_corename(); }
const char *copenblas_config(void) { return openblas_get_config(); }

// OpenBLAS: SGEMM, and eigenvalues from its LAPACK.
#ifndef COPENBLAS_H
#define COPENBLAS_H

/// Row-major C ← alpha · op(A) · op(B) + beta · C in the calling thread; op transposes where the flag is set.
void copenblas_sgemm(int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a, int lda,
                     const float *b, int ldb, float beta, float *c, int ldc);

/// Eigenvalues of a symmetric (n, n) matrix, ascending (LAPACK's dsyev). `matrix` is overwritten.
/// Returns 0; -1 if the library was built without LAPACK; 1 if dsyev failed or memory ran out.
int copenblas_eigenvalues(int n, double *matrix, double *values);

/// Makes every call run in its calling thread alone.
void copenblas_single_thread(void);

/// Name of the kernels in use, such as "Haswell"; and the library's version and build options.
const char *copenblas_core(void);
const char *copenblas_config(void);

#endif

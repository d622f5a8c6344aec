import COpenBLAS

/// Notices of the metrics that the linked libraries cannot compute.
package var missingArithmetic: [String] {
  symmetricEigenvalues([1], 1) != nil
    ? [] : ["the OpenBLAS that is linked has no LAPACK: effective_rank is left out of the metrics"]
}

/// Eigenvalues of a symmetric matrix, ascending, by OpenBLAS's LAPACK.
/// - Parameter matrix: (n, n), symmetric.
/// - Returns: nil if OpenBLAS was built without LAPACK, if a value is not finite, or if LAPACK fails.
package func symmetricEigenvalues(_ matrix: [Double], _ n: Int) -> [Double]? {
  precondition(matrix.count == n * n, "\(matrix.count) numbers for a matrix of \(n) rows")
  guard matrix.allSatisfy(\.isFinite) else { return nil }
  var matrix = matrix
  var values = [Double](repeating: 0, count: n)
  return copenblas_eigenvalues(Int32(n), &matrix, &values) == 0 ? values : nil
}

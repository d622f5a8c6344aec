import COpenBLAS

/// What cannot be measured with the libraries that are linked, in words.
package var missingArithmetic: [String] {
  symmetricEigenvalues([1], 1) != nil
    ? [] : ["the OpenBLAS that is linked has no LAPACK: effective_rank is left out of the metrics"]
}

/// Eigenvalues of a symmetric matrix, in rising order, by the LAPACK that OpenBLAS brings.
/// - Parameter matrix: (n, n), symmetric.
/// - Returns: nil where OpenBLAS was built without LAPACK, or where a value is not finite.
package func symmetricEigenvalues(_ matrix: [Double], _ n: Int) -> [Double]? {
  precondition(matrix.count == n * n, "\(matrix.count) numbers for a matrix of \(n) rows")
  guard matrix.allSatisfy(\.isFinite) else { return nil }
  var matrix = matrix
  var values = [Double](repeating: 0, count: n)
  return copenblas_eigenvalues(Int32(n), &matrix, &values) == 0 ? values : nil
}

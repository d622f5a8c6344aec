import Engine
import Foundation

/// Moves features to mean 0 and deviation 1, as they are in a table.
package struct Standardisation {
  private let mean: [Float]
  /// 0 where a feature is constant: it carries nothing, and dividing would only amplify its rounding.
  private let scale: [Float]

  package init(_ table: FeatureTable) {
    let d = table.dimension
    let n = Double(table.count)
    var sum = [Double](repeating: 0, count: d)
    var squares = sum
    table.features.withUnsafeBufferPointer { x in
      for row in 0..<table.count { for i in 0..<d { sum[i] += Double(x[row * d + i]) } }
      for i in 0..<d { sum[i] /= n }
      for row in 0..<table.count {
        for i in 0..<d {
          let distance = Double(x[row * d + i]) - sum[i]
          squares[i] += distance * distance
        }
      }
    }
    mean = sum.map { Float($0) }
    scale = (0..<d).map { i in
      let deviation = (squares[i] / n).squareRoot()
      return deviation > 1e-6 * abs(sum[i]) && deviation > 1e-30 ? Float(1 / deviation) : 0
    }
  }

  package func apply(_ table: FeatureTable, _ row: Int, into target: UnsafeMutablePointer<Float>) {
    let d = table.dimension
    table.features.withUnsafeBufferPointer { x in
      for i in 0..<d { target[i] = (x[row * d + i] - mean[i]) * scale[i] }
    }
  }
}

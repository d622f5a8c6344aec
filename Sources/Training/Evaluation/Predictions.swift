import Engine
import Foundation
import Shards

/// What a classifier says of images: the probability of each class.
package struct Predictions {
  /// (n, K), row by row, in the order of the samples.
  package let probabilities: [Float]
  /// K
  package let classes: Int

  /// All ranks make this call and get the same.
  /// - Parameter extractor: of one network, whose tap gives the scores of the classes.
  package init(of data: any ImageSource, _ samples: [Int], by extractor: FeatureExtractor) throws {
    classes = extractor.dimension
    var scores = try extractor.features(of: data, samples)
    for row in samples.indices { Self.softmax(&scores[row * classes..<(row + 1) * classes]) }
    probabilities = scores
  }

  /// The softmax of a row of scores.
  private static func softmax(_ row: inout ArraySlice<Float>) {
    let largest = row.max() ?? 0
    let sum = row.reduce(0) { $0 + exp(Double($1 - largest)) }
    for i in row.indices { row[i] = Float(exp(Double(row[i] - largest)) / sum) }
  }

  /// Number of images.
  package var count: Int { classes == 0 ? 0 : probabilities.count / classes }

  /// The probabilities of an image's classes.
  package subscript(row: Int) -> ArraySlice<Float> { probabilities[row * classes..<(row + 1) * classes] }

  /// The most probable class of an image; of equal ones the first.
  package func predicted(_ row: Int) -> Int {
    let start = row * classes
    var best = 0
    for k in 1..<max(1, classes) where probabilities[start + k] > probabilities[start + best] { best = k }
    return best
  }

  /// Number of images that are given their class.
  package func hits(_ labels: [Int32]) -> Int { labels.indices.count { predicted($0) == Int(labels[$0]) } }
}

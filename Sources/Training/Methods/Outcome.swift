import Engine
import Foundation

/// What a step gives, over all ranks.
package struct Outcome: Sendable, Equatable {
  /// Mean over the global batch.
  package var loss: Double
  /// The loss of guessing; nil where nothing is guessed.
  package var chance: Double?
  package var figures = Figures()

  package init(loss: Double, chance: Double? = nil) {
    self.loss = loss
    self.chance = chance
  }

  /// Of a contrast.
  /// - Parameters:
  ///   - candidates: of each anchor; guessing among them gives a loss of scale · ln(candidates).
  ///   - scale: factor on the loss.
  ///   - chance: what guessing gives where it is another value.
  package init(_ sums: LossStatistics, candidates: Int, scale: Double = 1, chance: Double? = nil) {
    let rows = max(1, sums.rows)
    loss = sums.loss / rows
    self.chance = chance ?? scale * log(Double(max(1, candidates)))
    figures[.candidates] = Double(candidates)
    figures[.top1] = sums.correct / rows
    figures[.positiveSimilarity] = sums.positive / rows
    figures[.negativeSimilarity] = sums.negative / rows
  }
}

extension Outcome {
  /// A number that a step gives besides its loss, a mean over the global batch. Its key is described in `Metrics`.
  /// Adding one is a row here and one there.
  package enum Figure: Int, CaseIterable, Sendable {
    case top1, positiveSimilarity, negativeSimilarity, candidates, entropy, inBatch, accuracy

    /// In `metrics.jsonl`: the name in lower case, words apart.
    package var key: String {
      "\(self)".reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : String($1) }
    }
  }

  /// The figures of one step. Of a fixed size, because the step loop allocates nothing.
  package struct Figures: Sendable, Equatable {
    /// How many figures there can be.
    package static let capacity = 16

    private var values = SIMD16<Double>()
    /// A bit for each figure that is there.
    private var present: UInt16 = 0

    package init() {}

    package subscript(figure: Figure) -> Double? {
      get { present & bit(figure) == 0 ? nil : values[figure.rawValue] }
      set {
        values[figure.rawValue] = newValue ?? 0
        if newValue == nil {
          present &= ~bit(figure)
        } else {
          present |= bit(figure)
        }
      }
    }

    private func bit(_ figure: Figure) -> UInt16 { 1 << UInt16(figure.rawValue) }
  }
}

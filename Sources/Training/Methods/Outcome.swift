import Engine
import Foundation

/// The result of a step, over all ranks.
package struct Outcome: Sendable, Equatable {
  /// Mean loss over the global batch.
  package var loss: Double
  /// The loss of guessing; nil if the method has no such value.
  package var chance: Double?
  /// Further numbers of the step.
  package var figures = Figures()

  /// An outcome without figures.
  package init(loss: Double, chance: Double? = nil) {
    self.loss = loss
    self.chance = chance
  }

  /// The outcome of a contrastive loss.
  /// - Parameters:
  ///   - candidates: number of candidates of each anchor. Guessing among them has a loss of scale · ln(candidates).
  ///   - scale: factor on the loss.
  ///   - chance: the loss of guessing, if it is another value.
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
  /// The outcome of a classification.
  package init(_ sums: ClassificationSums, chance: Double?) {
    self.init(loss: sums.loss, chance: chance)
    if sums.labelled > 0 { figures[.accuracy] = sums.correct / sums.labelled }
  }

  /// A number that a step reports besides its loss, a mean over the global batch. To add one, add a case here and a row
  /// in `Metrics`, which describes its key.
  package enum Figure: Int, CaseIterable, Sendable {
    case top1, positiveSimilarity, negativeSimilarity, candidates, entropy, inBatch, accuracy, agreement

    /// Key in `metrics.jsonl`: the case's name in snake case.
    package var key: String {
      "\(self)".reduce(into: "") { $0 += $1.isUppercase ? "_\($1.lowercased())" : String($1) }
    }
  }

  /// The figures of one step. Its size is fixed, because the step loop must not allocate.
  package struct Figures: Sendable, Equatable {
    /// Largest number of figures.
    package static let capacity = 16

    private var values = SIMD16<Double>()
    /// One bit per figure, set if it has a value.
    private var present: UInt16 = 0

    /// No figures.
    package init() {}

    /// The value of a figure; nil if it has none.
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

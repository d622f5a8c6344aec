import Shards

/// What a checkpoint says of itself.
package struct Manifest: Codable, Sendable, Equatable {
  package struct File: Codable, Sendable, Equatable {
    package let name: String, bytes: Int, crc32: UInt32
    /// What a rank's file has of the arrays that are spread over ranks.
    package var slices: [Slice]?
  }

  /// Rows first ..< first + count of an array.
  package struct Slice: Codable, Sendable, Equatable {
    package let name: String
    /// Of the whole array.
    package let shape: [Int]
    package let first: Int, count: Int
    var rows: Range<Int> { first..<first + count }
  }

  /// A network beside the first one, and what its encoder is fed.
  package struct FurtherEncoder: Codable, Sendable, Equatable {
    package let name: String
    package let input: EncoderInput
  }

  package static let currentFormat = 1
  package var format = Manifest.currentFormat
  /// Which of the recipe's stages was being trained, counted from 0.
  package var stage: Int
  /// Steps of the whole run.
  package var step: Int
  /// Steps of each stage up to this one; their sum is `step`. Nil in checkpoints of earlier builds.
  package var stageSteps: [Int]?
  /// The resolved recipe.
  package var recipe: String
  /// The data set of the stage.
  package var data: String
  package var dataFingerprint: String
  package var images: Int
  /// Which of the trained networks holds the encoder that the run is for.
  package var encoder: String
  package var channels: Int
  /// What the encoder is fed; nil in checkpoints of earlier versions.
  package var input: EncoderInput?
  /// Further networks whose features stand beside the first one's; nil where there are none.
  package var further: [FurtherEncoder]?
  /// Classes of the data set, in the order of a classifier's outputs; nil in checkpoints of earlier versions.
  package var classNames: [String]?
  /// Checksums of the teachers' weights, in the recipe's order; nil where the method has none.
  package var teachers: [UInt32]?
  /// Checksum of the images whose labels may be seen; nil where the method learns from none.
  package var labels: UInt32?
  /// Accuracy on the images that are kept for validation, where it was measured at this step.
  package var validation: Double?
  package var fingerprint: [String: String]
  package var files: [File] = []

  /// - Parameter stageSteps: steps of each stage, those of the present stage last.
  package init(
    stageSteps: [Int], recipe: String, data: String, dataFingerprint: String, images: Int, encoder: String,
    channels: Int, input: EncoderInput? = nil, further: [FurtherEncoder]? = nil, classNames: [String]? = nil,
    teachers: [UInt32]? = nil, labels: UInt32? = nil, validation: Double? = nil, fingerprint: [String: String]
  ) {
    stage = stageSteps.count - 1
    step = stageSteps.reduce(0, +)
    self.stageSteps = stageSteps
    self.recipe = recipe
    self.data = data
    self.dataFingerprint = dataFingerprint
    self.images = images
    self.encoder = encoder
    self.channels = channels
    self.input = input
    self.further = further
    self.classNames = classNames
    self.teachers = teachers
    self.labels = labels
    self.validation = validation
    self.fingerprint = fingerprint
  }

  /// The networks whose encoders are the result.
  var encoders: [String] { [encoder] + (further ?? []).map(\.name) }

  /// What the encoder of each is fed; nil where it is not known.
  var inputs: [EncoderInput?] { [input] + (further ?? []).map(\.input) }

  /// Steps of each stage up to this one, with at least one element; nil where an earlier build did not write them down.
  var knownStageSteps: [Int]? { stageSteps ?? (stage == 0 ? [step] : nil) }

  /// Whether the numbers agree with one another, so that they can be relied on.
  var isConsistent: Bool {
    let slices = files.flatMap { $0.slices ?? [] }
    let steps = knownStageSteps ?? [step]
    return slices.allSatisfy { $0.first >= 0 && $0.count >= 0 && $0.first <= Int.max - $0.count }
      && steps.allSatisfy { (0...step).contains($0) } && steps.reduce(0, &+) == step
      && (stageSteps == nil || steps.count == stage + 1) && stage >= 0 && step >= 0
  }
}

/// Why a checkpoint cannot be taken.
package enum CheckpointFault: Error, CustomStringConvertible {
  /// Its bytes are not those that were written: an earlier checkpoint may be taken in its place.
  case damaged(String)
  /// It may be whole, but it cannot be read here and now: the run must not go on as if it were not there.
  case unreadable(String)

  package var description: String {
    switch self {
    case .damaged(let reason), .unreadable(let reason): reason
    }
  }
}

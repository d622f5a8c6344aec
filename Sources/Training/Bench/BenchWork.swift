import Engine
import Shards

/// What `Bench` times: a step on images of the method's kinds, on this rank.
package protocol BenchWork: AnyObject {
  /// Bytes of a rank besides activations and images.
  var bytes: Int { get }
  /// Bytes of gradients that a rank sends in a step.
  var sentBytes: Int { get }
  /// What sends them.
  var reducers: [GradientReducer] { get }
  /// Draws the weights.
  func initialise()
  /// What is planned in a dry run and timed.
  func step(_ input: MethodInput)
  /// Takes the weights over from another framework.
  func load(_ file: Safetensors, _ path: String) throws
  /// Runs once, and tells by what another framework can see that it computes the same.
  func compare(_ input: MethodInput, _ file: Safetensors) throws -> [String: Double]
}

/// A method's training step: gradients and update.
package final class StepWork: BenchWork {
  /// What the step is made of.
  package struct Options {
    /// The encoder's recipe.
    package var encoder: EncoderRecipe
    /// The method's recipe.
    package var method: any MethodRecipe
    /// Groups of batch normalisation.
    package var normalisation = NormalisationGroups.global
    /// The optimizer.
    package var optimizer: any Optimizer = SGD()
    /// Which parameters train, and how fast.
    package var parameters: [ParameterRule] = []
    /// Parts in which a batch's gradients are accumulated.
    package var accumulate = 1
    /// Algorithm of the convolutions.
    package var convolution = ConvolutionAlgorithm.fast
    /// The networks of the method's `teachers`.
    package var teachers: [Teacher] = []

    /// The defaults for an encoder and a method.
    package init(encoder: EncoderRecipe, method: any MethodRecipe) {
      self.encoder = encoder
      self.method = method
    }

    /// The last stage of a recipe. Its teachers have the networks of the stages that they name.
    package init(_ recipe: Recipe, channels: Int, classes: Int) throws {
      let stage = recipe.stages.last!
      encoder = stage.encoder
      method = stage.method.value
      normalisation = stage.batchNorm.groups
      optimizer = stage.optimizer.algorithm
      parameters = stage.parameters
      accumulate = stage.accumulate
      convolution = stage.convolution
      teachers = try method.teachers.map { try Self.teacher($0, recipe, channels: channels, classes: classes) }
    }

    private static func teacher(
      _ source: StageStart.Source, _ recipe: Recipe, channels: Int, classes: Int
    ) throws -> Teacher {
      let earlier = recipe.stages.dropLast()
      let found: Stage? =
        switch source {
        case .previous: earlier.last
        case .stage(let name): earlier.first { $0.name == name }
        case .nothing, .run, .file: nil
        }
      guard let found else {
        throw RecipeError(
          "teacher is `\(source)`: a bench builds the network of an earlier stage of the recipe, and draws its "
            + "weights; name one, such as `stage \(earlier.last?.name ?? "NAME")`")
      }
      let view = found.views[0]
      let zeros = Array(repeating: 0.0, count: channels)
      let ones = Array(repeating: 1.0, count: channels)
      return Teacher(
        found.network(channels: view.channels(of: channels), classes: classes),
        input: EncoderInput(view, mean: zeros, deviation: ones), classScores: found.method.value.classScores)
    }
  }

  private let method: any Method
  private let options: Options
  private let context: Context

  /// Builds the method.
  package init(_ options: Options, _ batch: Bench.Batch, _ context: Context) throws {
    self.options = options
    self.context = context
    context.convolution = options.convolution
    let images = batch.images * context.communicator.size
    method = options.method.make(
      MethodSetting(
        encoder: options.encoder.options(channels: batch.kinds[0].channels), channels: batch.kinds.map(\.channels),
        normalisation: options.normalisation, accumulate: options.accumulate, images: images, classes: batch.classes,
        classCounts: Array(repeating: 1, count: batch.classes), teachers: options.teachers,
        plan: RunPlan(stepsPerEpoch: 1, batch: images, length: .steps(1000)),
        optimizer: options.optimizer, rules: options.parameters.map(\.rule), context: context))
    try ParameterRule.check(options.parameters, method.trained.map(\.network))
  }

  package var bytes: Int {
    method.stateBytes + method.gradientBytes + method.unsavedBytes + options.teachers.reduce(0) { $0 + $1.bytes }
  }

  package var sentBytes: Int { method.gradientBytes }

  package var reducers: [GradientReducer] { method.trained.map(\.reducer) }

  package func initialise() {
    for (i, teacher) in options.teachers.enumerated() { teacher.state.initialise(seed: UInt64(2 + i)) }
    method.initialise()
  }

  package func step(_ input: MethodInput) {
    if context.isDry {
      // Not `gradients`, which sets all gradients to zero and so takes their memory before it is known to be there.
      _ = method.step(input)
      for reducer in reducers { reducer.finish() }
    } else {
      _ = method.gradients(input)
      context.part(.update) { method.update(options.optimizer, step: 0, rate: 0.03, context) }
    }
  }

  package func load(_ file: Safetensors, _ path: String) throws {
    try Weights.fill(method.encoder.state, from: file, path)
    for (i, teacher) in options.teachers.enumerated() {
      try Weights.fill(teacher.state, from: file, prefix: "teacher.\(i).", path)
    }
    method.adoptEncoder()
  }

  package func compare(_ input: MethodInput, _ file: Safetensors) -> [String: Double] {
    let loss = method.gradients(input).loss
    return ["loss": loss, "gradient_norm": norm(method.encoder.gradients.data, method.encoder.gradients.count)]
  }
}

/// A frozen encoder's features, or its scores of classes.
package final class FeaturesWork: BenchWork {
  private let network: Network
  private let state: NetworkState
  /// What comes out.
  private let tap: Network.Tap
  private let context: Context

  /// - Parameter classes: of a linear classifier on the features; nil for the features themselves.
  package init(_ encoder: EncoderRecipe, classes: Int?, _ batch: Bench.Batch, _ context: Context) {
    self.context = context
    let options = encoder.options(channels: batch.kinds[0].channels)
    network = Network(
      options, heads: classes.map { ClassifierHead().plans(features: options.features, classes: $0) } ?? [])
    tap = classes == nil ? .features : ClassifierHead.tap
    state = network.makeState()
  }

  package var bytes: Int { state.bytes }
  package var sentBytes: Int { 0 }
  package var reducers: [GradientReducer] { [] }

  package func initialise() { state.initialise(seed: 1) }

  private func withOutput<T>(_ input: MethodInput, _ body: (Tensor) throws -> T) rethrows -> T {
    try context.scratch { arena in
      let x = input.views[0]
      let pass = Pass(context, state, .inference, BatchGroups(images: x.n, in: arena))
      return try body(network.forward(x, tap: tap, pass).output)
    }
  }

  package func step(_ input: MethodInput) { withOutput(input) { _ in } }

  package func load(_ file: Safetensors, _ path: String) throws { try Weights.fill(state, from: file, path) }

  /// The outputs' norm, and their distance from the file's `outputs`, in units of these.
  package func compare(_ input: MethodInput, _ file: Safetensors) throws -> [String: Double] {
    let wanted = try file.doubles("outputs")
    return try withOutput(input) { output in
      guard wanted.count == output.count else {
        throw RunError("the file's `outputs` are \(wanted.count) numbers, expected \(output.count)")
      }
      var squares = (found: 0.0, wanted: 0.0, difference: 0.0)
      for (found, wanted) in zip(output.buffer, wanted) {
        squares.found += Double(found) * Double(found)
        squares.wanted += wanted * wanted
        squares.difference += (Double(found) - wanted) * (Double(found) - wanted)
      }
      return [
        "norm": squares.found.squareRoot(), "distance": (squares.difference / squares.wanted).squareRoot(),
      ]
    }
  }
}

/// An encoder with a projection head: what every method trains.
package struct Network {
  /// Where features are taken from.
  package enum Tap: Sendable, Equatable {
    /// The encoder's output.
    case features
    /// After so many layers of the head.
    case head(layers: Int)
    /// After the whole head.
    case embedding
  }

  package struct Tape {
    let encoder: ResNet.Tape
    let head: Head.Tape
    /// Where the tape ends in the arena.
    let end: Arena.Mark
    package var features: Tensor { encoder.features }
    /// (N, D), not normalised.
    package var output: Tensor { head.output }
    /// After so many layers of the head, not normalised.
    package func embedding(layers: Int) -> Tensor { head.output(layers: layers) }
  }

  package let encoder: ResNet
  package let head: Head
  /// Vectors that embeddings are held against, (D, K): part of the parameters, used by the method.
  package let prototypes: Linear?
  package let parameters: ParameterLayout
  package let statistics: ParameterLayout

  /// - Parameters:
  ///   - layers: of the head.
  ///   - prototypes: how many vectors, of the head's outputs each, are trained beside it.
  package init(_ options: ResNet.Options, head layers: [Head.Layer] = [], prototypes count: Int? = nil) {
    var parameters = ParameterLayout()
    var statistics = ParameterLayout()
    encoder = ResNet(options, &parameters, &statistics)
    head = Head(layers, inputs: options.features, &parameters, &statistics)
    let width = layers.last?.outputs ?? options.features
    prototypes = count.map {
      Linear(
        &parameters, "prototypes", inputs: width, outputs: $0, bias: false, weight: .torchLinear(fanIn: width))
    }
    self.parameters = parameters
    self.statistics = statistics
  }

  package func makeState() -> NetworkState { NetworkState(parameters, statistics) }

  /// Images in, features at a tap out. One call serves queries, keys, teachers and evaluation.
  package func forward(_ x: Tensor, tap: Tap = .embedding, _ pass: Pass) -> Tape {
    let features = encoder.forward(x, pass)
    let layers: Int? =
      switch tap {
      case .features: 0
      case .head(let layers): layers
      case .embedding: nil
      }
    let projected = pass.context.part(.head) { head.forward(features.features, layers: layers, pass) }
    return Tape(encoder: features, head: projected, end: pass.arena.mark())
  }

  /// Adds to the gradients of all parameters. Where the tape is the last thing on the arena's lower stack, it is taken
  /// off on the way: nothing of it can be read afterwards.
  /// - d: gradient of the output; overwritten on the way.
  package func backward(_ d: Tensor, _ tape: Tape, _ pass: Pass) {
    let consuming = pass.arena.isLowerTop(tape.end)
    pass.context.scratch { arena in
      guard tape.head.layers > 0 else {
        encoder.backward(d, tape.encoder, consuming: consuming, pass)
        return
      }
      let dFeatures = arena.brief(like: tape.features)
      pass.context.scratch { _ in
        pass.context.part(.head) { head.backward(d, tape.head, dx: dFeatures, pass) }
      }
      if let first = head.firstParameter { pass.reducer?.ready(from: first) }
      encoder.backward(dFeatures, tape.encoder, consuming: consuming, pass)
    }
  }
}

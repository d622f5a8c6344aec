/// The table of encoder families. A family is a file with options, layers, forward and backward, as `ResNet` has them,
/// and a case here. An enum instead of a protocol, so that tapes lie in the arena and a step allocates nothing.
package enum ImageEncoder {
  case resnet(ResNet)

  /// What is to be built.
  package enum Options: Sendable, Equatable {
    case resnet(ResNet.Options)

    /// Channels of the images. Two encoders of a method can differ in them alone.
    package var channels: Int {
      get {
        switch self {
        case .resnet(let options): options.channels
        }
      }
      set {
        switch self {
        case .resnet(var options):
          options.channels = newValue
          self = .resnet(options)
        }
      }
    }

    /// D, the dimension of the features.
    package var features: Int {
      switch self {
      case .resnet(let options): options.features
      }
    }
  }

  /// What backward needs.
  package enum Tape {
    case resnet(ResNet.Tape)

    /// (N, 1, 1, D); nil where only maps before them were asked for.
    var features: Tensor? {
      switch self {
      case .resnet(let tape): tape.features
      }
    }

    /// A feature map that was asked for, (N, H, W, C).
    func map(_ index: Int) -> Tensor? {
      switch self {
      case .resnet(let tape): tape.maps[index]
      }
    }
  }

  init(
    _ options: Options, _ part: PartName, _ parameters: inout ParameterLayout, _ statistics: inout ParameterLayout
  ) {
    switch options {
    case .resnet(let options): self = .resnet(ResNet(options, part, &parameters, &statistics))
    }
  }

  package var options: Options {
    switch self {
    case .resnet(let encoder): .resnet(encoder.options)
    }
  }

  /// Feature maps that can be tapped, by name and channels, from the images to the features.
  package var maps: [(name: String, channels: Int)] {
    switch self {
    case .resnet(let encoder): encoder.maps
    }
  }

  /// Whether anything trains that a map depends on, or the features where the index is the maps' count.
  func trains(below index: Int) -> Bool {
    switch self {
    case .resnet(let encoder): encoder.trains(below: index)
    }
  }

  /// - Parameters:
  ///   - x: (N, H, W, C) images.
  ///   - wanted: which maps are kept, in their order; then whether the features are.
  func forward(_ x: Tensor, wanted: UnsafeMutableBufferPointer<Bool>, _ pass: Pass) -> Tape {
    switch self {
    case .resnet(let encoder): .resnet(encoder.forward(x, wanted: wanted, pass))
    }
  }

  /// Adds to the gradients of all parameters that train.
  /// - Parameters:
  ///   - gradients: of the maps, in their order, then of the features, where there are any; overwritten on the way.
  ///   - consuming: whether what is done with is taken off the arena's lower stack, which ends with the tape.
  func backward(_ gradients: UnsafeMutableBufferPointer<Tensor?>, _ tape: Tape, consuming: Bool, _ pass: Pass) {
    switch (self, tape) {
    case (.resnet(let encoder), .resnet(let tape)): encoder.backward(gradients, tape, consuming: consuming, pass)
    }
  }
}

/// A head of a network, as a method writes it down.
package struct HeadPlan: Sendable, Equatable {
  /// Where a head's input comes from.
  package enum Source: Sendable, Equatable {
    /// A tap of the encoder, or of a head before this one.
    case tap(Network.Tap)
    /// The method, which runs the head by itself: on normalised embeddings, or on the features of several images side
    /// by side.
    case method(channels: Int)
  }

  package var name: PartName
  package var source: Source
  package var layers: [Head.Layer]
  /// See `Head.init`.
  package var numbered: Bool

  package init(
    _ name: PartName, from source: Source = .tap(.features), _ layers: [Head.Layer], numbered: Bool = true
  ) {
    self.name = name
    self.source = source
    self.layers = layers
    self.numbered = numbered
  }
}

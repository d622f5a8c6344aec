import CMPI

/// What a collective is for, and for which layer. Errors name it, and the controls of the tests select by it.
///
/// Creating one allocates nothing. Most are literals at the call; those that are compared elsewhere have a name here.
package struct CollectivePurpose: Sendable, ExpressibleByStringLiteral {
  /// In words, such as "batch statistics".
  package let what: StaticString
  /// The layer's name in its network, such as "encoder.layer3.1.bn2".
  package let layer: String?

  /// A purpose without a layer.
  package init(stringLiteral what: StaticString) {
    self.what = what
    layer = nil
  }

  private init(_ what: StaticString, of layer: String) {
    self.what = what
    self.layer = layer
  }

  /// The same purpose for one layer.
  package func of(_ layer: String) -> CollectivePurpose { CollectivePurpose(what, of: layer) }

  // MARK: Purposes that others compare

  /// The sum over ranks of the losses' gradients by gathered embeddings.
  package static let gatheredGradient: CollectivePurpose = "gradient of gathered embeddings"
  /// The sums of batch normalisation, forward and backward.
  package static let batchStatistics: CollectivePurpose = "batch statistics"
}

extension CollectivePurpose: Equatable, CustomStringConvertible {
  /// The purpose in words, with its layer.
  package var description: String { layer.map { "\(what) of \($0)" } ?? "\(what)" }

  /// Compares the purposes without their layers.
  package static func == (a: CollectivePurpose, b: CollectivePurpose) -> Bool {
    a.what.utf8CodeUnitCount == b.what.utf8CodeUnitCount
      && (0..<a.what.utf8CodeUnitCount).allSatisfy { a.what.utf8Start[$0] == b.what.utf8Start[$0] }
  }
}

extension CollectivePurpose {
  /// The words as a C string, valid as long as the program runs.
  var text: UnsafePointer<CChar> { UnsafeRawPointer(what.utf8Start).assumingMemoryBound(to: CChar.self) }

  /// Calls `body` with the purpose as a C struct, valid until `body` returns.
  func withC(_ body: (cmpi_purpose) -> Void) {
    guard let layer else { return body(cmpi_purpose(what: text, layer: nil)) }
    layer.withCString { body(cmpi_purpose(what: text, layer: $0)) }
  }
}

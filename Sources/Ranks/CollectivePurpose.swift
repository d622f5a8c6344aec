import CMPI

/// What a collective is for, and for which layer: what an error says, and what a control leaves out.
///
/// Making one allocates nothing. A purpose is written where it is used, as a literal; one that others compare has a
/// name here.
package struct CollectivePurpose: Sendable, ExpressibleByStringLiteral {
  /// Such as "batch statistics".
  package let what: StaticString
  /// The layer's name in its network, such as "encoder.layer3.1.bn2".
  package let layer: String?

  package init(stringLiteral what: StaticString) {
    self.what = what
    layer = nil
  }

  private init(_ what: StaticString, of layer: String) {
    self.what = what
    self.layer = layer
  }

  /// The same for one layer.
  package func of(_ layer: String) -> CollectivePurpose { CollectivePurpose(what, of: layer) }

  // MARK: Purposes that others compare

  /// What other ranks' losses say about this rank's embeddings.
  package static let gatheredGradient: CollectivePurpose = "gradient of gathered embeddings"
  package static let batchStatistics: CollectivePurpose = "batch statistics"
}

extension CollectivePurpose: Equatable, CustomStringConvertible {
  package var description: String { layer.map { "\(what) of \($0)" } ?? "\(what)" }

  /// Whether both are for the same, of whichever layer.
  package static func == (a: CollectivePurpose, b: CollectivePurpose) -> Bool {
    a.what.utf8CodeUnitCount == b.what.utf8CodeUnitCount
      && (0..<a.what.utf8CodeUnitCount).allSatisfy { a.what.utf8Start[$0] == b.what.utf8Start[$0] }
  }
}

extension CollectivePurpose {
  /// As C's text, which lives as long as the program.
  var text: UnsafePointer<CChar> { UnsafeRawPointer(what.utf8Start).assumingMemoryBound(to: CChar.self) }

  /// Calls `body` with the purpose for C, which is good until it returns.
  func withC(_ body: (cmpi_purpose) -> Void) {
    guard let layer else { return body(cmpi_purpose(what: text, layer: nil)) }
    layer.withCString { body(cmpi_purpose(what: text, layer: $0)) }
  }
}

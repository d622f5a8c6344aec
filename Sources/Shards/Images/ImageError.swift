/// Why an image cannot be decoded.
package struct ImageError: Error, CustomStringConvertible, Equatable {
  package let reason: String

  package init(_ reason: String) { self.reason = reason }

  package var description: String { reason }
}

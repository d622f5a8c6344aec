/// A failure with an HDF5 file.
package struct HDF5Error: Error, CustomStringConvertible {
  /// Path of the file.
  package let path: String
  /// What was attempted, such as "read".
  package let attempt: String
  /// What was found instead.
  package let found: String

  /// An error that reads "cannot `attempt` `path`: `found`".
  package init(_ path: String, _ attempt: String, _ found: String) {
    self.path = path
    self.attempt = attempt
    self.found = found
  }

  /// The error in one line.
  package var description: String { "cannot \(attempt) \(path): \(found)" }
}

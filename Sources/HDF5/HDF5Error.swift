/// What went wrong with an HDF5 file: which file, what was attempted, what was found.
package struct HDF5Error: Error, CustomStringConvertible {
  package let path: String
  package let attempt: String
  package let found: String

  package init(_ path: String, _ attempt: String, _ found: String) {
    self.path = path
    self.attempt = attempt
    self.found = found
  }

  package var description: String { "cannot \(attempt) \(path): \(found)" }
}

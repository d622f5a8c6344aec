import CZlib
import Engine
import Foundation
import HDF5

extension Checkpoint {
  /// An array of a checkpoint, to be shown.
  package struct Listing {
    package let name: String, shape: [Int]
    /// Of all its bytes, however many files they are in.
    package let crc32: UInt32
    /// Of floats; the first value of integers.
    package let norm: Double
    /// Files that it is spread over; nil where it is in one piece.
    package let slices: Int?
  }

  /// What a checkpoint holds, array by array.
  package static func arrays(_ path: String) throws -> [Listing] {
    let file = try HDF5File.open(path + "/" + stateFile)
    defer { try? file.close() }
    var arrays: [Listing] = []
    func visit(_ group: String) throws {
      for name in try file.names(in: group.isEmpty ? "/" : group) {
        let full = group.isEmpty ? name : group + "/" + name
        guard let shape = try? file.shape(of: full) else {
          try visit(full)
          continue
        }
        let (crc, squares, first) = try sums(of: full, in: file, after: 0)
        arrays.append(Listing(name: full, shape: shape, crc32: crc, norm: first ?? squares.squareRoot(), slices: nil))
      }
    }
    try visit("")
    let files = try readManifest(path).files
    for name in Set(files.flatMap { ($0.slices ?? []).map(\.name) }).sorted() {
      let pieces = files.compactMap { file in
        file.slices?.first { $0.name == name }.map { (file: file.name, slice: $0) }
      }
      .sorted { ($0.slice.first, $0.slice.count) < ($1.slice.first, $1.slice.count) }
      var crc: UInt32 = 0
      var total = 0.0
      for piece in pieces {
        let file = try HDF5File.open(path + "/" + piece.file)
        defer { try? file.close() }
        let (next, squares, _) = try sums(of: name, in: file, after: crc)
        crc = next
        total = total + squares
      }
      arrays.append(
        Listing(name: name, shape: pieces[0].slice.shape, crc32: crc, norm: total.squareRoot(), slices: pieces.count))
    }
    return arrays
  }

  /// Goes on with a checksum; the sum of squares of floats, or the first of integers.
  private static func sums(of name: String, in file: HDF5File, after crc: UInt32) throws -> (
    crc32: UInt32, squares: Double, first: Double?
  ) {
    if try file.type(of: name) == .float {
      let values = try file.read(name, as: Float.self)
      let length = norm(values, values.count)
      return (values.withUnsafeBytes { czlib_crc32(crc, $0.baseAddress, $0.count) }, length * length, nil)
    }
    let values = try file.read(name, as: Int64.self)
    return (values.withUnsafeBytes { czlib_crc32(crc, $0.baseAddress, $0.count) }, 0, Double(values.first ?? 0))
  }
}

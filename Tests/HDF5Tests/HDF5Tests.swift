import Files
import Foundation
import HDF5
import Testing

@Suite struct HDF5Tests {
  let folder: String

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("apus-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  }

  private func withFile(_ body: (String) throws -> Void) throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder + "/x.h5")
  }

  @Test func valuesComeBackBitForBit() throws {
    try withFile { path in
      let file = try HDF5File.create(path)
      try file.write([1, -2, .infinity, .leastNonzeroMagnitude] as [Float], to: "a/b/floats")
      try file.write([0.1, -0.0] as [Double], shape: [2, 1], to: "a/doubles")
      try file.write([-128, 127] as [Int8], to: "int8")
      try file.write([0, 255] as [UInt8], to: "uint8")
      try file.write([65535] as [UInt16], shape: [], to: "uint16")
      try file.write([.min, .max] as [Int32], to: "int32")
      try file.write([.max] as [UInt32], to: "uint32")
      try file.write([.min, .max] as [Int], to: "int")
      try file.write([.max] as [UInt64], to: "uint64")
      try file.write([] as [Float], to: "none")
      try file.write(["", "grün", "long name"], to: "texts")
      try file.close()
      let read = try HDF5File.open(path)
      #expect(try read.shape(of: "a/b/floats") == [4])
      #expect(try read.shape(of: "a/doubles") == [2, 1])
      #expect(try read.shape(of: "uint16") == [])
      #expect(try read.read("a/b/floats", as: Float.self) == [1, -2, .infinity, .leastNonzeroMagnitude])
      #expect(try read.read("a/doubles", as: Double.self).map(\.bitPattern) == [0.1, -0.0].map(\.bitPattern))
      #expect(try read.read("int8", as: Int8.self) == [-128, 127])
      #expect(try read.read("uint8", as: UInt8.self) == [0, 255])
      #expect(try read.read("uint16", as: UInt16.self) == [65535])
      #expect(try read.read("int32", as: Int32.self) == [.min, .max])
      #expect(try read.read("uint32", as: UInt32.self) == [.max])
      #expect(try read.read("int", as: Int64.self) == [.min, .max])
      #expect(try read.read("uint64", as: UInt64.self) == [.max])
      #expect(try read.read("none", as: Float.self) == [])
      #expect(try read.readTexts("texts") == ["", "grün", "long name"])
      #expect(
        try read.names() == ["a", "int", "int32", "int8", "none", "texts", "uint16", "uint32", "uint64", "uint8"])
      #expect(try read.names(in: "a") == ["b", "doubles"])
      let offset = try read.offset(of: "uint8")
      let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
      #expect(Array(bytes[offset..<offset + 2]) == [0, 255])
    }
  }

  @Test func attributesComeBackAndAreReplaced() throws {
    try withFile { path in
      let file = try HDF5File.create(path)
      try file.write([1] as [Float], to: "g/x")
      let values: [HDF5Attribute] = [
        .integer(-5), .real(0.1), .text("ü"), .text(""), .texts(["a", "bc"]), .reals([1, 2, 3]), .texts([]),
      ]
      for (number, value) in values.enumerated() {
        try file.set(.integer(1), for: "a\(number)", on: "g/x")
        try file.set(value, for: "a\(number)", on: "g/x")
      }
      try file.close()
      let read = try HDF5File.open(path)
      for (number, value) in values.enumerated() {
        #expect(try read.attribute("a\(number)", on: "g/x") == value)
      }
      #expect(!read.hasAttribute("a0") && read.hasAttribute("a0", on: "g/x"))
      #expect(throws: FileError.self) { try read.attribute("missing") }
    }
  }

  @Test func aFileThatIsNotWhatIsExpectedIsAnErrorThatSaysSo() throws {
    try withFile { path in
      func message(_ body: () throws -> Void) -> String {
        do {
          try body()
          return "no error"
        } catch { return "\(error)" }
      }
      #expect(message { _ = try HDF5File.open(path) } == "cannot read \(path): No such file or directory")
      try Data("no hdf5 here".utf8).write(to: URL(fileURLWithPath: path))
      #expect(message { _ = try HDF5File.open(path) } == "cannot read \(path): it is not an HDF5 file")
      #expect(message { _ = try HDF5File.create(path) }.contains("it already exists"))
      try Data().write(to: URL(fileURLWithPath: path))
      #expect(message { _ = try HDF5File.open(path) } == "cannot read \(path): it is empty")
      try FileManager.default.removeItem(atPath: path)
      let file = try HDF5File.create(path)
      try file.write([Float](repeating: 1, count: 1000), to: "x")
      try file.close()
      let read = try HDF5File.open(path)
      #expect(message { _ = try read.read("y", as: Float.self) }.contains("dataset \"y\" of \(path): it is not there"))
      #expect(
        message { _ = try read.read("x", as: Double.self) }.contains("holds 32-bit floats, expected 64-bit floats"))
      try read.close()
      // Every truncation is detected, when opening or when reading.
      let whole = try Data(contentsOf: URL(fileURLWithPath: path))
      for keep in stride(from: 8, to: whole.count, by: 97) {
        try whole.prefix(keep).write(to: URL(fileURLWithPath: path))
        #expect(throws: FileError.self) { _ = try HDF5File.open(path).read("x", as: Float.self) }
      }
    }
  }
}

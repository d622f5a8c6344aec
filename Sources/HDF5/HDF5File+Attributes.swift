import CHDF5
import Files
import Foundation

extension HDF5File {
  /// Sets an attribute, replacing one of the same name.
  /// - Parameter object: path of a group or dataset; `/` is the file's root group.
  package func set(_ value: HDF5Attribute, for name: String, on object: String = "/") throws(FileError) {
    func write(_ type: HDF5Type, _ element: Int, _ count: Int, scalar: Bool, _ values: UnsafeRawPointer?)
      throws(FileError)
    {
      try call("write attribute \"\(name)\" to") {
        chdf5_attribute_write(
          open, object, name, type.rawValue, Int64(element), Int64(count), scalar ? 1 : 0, values, $0)
      }
    }
    switch value {
    case .integer(var number): try write(.int64, 8, 1, scalar: true, &number)
    case .real(var number): try write(.double, 8, 1, scalar: true, &number)
    case .reals(let numbers): try write(.double, 8, numbers.count, scalar: false, numbers)
    case .text(let text):
      let (bytes, element) = Self.pad([text])
      try write(.text, element, 1, scalar: true, bytes)
    case .texts(let texts):
      let (bytes, element) = Self.pad(texts)
      try write(.text, element, texts.count, scalar: false, bytes)
    }
  }

  /// Whether an object has an attribute.
  package func hasAttribute(_ name: String, on object: String = "/") -> Bool {
    var there: Int32 = 0
    try? call("look up attribute \"\(name)\" of") {
      there = chdf5_attribute_exists(open, object, name, $0)
      return there < 0 ? -1 : 0
    }
    return there == 1
  }

  /// Reads an attribute.
  package func attribute(_ name: String, on object: String = "/") throws(FileError) -> HDF5Attribute {
    let what = "attribute \"\(name)\""
    var info = chdf5_info()
    try call("read \(what) of") { chdf5_attribute_info(open, object, name, &info, $0) }
    try checkSize(info, what)
    guard let type = HDF5Type(rawValue: info.type), info.rank <= 1, info.element > 0 else {
      throw FileError(path, "read \(what) of", "it has \(info.rank) dimensions, expected at most 1")
    }
    var bytes = [UInt8](repeating: 0, count: Int(info.count * info.element))
    if !bytes.isEmpty {
      try call("read \(what) of") { chdf5_attribute_read(open, object, name, info.type, info.element, &bytes, $0) }
    }
    func values<T: BitwiseCopyable>(_: T.Type) -> [T] {
      bytes.withUnsafeBytes { raw in
        (0..<Int(info.count)).map { raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self) }
      }
    }
    switch (type, info.rank) {
    case (.int64, 0): return .integer(values(Int64.self)[0])
    case (.double, 0): return .real(values(Double.self)[0])
    case (.double, 1): return .reals(values(Double.self))
    case (.text, 0): return .text(Self.unpad(bytes, Int(info.element))[0])
    case (.text, 1): return .texts(Self.unpad(bytes, Int(info.element)))
    default: throw FileError(path, "read \(what) of", "it holds \(type), which apus does not write")
    }
  }

  // MARK: Strings

  /// Concatenates strings, each null-padded to the length of the longest (at least one byte).
  static func pad(_ texts: [String]) -> (bytes: [UInt8], element: Int) {
    let element = max(1, texts.map(\.utf8.count).max() ?? 1)
    var bytes = [UInt8](repeating: 0, count: element * texts.count)
    for (index, text) in texts.enumerated() {
      for (place, byte) in text.utf8.enumerated() { bytes[index * element + place] = byte }
    }
    return (bytes, element)
  }

  static func unpad(_ bytes: [UInt8], _ element: Int) -> [String] {
    stride(from: 0, to: bytes.count, by: element).map { start in
      String(decoding: bytes[start..<start + element].prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  static func text(_ characters: [CChar]) -> String {
    String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  /// Checks the eight bytes that every HDF5 file without a user block starts with, before the library opens it.
  static func checkSignature(_ path: String) throws(FileError) {
    let descriptor = Foundation.open(path, O_RDONLY)
    guard descriptor >= 0 else { throw FileError(path, "read", String(cString: strerror(errno))) }
    defer { _ = Foundation.close(descriptor) }
    var start = [UInt8](repeating: 0, count: 8)
    let found = Foundation.read(descriptor, &start, 8)
    guard found >= 0 else { throw FileError(path, "read", String(cString: strerror(errno))) }
    guard found == 8, start == [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A] else {
      throw FileError(path, "read", found == 0 ? "it is empty" : "it is not an HDF5 file")
    }
  }
}

import Foundation

/// A safetensors file that cannot be read or written: what was attempted, what was found, what to do.
package struct SafetensorsError: Error, CustomStringConvertible {
  package let description: String
}

/// Named arrays and text in one file, in the format that PyTorch's users exchange weights in: 8 bytes of header length
/// (little endian), a JSON header, the bytes of all tensors one after the other.
///
/// Reading does not trust the file: everything is checked by `read` before a tensor is allocated. The file stays open,
/// and each tensor is read when it is asked for.
package struct Safetensors: Sendable {
  /// Element types that this reader knows.
  package enum Scalar: String, Sendable, Decodable {
    case float64 = "F64"
    case float32 = "F32"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case int64 = "I64"
    case int32 = "I32"
    case uint8 = "U8"

    /// Bytes of one element.
    var size: Int {
      switch self {
      case .float64, .int64: 8
      case .float32, .int32: 4
      case .float16, .bfloat16: 2
      case .uint8: 1
      }
    }
  }

  /// Values to write, stored as F32, F64 or I64.
  package enum Values: Sendable {
    case floats([Float])
    case doubles([Double])
    case integers([Int64])
  }

  /// The file's free text, such as the recipe that made the weights.
  package let metadata: [String: String]
  private let entries: [String: SafetensorsHeader.Entry]
  private let file: SafetensorsFile

  /// Opens and checks a file.
  /// - Throws: `SafetensorsError` where the file cannot be opened or its header does not hold.
  package static func read(_ path: String) throws(SafetensorsError) -> Safetensors {
    let file = try SafetensorsFile(path)
    let header = try SafetensorsHeader(of: file)
    return Safetensors(metadata: header.metadata, entries: header.entries, file: file)
  }

  /// Names of all tensors, sorted.
  package var names: [String] { entries.keys.sorted() }

  /// Whether there is a tensor of this name.
  package func contains(_ name: String) -> Bool { entries[name] != nil }

  /// Shape of a tensor, outermost first; empty for a single number.
  package func shape(_ name: String) throws(SafetensorsError) -> [Int] { try entry(name).shape }

  /// Element type of a tensor.
  package func scalar(_ name: String) throws(SafetensorsError) -> Scalar { try entry(name).dtype }

  /// Values of a floating-point tensor, row-major. F64 is rounded, the others are exact.
  package func floats(_ name: String) throws(SafetensorsError) -> [Float] {
    switch try entry(name).dtype {
    case .float32: return try values(name) { Float(bitPattern: $0) }
    case .float64: return try values(name) { Float(Double(bitPattern: $0)) }
    case .float16: return try values(name) { Float(Float16(bitPattern: $0)) }
    case .bfloat16: return try values(name) { (bits: UInt16) in Float(bitPattern: UInt32(bits) << 16) }
    case .int64, .int32, .uint8: throw try wrongType(name, "F64, F32, F16 or BF16")
    }
  }

  /// Values of a floating-point tensor, row-major, exact.
  package func doubles(_ name: String) throws(SafetensorsError) -> [Double] {
    if try entry(name).dtype == .float64 { return try values(name) { Double(bitPattern: $0) } }
    return try floats(name).map(Double.init)
  }

  /// Values of an integer tensor, row-major.
  package func integers(_ name: String) throws(SafetensorsError) -> [Int64] {
    switch try entry(name).dtype {
    case .int64: return try values(name) { Int64(bitPattern: $0) }
    case .int32: return try values(name) { (bits: UInt32) in Int64(Int32(bitPattern: bits)) }
    case .uint8: return try values(name) { (bits: UInt8) in Int64(bits) }
    case .float64, .float32, .float16, .bfloat16: throw try wrongType(name, "I64, I32 or U8")
    }
  }

  private func entry(_ name: String) throws(SafetensorsError) -> SafetensorsHeader.Entry {
    guard let entry = entries[name] else {
      throw file.error("it has no tensor \"\(name)\" among its \(entries.count)")
    }
    return entry
  }

  private func wrongType(_ name: String, _ expected: String) throws(SafetensorsError) -> SafetensorsError {
    file.error("tensor \"\(name)\" is \(try entry(name).dtype.rawValue), expected \(expected)")
  }

  private func values<Bits: FixedWidthInteger, Value>(
    _ name: String, _ value: (Bits) -> Value
  ) throws(SafetensorsError) -> [Value] {
    let entry = try entry(name)
    let bytes = try file.bytes(at: entry.range.lowerBound, count: entry.range.count)
    return bytes.withUnsafeBytes { raw in
      (0..<bytes.count / MemoryLayout<Bits>.size).map {
        value(Bits(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Bits>.size, as: Bits.self)))
      }
    }
  }
}

/// The checked header of a file: every range lies in the file, none overlap, and together they fill it.
struct SafetensorsHeader {
  struct Entry: Sendable {
    let dtype: Safetensors.Scalar
    let shape: [Int]
    /// Bytes in the file.
    let range: Range<Int>
  }

  private(set) var metadata: [String: String] = [:]
  private(set) var entries: [String: Entry] = [:]

  /// What the reference implementation allows for a header.
  private static let longest = 100_000_000

  init(of file: SafetensorsFile) throws(SafetensorsError) {
    guard file.size >= 8 else { throw file.error("it has \(file.size) bytes, expected at least 8") }
    let start = try file.bytes(at: 0, count: 8)
    if let other = Self.otherFormat(start) { throw file.error(other) }
    let length = start.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let room = min(file.size - 8, Self.longest)
    guard length >= 2, length <= UInt64(room) else {
      throw file.error(
        "it claims a header of \(length) bytes, expected 2 to \(room); it is cut short or another format")
    }
    let bytes = try file.bytes(at: 8, count: Int(length))
    guard bytes[0] == UInt8(ascii: "{") else { throw file.error("its header is not a JSON object") }
    let json: JSON
    do { json = try JSONDecoder().decode(JSON.self, from: Data(bytes)) } catch {
      throw file.error("its header does not parse: \(Self.words(error))")
    }
    // A JSON parser keeps one of two members of the same name and says nothing.
    guard Self.members(bytes) == json.members else { throw file.error("its header names something twice") }
    metadata = json.metadata
    for (name, tensor) in json.tensors {
      entries[name] = try Self.entry(name, tensor, data: 8 + Int(length)..<file.size, file)
    }
    try Self.checkCover(entries, data: 8 + Int(length)..<file.size, file)
  }

  /// What a file is that begins so, where it is known and no safetensors file; with what to do.
  private static func otherFormat(_ start: [UInt8]) -> String? {
    if start.starts(with: "version ".utf8) {
      return "it is a Git LFS pointer, not the file itself: fetch that with `git lfs pull`"
    }
    if start.starts(with: [0x50, 0x4B, 3, 4]) || start.starts(with: [0x80, 2]) {
      return "it is a PyTorch or pickle file: save its state_dict with safetensors.torch.save_file"
    }
    return start.starts(with: [0x89, 0x48, 0x44, 0x46]) ? "it is an HDF5 file: give a file of `apus export`" : nil
  }

  private static func entry(
    _ name: String, _ tensor: JSON.Tensor, data: Range<Int>, _ file: SafetensorsFile
  ) throws(SafetensorsError) -> Entry {
    guard let dtype = Safetensors.Scalar(rawValue: tensor.dtype) else {
      throw file.error("tensor \"\(name)\" is \(tensor.dtype), this build reads F64, F32, F16, BF16, I64, I32 and U8")
    }
    let offsets = tensor.data_offsets
    guard offsets.count == 2, 0 <= offsets[0], offsets[0] <= offsets[1], offsets[1] <= data.count else {
      throw file.error("tensor \"\(name)\" lies at \(offsets), expected a range within 0...\(data.count)")
    }
    var size = dtype.size
    for extent in tensor.shape {
      let (product, overflow) = size.multipliedReportingOverflow(by: extent)
      guard extent >= 0, !overflow else { throw file.error("tensor \"\(name)\" has the shape \(tensor.shape)") }
      size = product
    }
    guard size == offsets[1] - offsets[0] else {
      throw file.error(
        "tensor \"\(name)\" of shape \(tensor.shape) and type \(tensor.dtype) needs \(size) bytes, its range "
          + "\(offsets) holds \(offsets[1] - offsets[0])")
    }
    return Entry(
      dtype: dtype, shape: tensor.shape, range: data.lowerBound + offsets[0]..<data.lowerBound + offsets[1])
  }

  private static func checkCover(
    _ entries: [String: Entry], data: Range<Int>, _ file: SafetensorsFile
  ) throws(SafetensorsError) {
    var end = data.lowerBound
    let ordered = entries.sorted {
      ($0.value.range.lowerBound, $0.value.range.upperBound) < ($1.value.range.lowerBound, $1.value.range.upperBound)
    }
    for (name, entry) in ordered {
      guard entry.range.lowerBound == end else {
        let found = entry.range.lowerBound - data.lowerBound
        throw file.error("tensor \"\(name)\" starts at \(found), expected \(end - data.lowerBound): overlap or gap")
      }
      end = entry.range.upperBound
    }
    guard end == data.upperBound else {
      throw file.error("its tensors end at byte \(end), the file at \(data.upperBound)")
    }
  }

  /// How many `name: value` pairs stand in JSON text that is known to parse.
  private static func members(_ text: [UInt8]) -> Int {
    var count = 0
    var quoted = false
    var escaped = false
    for byte in text {
      switch byte {
      case _ where escaped: escaped = false
      case UInt8(ascii: "\\"): escaped = quoted
      case UInt8(ascii: "\""): quoted.toggle()
      case UInt8(ascii: ":") where !quoted: count += 1
      default: break
      }
    }
    return count
  }

  private static func words(_ error: any Error) -> String {
    switch error as? DecodingError {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
      .dataCorrupted(let context):
      let place = context.codingPath.map(\.stringValue).joined(separator: ".")
      return place.isEmpty ? context.debugDescription : "at \(place): \(context.debugDescription)"
    default: return "\(error)"
    }
  }

  private struct JSON: Decodable {
    struct Tensor: Decodable {
      let dtype: String
      let shape: [Int]
      let data_offsets: [Int]
    }
    struct Name: CodingKey {
      let stringValue: String
      var intValue: Int? { nil }
      init(stringValue: String) { self.stringValue = stringValue }
      init?(intValue: Int) { nil }
    }

    var metadata: [String: String] = [:]
    var tensors: [String: Tensor] = [:]
    /// Pairs in all objects of the header.
    var members = 0

    init(from decoder: any Decoder) throws {
      let header = try decoder.container(keyedBy: Name.self)
      members = header.allKeys.count
      for key in header.allKeys {
        if key.stringValue == "__metadata__" {
          metadata = try header.decode([String: String].self, forKey: key)
          members += metadata.count
        } else {
          tensors[key.stringValue] = try header.decode(Tensor.self, forKey: key)
          members += try header.nestedContainer(keyedBy: Name.self, forKey: key).allKeys.count
        }
      }
    }
  }
}

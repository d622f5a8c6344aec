import Files
import Foundation

/// An open file of known size, read by offset: any thread may.
final class SafetensorsFile: Sendable {
  let path: String
  let size: Int
  private let descriptor: Int32

  init(_ path: String) throws(SafetensorsError) {
    self.path = path
    // Without O_NONBLOCK a named pipe would wait for a writer.
    descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { throw SafetensorsFile.error("read", path, String(cString: strerror(errno))) }
    var status = stat()
    let regular = fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    size = regular ? Int(status.st_size) : 0
    guard regular else {
      close(descriptor)
      throw SafetensorsFile.error("read", path, "it is not a regular file")
    }
  }

  deinit { close(descriptor) }

  /// `count` bytes from `offset`; the caller has checked that the file has them.
  func bytes(at offset: Int, count: Int) throws(SafetensorsError) -> [UInt8] {
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      let whole = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: count)
      filled = Descriptor.read(descriptor, at: offset, into: whole) ?? 0
    }
    guard bytes.count == count else {
      throw error("only \(bytes.count) of \(count) bytes at \(offset) could be read; it was changed, or the disk fails")
    }
    return bytes
  }

  func error(_ what: String) -> SafetensorsError { SafetensorsFile.error("read", path, what) }

  static func error(_ verb: String, _ path: String, _ what: String) -> SafetensorsError {
    SafetensorsError(description: "cannot \(verb) safetensors file \(path): \(what)")
  }
}

extension Safetensors {
  /// Writes a file whole or not at all, see `AtomicFile`. The same tensors give the same bytes.
  /// - Parameters:
  ///   - tensors: distinct names; as many values as the shape says, row-major.
  ///   - metadata: free text, kept sorted by key.
  /// - Throws: `SafetensorsError` where the folder cannot be written or the disk is full; nothing is left behind.
  package static func write(
    _ tensors: [(name: String, shape: [Int], values: Values)], metadata: [String: String] = [:], to path: String
  ) throws(SafetensorsError) {
    precondition(Set(tensors.map(\.name)).count == tensors.count, "a name stands twice in \(tensors.map(\.name))")
    for tensor in tensors {
      precondition(tensor.name != "__metadata__", "__metadata__ is no tensor's name")
      precondition(
        tensor.shape.reduce(1, *) == tensor.values.count,
        "\(tensor.name): shape \(tensor.shape), \(tensor.values.count) values")
    }
    // Eight-byte elements first, so that every tensor is aligned.
    let ordered = tensors.filter { $0.values.size == 8 } + tensors.filter { $0.values.size == 4 }
    do throws(FileError) {
      let file = try AtomicFile(path)
      try file.write(header(ordered, metadata))
      for tensor in ordered {
        try tensor.values.withBytes { (bytes) throws(FileError) in try file.write(bytes) }
      }
      try file.commit()
    } catch { throw SafetensorsFile.error("write", path, error.found) }
  }

  private static func header(
    _ tensors: [(name: String, shape: [Int], values: Values)], _ metadata: [String: String]
  ) -> [UInt8] {
    func quoted(_ text: String) -> String {
      let encoder = JSONEncoder()
      encoder.outputFormatting = .withoutEscapingSlashes
      guard let data = try? encoder.encode(text) else { preconditionFailure("a string always encodes") }
      return String(decoding: data, as: UTF8.self)
    }
    var members: [String] = []
    var offset = 0
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key < $1.key }.map { quoted($0.key) + ":" + quoted($0.value) }
      members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    for tensor in tensors {
      let end = offset + tensor.values.count * tensor.values.size
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      members.append(
        quoted(tensor.name) + ":{\"dtype\":\"\(tensor.values.type.rawValue)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(offset),\(end)]}")
      offset = end
    }
    var text = [UInt8]("{\(members.joined(separator: ","))}".utf8)
    while text.count % 8 != 0 { text.append(UInt8(ascii: " ")) }
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { [UInt8]($0) } + text
  }

}

extension Safetensors.Values {
  var count: Int {
    switch self {
    case .floats(let values): values.count
    case .doubles(let values): values.count
    case .integers(let values): values.count
    }
  }

  var type: Safetensors.Scalar {
    switch self {
    case .floats: .float32
    case .doubles: .float64
    case .integers: .int64
    }
  }

  var size: Int { type.size }

  /// The values as they lie in memory, which is the file's order on a little-endian machine: all that Swift runs on.
  func withBytes(_ body: (UnsafeRawBufferPointer) throws(FileError) -> Void) throws(FileError) {
    func raw<T>(_ values: [T]) throws(FileError) {
      try values.withUnsafeBufferPointer { (buffer) throws(FileError) in try body(UnsafeRawBufferPointer(buffer)) }
    }
    switch self {
    case .floats(let values): try raw(values)
    case .doubles(let values): try raw(values)
    case .integers(let values): try raw(values)
    }
  }
}

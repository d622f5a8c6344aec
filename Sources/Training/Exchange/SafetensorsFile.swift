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
    var done = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while done < count {
        let got = pread(descriptor, buffer.baseAddress! + done, count - done, off_t(offset + done))
        if got < 0 && errno == EINTR { continue }
        if got <= 0 { break }
        done += got
      }
      filled = done
    }
    guard done == count else {
      throw error("only \(done) of \(count) bytes at \(offset) could be read; it was changed, or the disk fails")
    }
    return bytes
  }

  func error(_ what: String) -> SafetensorsError { SafetensorsFile.error("read", path, what) }

  static func error(_ verb: String, _ path: String, _ what: String) -> SafetensorsError {
    SafetensorsError(description: "cannot \(verb) safetensors file \(path): \(what)")
  }
}

extension Safetensors {
  /// Writes a file whole or not at all: aside, to disk, then renamed. The same tensors give the same bytes.
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
    let aside = "\(path).\(getpid()).partial"
    let descriptor = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw SafetensorsFile.error("write", path, String(cString: strerror(errno))) }
    var good = append(header(ordered, metadata), to: descriptor)
    for tensor in ordered where good { good = tensor.values.withBytes { append($0, to: descriptor) } }
    good = good && fsync(descriptor) == 0
    var code = errno
    if close(descriptor) != 0 && good { (good, code) = (false, errno) }
    if good && rename(aside, path) != 0 { (good, code) = (false, errno) }
    guard good else {
      unlink(aside)
      throw SafetensorsFile.error("write", path, String(cString: strerror(code)))
    }
    syncFolder(of: path)
  }

  /// A rename is lasting only when its folder is. Some file systems refuse to synchronise folders; the file is safe.
  private static func syncFolder(of path: String) {
    let name = (path as NSString).deletingLastPathComponent
    let folder = open(name.isEmpty ? "." : name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { return }
    fsync(folder)
    close(folder)
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

  private static func append(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
    bytes.withUnsafeBytes { append($0, to: descriptor) }
  }

  private static func append(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Bool {
    var done = 0
    while done < bytes.count {
      let wrote = Foundation.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
      if wrote < 0 && errno == EINTR { continue }
      if wrote <= 0 { return false }
      done += wrote
    }
    return true
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
  func withBytes(_ body: (UnsafeRawBufferPointer) -> Bool) -> Bool {
    switch self {
    case .floats(let values): values.withUnsafeBytes(body)
    case .doubles(let values): values.withUnsafeBytes(body)
    case .integers(let values): values.withUnsafeBytes(body)
    }
  }
}

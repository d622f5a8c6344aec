import CHDF5
import Files
import Foundation
import Synchronization

/// An HDF5 file: typed contiguous datasets in groups, and attributes.
///
/// The serial HDF5 library is not thread-safe, so every call takes one process-wide lock. Threads that read bulk data
/// should use `pread` at `offset(of:)`. Files are opened without file locks. It reads only what it writes: contiguous
/// datasets of plain numbers and fixed-length strings, and no links to other files. A size that the file claims is
/// checked against the file's own size before memory is allocated for it.
package final class HDF5File: @unchecked Sendable {
  /// Path of the file.
  package let path: String
  private var handle: Int64
  private var fileSize: Int { (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0 }

  private static let library = Mutex(())

  private init(_ path: String, _ mode: Int, alignment: Int, _ attempt: String) throws(FileError) {
    self.path = path
    var message = [CChar](repeating: 0, count: Int(CHDF5_MESSAGE))
    handle = Self.library.withLock { _ in
      chdf5_quiet()
      return chdf5_open(path, Int32(mode), Int64(alignment), &message)
    }
    if handle < 0 { throw FileError(path, attempt, Self.text(message)) }
  }

  deinit { try? close() }

  /// Creates a file that must not exist yet.
  /// - Parameter alignment: every allocation in the file starts at a multiple of it.
  package static func create(_ path: String, alignment: Int) throws(FileError) -> HDF5File {
    var status = stat()
    if lstat(path, &status) == 0 {
      throw FileError(path, "create", "it already exists; remove it or choose another name")
    }
    return try HDF5File(path, Int(CHDF5_CREATE), alignment: alignment, "create")
  }

  /// Creates a file that must not exist yet.
  package static func create(_ path: String) throws(FileError) -> HDF5File { try create(path, alignment: 1) }

  /// Opens a file to read.
  package static func open(_ path: String) throws(FileError) -> HDF5File {
    try checkSignature(path)
    return try HDF5File(path, Int(CHDF5_READ), alignment: 1, "read")
  }

  /// Opens a file to add attributes or datasets.
  package static func update(_ path: String) throws(FileError) -> HDF5File {
    try checkSignature(path)
    return try HDF5File(path, Int(CHDF5_UPDATE), alignment: 1, "change")
  }

  /// Closes the file. Written data is certain to have reached the system only after this. Closing twice is allowed.
  package func close() throws(FileError) {
    guard handle >= 0 else { return }
    let closing = handle
    handle = -1
    try call("write") { chdf5_close(closing, $0) }
  }

  // MARK: Datasets

  /// Writes a new contiguous dataset.
  /// - Parameters:
  ///   - shape: its extents, slowest first; their product is the number of values. `[]` is a scalar.
  ///   - name: such as `index/offset`; missing groups of the path are created.
  package func write<T: HDF5Scalar>(
    _ values: UnsafeBufferPointer<T>, shape: [Int], to name: String
  ) throws(FileError) {
    precondition(shape.reduce(1, *) == values.count, "\(values.count) values do not have the shape \(shape)")
    let extents = shape.map(Int64.init)
    // Without values `chdf5_write` only allocates; an empty buffer has no address, and nothing to write either.
    try call("write dataset \"\(name)\" to") {
      chdf5_write(
        open, name, T.hdf5Type.rawValue, Int64(MemoryLayout<T>.size), Int32(extents.count), extents,
        values.baseAddress, $0)
    }
  }

  /// Writes a new contiguous dataset; without a shape it has one dimension.
  package func write<T: HDF5Scalar>(_ values: [T], shape: [Int]? = nil, to name: String) throws(FileError) {
    try values.withUnsafeBufferPointer { (buffer) throws(FileError) in
      try write(buffer, shape: shape ?? [values.count], to: name)
    }
  }

  /// Writes strings, null-padded to the longest of them.
  package func write(_ texts: [String], to name: String) throws(FileError) {
    let (bytes, element) = Self.pad(texts)
    try call("write dataset \"\(name)\" to") {
      chdf5_write(open, name, HDF5Type.text.rawValue, Int64(element), 1, [Int64(texts.count)], bytes, $0)
    }
  }

  /// Allocates a dataset of bytes without writing them.
  package func reserve(bytes: Int, as name: String) throws(FileError) {
    try call("write dataset \"\(name)\" to") {
      chdf5_write(open, name, HDF5Type.uint8.rawValue, 1, 1, [Int64(bytes)], nil, $0)
    }
  }

  /// Extents of a dataset, slowest first.
  package func shape(of name: String) throws(FileError) -> [Int] { Self.shape(try info(name)) }

  /// Type of a dataset's elements.
  package func type(of name: String) throws(FileError) -> HDF5Type { HDF5Type(rawValue: try info(name).type) ?? .other }

  /// Byte offset of a contiguous dataset in the file, for reading with `pread`. The dataset is checked to lie inside.
  package func offset(of name: String) throws(FileError) -> Int { Int(try contiguous(name).offset) }

  /// Byte offset of a dataset of strings in the file, and the length of each string in bytes.
  package func textLayout(of name: String) throws(FileError) -> (offset: Int, element: Int) {
    let info = try contiguous(name)
    try expect(info, HDF5Type.text, name)
    return (Int(info.offset), Int(info.element))
  }

  /// Reads a whole dataset. Its type must be exactly `T`.
  package func read<T: HDF5Scalar>(_ name: String, as type: T.Type = T.self) throws(FileError) -> [T] {
    let info = try contiguous(name)
    var values = [T](repeating: .zero, count: Int(info.count))
    try values.withUnsafeMutableBufferPointer { (buffer) throws(FileError) in try read(name, into: buffer) }
    return values
  }

  /// Reads a whole dataset into a buffer of exactly its size.
  package func read<T: HDF5Scalar>(_ name: String, into buffer: UnsafeMutableBufferPointer<T>) throws(FileError) {
    let info = try contiguous(name)
    try expect(info, T.hdf5Type, name)
    guard info.count == buffer.count else {
      throw FileError(path, "read dataset \"\(name)\" of", "it has \(info.count) values, not \(buffer.count)")
    }
    guard buffer.count > 0 else { return }
    try call("read dataset \"\(name)\" of") {
      chdf5_read(open, name, T.hdf5Type.rawValue, Int64(MemoryLayout<T>.size), buffer.baseAddress, $0)
    }
  }

  /// Reads a range of the first dimension into a buffer of exactly its size.
  package func read<T: HDF5Scalar>(
    _ name: String, rows: Range<Int>, into buffer: UnsafeMutableBufferPointer<T>
  ) throws(FileError) {
    let info = try contiguous(name)
    let shape = Self.shape(info)
    let attempt = "read dataset \"\(name)\" of"
    try expect(info, T.hdf5Type, name)
    let width = shape.dropFirst().reduce(1, *) * MemoryLayout<T>.stride
    guard let count = shape.first, rows.lowerBound >= 0, rows.upperBound <= count,
      rows.count * width == buffer.count * MemoryLayout<T>.stride
    else {
      throw FileError(
        path, attempt, "it has the shape \(shape), and rows \(rows) of \(buffer.count) values were asked for")
    }
    let descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError(path, attempt, String(cString: strerror(errno))) }
    defer { Foundation.close(descriptor) }
    let bytes = UnsafeMutableRawBufferPointer(buffer)
    guard let done = Descriptor.read(descriptor, at: Int(info.offset) + rows.lowerBound * width, into: bytes) else {
      throw FileError(path, attempt, String(cString: strerror(errno)))
    }
    guard done == bytes.count else { throw FileError(path, attempt, "the file ends too early") }
  }

  /// Reads a list of strings.
  package func readTexts(_ name: String) throws(FileError) -> [String] {
    let info = try contiguous(name)
    try expect(info, .text, name)
    var bytes = [UInt8](repeating: 0, count: Int(info.count * info.element))
    if bytes.isEmpty { return [] }
    try call("read dataset \"\(name)\" of") {
      chdf5_read(open, name, HDF5Type.text.rawValue, info.element, &bytes, $0)
    }
    return Self.unpad(bytes, Int(info.element))
  }

  /// Names of a group's members, sorted.
  package func names(in group: String = "/") throws(FileError) -> [String] {
    var count = 0 as Int64
    try call("list group \"\(group)\" of") {
      count = chdf5_group_count(open, group, $0)
      return count < 0 ? -1 : 0
    }
    var names: [String] = []
    for index in 0..<count {
      var name = [CChar](repeating: 0, count: 1024)
      try call("list group \"\(group)\" of") {
        chdf5_group_name(open, group, index, &name, 1024, $0) < 0 ? -1 : 0
      }
      names.append(Self.text(name))
    }
    return names
  }

  // MARK: Under the lock

  func call(_ attempt: String, _ body: (UnsafeMutablePointer<CChar>) -> Int32) throws(FileError) {
    var message = [CChar](repeating: 0, count: Int(CHDF5_MESSAGE))
    let status = Self.library.withLock { _ in
      chdf5_quiet()
      return body(&message)
    }
    if status != 0 { throw FileError(path, attempt, Self.text(message)) }
  }

  var open: Int64 {
    precondition(handle >= 0, "\(path) is closed")
    return handle
  }

  /// Refuses a dataset or attribute that claims more bytes than the whole file has.
  func checkSize(_ info: chdf5_info, _ what: String) throws(FileError) {
    let (bytes, overflow) = info.count.multipliedReportingOverflow(by: info.element)
    if overflow || bytes > Int64(fileSize) {
      throw FileError(
        path, "read \(what) of", "it claims \(info.count) elements of \(info.element) bytes, more than the whole file")
    }
  }

  private func info(_ name: String) throws(FileError) -> chdf5_info {
    var info = chdf5_info()
    try call("read dataset \"\(name)\" of") { chdf5_dataset_info(open, name, &info, $0) }
    return info
  }

  private func contiguous(_ name: String) throws(FileError) -> chdf5_info {
    let info = try info(name)
    let what = "dataset \"\(name)\""
    guard info.contiguous == 1 else {
      throw FileError(path, "read \(what) of", "it is not stored in one piece, so apus did not write it")
    }
    try checkSize(info, what)
    let bytes = info.count * info.element
    if bytes == 0 { return info }
    let (end, overflow) = info.offset.addingReportingOverflow(bytes)
    guard info.offset >= 0, !overflow, end <= Int64(fileSize), info.stored == bytes else {
      throw FileError(path, "read \(what) of", "its \(bytes) bytes do not lie inside the file; copy the file again")
    }
    return info
  }

  private func expect(_ info: chdf5_info, _ type: HDF5Type, _ name: String) throws(FileError) {
    let found = HDF5Type(rawValue: info.type) ?? .other
    if found != type {
      throw FileError(path, "read dataset \"\(name)\" of", "it holds \(found), expected \(type)")
    }
  }

  private static func shape(_ info: chdf5_info) -> [Int] {
    withUnsafeBytes(of: info.shape) { Array($0.bindMemory(to: Int64.self).prefix(Int(info.rank)).map(Int.init)) }
  }
}

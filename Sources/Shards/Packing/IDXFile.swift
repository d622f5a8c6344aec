import CZlib
import Files
import Foundation

/// IDX, the format of MNIST and Fashion-MNIST, gzipped or plain: two zero bytes, an element type (8: unsigned bytes),
/// the number of dimensions, each as 32 bits big-endian, then the elements (LeCun, Cortes, Burges: the MNIST database).
struct IDXFile: PackSource {
  static let help = "an IDX file (train-images-idx3-ubyte.gz; its labels are found beside it)"
  static let options: Set<SourceOption> = [.labels, .classNames]
  /// Gzip's best ratio, so the most that a file can hold.
  private static let bestRatio = 1032

  private let width: Int, height: Int, channels: Int
  /// (count, height, width, channels), all in memory.
  private let bytes: [UInt8]
  private(set) var listing = SourceListing(kind: "IDX file")

  static func recognises(_ path: SourcePath) -> Bool {
    guard !path.isFolder, let file = czlib_open(path.path) else { return false }
    defer { czlib_close(file) }
    var start = [UInt8](repeating: 0xFF, count: 4)
    return czlib_read(file, &start, 4) == 4 && start[0] == 0 && start[1] == 0 && (8...14).contains(start[2])
      && (1...8).contains(start[3])
  }

  init(_ path: String, _ options: SourceOptions) throws {
    let (shape, bytes) = try Self.read(path, dimensions: 3...4)
    let channels = shape.count == 4 ? shape[3] : 1
    guard channels <= 64, shape[1] * shape[2] <= ImageDecoder.largest else {
      throw FileError(path, "pack", "images of the shape \(shape.dropFirst()) are too large")
    }
    self.bytes = bytes
    self.channels = channels
    height = shape[1]
    width = shape[2]
    let file = Name(path).last.text
    let stem = file.range(of: "-idx").map { String(file[..<$0.lowerBound]) } ?? file
    let digits = String(shape[0] - 1).count
    for number in 0..<shape[0] {
      let name = String(number)
      let key = stem + "/" + String(repeating: "0", count: digits - name.count) + name
      listing.images.append(SourceImage(key: Name(key), label: -1, number: number))
    }
    guard options.labelled, let labels = options.labels ?? Self.labelsBeside(path) else { return }
    try setLabels(labels, options.classNames)
  }

  func contents(of image: SourceImage) throws(ImageError) -> ImageContents {
    let size = width * height * channels
    let start = image.number * size
    return .pixels(Array(bytes[start..<start + size]), width: width, height: height, channels: channels)
  }

  private mutating func setLabels(_ path: String, _ names: [String]?) throws(FileError) {
    let (shape, labels) = try Self.read(path, dimensions: 1...1)
    guard shape[0] == listing.images.count else {
      throw FileError(path, "pack", "it has \(shape[0]) labels for \(listing.images.count) images")
    }
    let most = Int(labels.max() ?? 0)
    let classNames = names ?? (0...most).map(String.init)
    guard classNames.count > most else {
      throw FileError(path, "pack", "it has label \(most), but only \(classNames.count) class names were given")
    }
    listing.classNames = classNames.map { Name($0) }
    for index in listing.images.indices { listing.images[index].label = Int32(labels[index]) }
  }

  /// `train-labels-idx1-ubyte.gz` for `train-images-idx3-ubyte.gz`.
  private static func labelsBeside(_ path: String) -> String? {
    guard let at = path.range(of: "images-idx", options: .backwards) else { return nil }
    let tail = path[at.upperBound...].dropFirst()
    let candidate = path[..<at.lowerBound] + "labels-idx1" + tail
    return access(String(candidate), R_OK) == 0 ? String(candidate) : nil
  }

  // MARK: Format

  /// Reads unsigned bytes of a number of dimensions.
  private static func read(
    _ path: String, dimensions allowed: ClosedRange<Int>
  ) throws(FileError) -> (shape: [Int], bytes: [UInt8]) {
    var status = stat()
    guard stat(path, &status) == 0, let file = czlib_open(path) else { throw FileError.system(path, "read") }
    defer { czlib_close(file) }
    func fill(_ bytes: inout [UInt8], _ what: String) throws(FileError) {
      let got = Int(czlib_read(file, &bytes, bytes.count))
      if got < 0 { throw FileError(path, "read", "damaged: " + String(cString: czlib_message(file))) }
      if got < bytes.count {
        throw FileError(path, "read", "it ends in \(what), \(bytes.count - got) bytes too early")
      }
    }
    var start = [UInt8](repeating: 0, count: 4)
    try fill(&start, "its header")
    guard start[0] == 0, start[1] == 0, start[2] == 8, allowed.contains(Int(start[3])) else {
      throw FileError(path, "read", "it is no IDX file of unsigned bytes with \(allowed) dimensions")
    }
    var sizes = [UInt8](repeating: 0, count: Int(start[3]) * 4)
    try fill(&sizes, "its header")
    let shape = stride(from: 0, to: sizes.count, by: 4).map { at in
      sizes[at..<at + 4].reduce(0) { $0 << 8 | Int($1) }
    }
    let most = (Int(status.st_size) + 1) * bestRatio
    var count = 1
    for size in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      guard size > 0, !overflow, product <= most else {
        throw FileError(path, "read", "it claims the shape \(shape), more than its \(status.st_size) bytes can hold")
      }
      count = product
    }
    var bytes = [UInt8](repeating: 0, count: count)
    try fill(&bytes, "its elements")
    return (shape, bytes)
  }
}

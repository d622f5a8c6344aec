import Files
import Foundation

/// Where images to be packed come from. A source is a file with a type of its own and a row in `PackSources.all`.
package protocol PackSource: Sendable {
  /// What it is, for the command's help.
  static var help: String { get }
  /// The options that say something to it; others are refused.
  static var options: Set<SourceOption> { get }
  /// Whether a path is such a source.
  static func recognises(_ path: SourcePath) -> Bool
  /// Lists the images, without decoding any.
  /// - Throws: `FileError`, or `Interrupted` after a signal.
  init(_ path: String, _ options: SourceOptions) throws
  var listing: SourceListing { get }
  /// Reads one image of the listing. Called from any thread.
  func contents(of image: SourceImage) throws(ImageError) -> ImageContents
}

/// The kinds of sources.
package enum PackSources {
  /// The first that recognises a path takes it.
  package static let all: [any PackSource.Type] = [ImageFolder.self, IDXFile.self, ImageList.self]

  /// Recognises a path and lists its images.
  /// - Throws: `FileError` for a path that is no source, an option that says nothing to it, or a source without
  ///   images; `Interrupted` after a signal.
  package static func open(
    _ path: String, _ options: SourceOptions = SourceOptions(), among kinds: [any PackSource.Type] = all
  ) throws -> any PackSource {
    let found = try SourcePath(path)
    guard let kind = kinds.first(where: { $0.recognises(found) }) else {
      throw FileError(path, "pack", UnpackableFile.reason(found.start))
    }
    for option in options.given where !kind.options.contains(option) {
      throw FileError(path, "pack", "--\(option.rawValue) says nothing to this kind of source; leave it out")
    }
    let source = try kind.init(path, options)
    if source.listing.images.isEmpty, source.listing.rejected.isEmpty {
      let endings = ImageFormats.all.flatMap { $0.suffixes }.map { "." + $0 }.joined(separator: ", ")
      throw FileError(path, "pack", "it has no images (files whose names end in \(endings))")
    }
    return source
  }
}

/// What shows of a path before a source reads it.
package struct SourcePath: Sendable {
  package let path: String
  package let isFolder: Bool
  /// A file's first bytes, at most 512.
  package let start: [UInt8]

  init(_ path: String) throws(FileError) {
    self.path = path
    var status = stat()
    if stat(path, &status) != 0 { throw FileError.system(path, "read") }
    isFolder = status.st_mode & S_IFMT == S_IFDIR
    start = isFolder ? [] : ImageFile.start(Name(path))
    if isFolder { return }
    // Reading a pipe or a device can wait for ever.
    let others: [mode_t: String] = [
      S_IFIFO: "a pipe", S_IFSOCK: "a socket", S_IFCHR: "a device", S_IFBLK: "a device",
    ]
    if let other = others[status.st_mode & S_IFMT] {
      throw FileError(path, "pack", "it is \(other); name a folder or a file (a list can be saved as one first)")
    }
    if access(path, R_OK) != 0 { throw FileError.system(path, "read") }
    if status.st_size == 0 { throw FileError(path, "pack", "it is empty") }
  }
}

/// An option of `apus pack` that concerns some sources only.
package enum SourceOption: String, CaseIterable, Sendable {
  case labels
  case classNames = "class-names"
  case root
}

/// How a source is to be read.
package struct SourceOptions: Sendable {
  /// IDX labels; nil looks for them beside the images.
  package var labels: String?
  /// What IDX labels mean; nil numbers them.
  package var classNames: [String]?
  /// The folder that a list's paths start from; nil is the list's own.
  package var root: String?
  /// False leaves labels away.
  package var labelled = true

  package init() {}

  var given: [SourceOption] {
    SourceOption.allCases.filter {
      switch $0 {
      case .labels: labels != nil
      case .classNames: classNames != nil
      case .root: root != nil
      }
    }
  }
}

/// An image of a source.
package struct SourceImage: Sendable, Equatable {
  /// Unique name: path below the folder, path in the list, number in the IDX file.
  package var key: Name
  /// Class, -1 for none.
  package var label: Int32
  /// Its number in the source.
  package var number: Int

  package init(key: Name, label: Int32, number: Int) {
    self.key = key
    self.label = label
    self.number = number
  }
}

/// What a source holds.
package struct SourceListing: Sendable {
  /// What kind of source it is, for people.
  package var kind: String
  package var images: [SourceImage] = []
  /// What labels 0, 1, ... mean; empty without classes.
  package var classNames: [Name] = []
  /// Files that cannot be taken for a reason that shows without decoding them.
  package var rejected: [Rejected] = []
  /// Files whose names are not those of images, left alone.
  package var ignored: [Name] = []
  /// What the user should know before the work starts.
  package var notices: [String] = []

  package init(kind: String) { self.kind = kind }
}

/// A file that is left out, and why.
package struct Rejected: Sendable, Equatable {
  package var key: String
  package var reason: String

  package init(_ key: String, _ reason: String) {
    self.key = key
    self.reason = reason
  }
}

/// What a source gives for an image.
package enum ImageContents: Sendable {
  /// A file's bytes, in any of `ImageFormats`.
  case file([UInt8])
  /// Upright 8-bit pixels (height, width, channels).
  case pixels([UInt8], width: Int, height: Int, channels: Int)
}

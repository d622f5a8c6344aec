import Foundation

/// What is to be packed: a list of images with keys and labels, wherever they come from.
package struct PackSource: Sendable {
  /// Where an image's bytes are.
  package enum Location: Sendable {
    case file(String)
    /// Number of an image in `idx`.
    case idx(Int)
  }

  package struct Image: Sendable {
    /// Unique name: path below the folder, line of the list, number in the IDX file.
    package var key: String
    /// Class, -1 for none.
    package var label: Int32
    package var location: Location

    package init(key: String, label: Int32, location: Location) {
      self.key = key
      self.label = label
      self.location = location
    }
  }

  /// What kind of source it is, for people.
  package var kind: String
  package var images: [Image]
  /// What labels 0, 1, ... mean; empty without classes.
  package var classNames: [String] = []
  /// Files that cannot be taken for a reason that shows without opening them.
  package var rejected: [Rejected] = []
  /// Files whose names are not those of images, left alone.
  package var ignored: [String] = []
  package var idx: IDXImages?

  package struct Rejected: Sendable, Equatable {
    package var key: String
    package var reason: String

    package init(_ key: String, _ reason: String) {
      self.key = key
      self.reason = reason
    }
  }

  /// Looks at a path: a folder of images, an IDX file (by its first bytes) or a list.
  /// - Parameters:
  ///   - labels: IDX labels; nil looks for them beside the images.
  ///   - classNames: what IDX labels mean; nil numbers them.
  ///   - labelled: false leaves labels away.
  package init(
    _ path: String, labels: String? = nil, classNames: [String]? = nil, labelled: Bool = true
  ) throws(ShardError) {
    var status = stat()
    if stat(path, &status) != 0 { throw ShardError.system(path, "read") }
    if status.st_mode & S_IFMT == S_IFDIR {
      self = try ImageFolder(path, labelled: labelled).source()
    } else if IDX.isIDX(path) {
      self = try IDX.source(path, labels: labels, classNames: classNames, labelled: labelled)
    } else {
      self = try ImageList.source(path, labelled: labelled)
    }
    if images.isEmpty, rejected.isEmpty {
      throw ShardError(path, "pack", "it has no images (files that end in .jpg, .jpeg, .png and the like)")
    }
  }

  init(kind: String, images: [Image]) {
    self.kind = kind
    self.images = images
  }
}

/// A folder of images: `folder/CLASS/**/x.jpg`, or without classes where all files lie in the folder itself.
struct ImageFolder {
  /// Names that are tried. What a file is, its bytes say; a name without a suffix is tried too.
  static let suffixes: Set<String> = [
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "gif", "bmp", "webp", "tif", "tiff", "heic", "avif", "",
  ]
  private static let deepest = 32

  let root: String
  let labelled: Bool
  private var files: [String] = []
  private var rejected: [PackSource.Rejected] = []
  private var ignored: [String] = []

  init(_ root: String, labelled: Bool) throws(ShardError) {
    self.root = root
    self.labelled = labelled
    try list("", depth: 0)
  }

  /// Collects files below a folder, following links to folders, and leaving out hidden names.
  private mutating func list(_ folder: String, depth: Int) throws(ShardError) {
    let path = folder.isEmpty ? root : root + "/" + folder
    guard let stream = opendir(path) else {
      if folder.isEmpty { throw ShardError.system(path, "read") }
      rejected.append(.init(folder, "the folder cannot be read: " + String(cString: strerror(errno))))
      return
    }
    defer { closedir(stream) }
    guard depth < Self.deepest else {
      rejected.append(.init(folder, "more than \(Self.deepest) folders deep; a link may lead in a circle"))
      return
    }
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
        String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasPrefix(".") { continue }
      let key = folder.isEmpty ? name : folder + "/" + name
      var status = stat()
      let isLinkOrUnknown = entry.pointee.d_type != UInt8(DT_REG) && entry.pointee.d_type != UInt8(DT_DIR)
      let isFolder =
        entry.pointee.d_type == UInt8(DT_DIR)
        || isLinkOrUnknown && stat(root + "/" + key, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
      let suffix = Self.suffix(name)
      if isFolder, !suffix.isEmpty, Self.suffixes.contains(suffix) {
        rejected.append(.init(key, "it is a folder"))
      } else if isFolder {
        try list(key, depth: depth + 1)
      } else if Self.suffixes.contains(suffix) {
        files.append(key)
      } else {
        ignored.append(key)
      }
    }
  }

  private static func suffix(_ name: String) -> String {
    guard let dot = name.lastIndex(of: ".") else { return "" }
    return name[name.index(after: dot)...].lowercased()
  }

  func source() -> PackSource {
    let classes = Set(files.compactMap(Self.className))
    let names = labelled ? classes.sorted() : []
    let labels = Dictionary(uniqueKeysWithValues: zip(names, Int32(0)...))
    var source = PackSource(kind: names.isEmpty ? "folder without classes" : "folder of classes", images: [])
    source.classNames = names
    source.rejected = rejected
    source.ignored = ignored.sorted()
    for key in files {
      let name = Self.className(key)
      if !names.isEmpty, name == nil {
        source.rejected.append(.init(key, "it lies beside the class folders, so it has no class"))
        continue
      }
      source.images.append(.init(key: key, label: name.flatMap { labels[$0] } ?? -1, location: .file(root + "/" + key)))
    }
    return source
  }

  private static func className(_ key: String) -> String? {
    key.firstIndex(of: "/").map { String(key[..<$0]) }
  }
}

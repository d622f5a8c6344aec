import Files

/// A folder of images: `FOLDER/CLASS/**/x.jpg`, or without classes where all files lie in the folder itself.
/// `FolderWalk` says how links are followed.
struct ImageFolder: PackSource {
  static let help =
    "a folder with a folder for each class (photos/cat/1.jpg), a folder of images without classes"
  static let options: Set<SourceOption> = []
  /// Names of folders that are parts of a data set, not classes.
  private static let parts: Set<Name> = [
    "train", "training", "val", "valid", "validation", "test", "testing", "unlabeled", "unlabelled", "images",
  ]

  private let root: Name
  private(set) var listing: SourceListing

  static func recognises(_ path: SourcePath) -> Bool { path.isFolder }

  init(_ path: String, _ options: SourceOptions) throws {
    root = Name(path)
    let walk = try FolderWalk(root)
    if walk.files.contains(Name(Format.shardName(0))) {
      throw FileError(path, "pack", "it is a data set already; `apus shard` spreads or splits it")
    }
    var ignored: [Name] = []
    let files = walk.files.filter { [root] file in
      let isImage = Self.isImage(file, in: root)
      if !isImage { ignored.append(file) }
      return isImage
    }
    let classes = Set(files.compactMap(\.first))
    let names = options.labelled ? classes.sorted() : []
    listing = SourceListing(kind: names.isEmpty ? "folder without classes" : "folder of classes")
    listing.classNames = names
    listing.rejected = walk.rejected
    listing.ignored = ignored.sorted()
    let labels = Dictionary(uniqueKeysWithValues: zip(names, Int32(0)...))
    for key in files {
      let label = key.first.flatMap { labels[$0] }
      if !names.isEmpty, label == nil {
        listing.rejected.append(Rejected(key.text, "it lies beside the class folders, so it has no class"))
      } else {
        listing.images.append(SourceImage(key: key, label: label ?? -1, number: listing.images.count))
      }
    }
    listing.rejected.sort { $0.key < $1.key }
    listing.notices = Self.notices(names, path)
  }

  private static func isImage(_ file: Name, in root: Name) -> Bool {
    switch ImageFormats.says(file) {
    case .image: true
    case .perhaps: ImageFormats.name(ImageFile.start(root.appending(file))) != nil
    case .other: false
    }
  }

  /// Hints where the classes that were found are hardly meant as such.
  private static func notices(_ classes: [Name], _ path: String) -> [String] {
    if classes.isEmpty { return [] }
    if let part = classes.first(where: parts.contains), classes.allSatisfy(parts.contains) {
      return [
        "the folders are named as parts of a data set, not as classes: pack \(path)/\(part) for the classes below it, "
          + "or add --unlabelled"
      ]
    }
    let isNumbered = classes.allSatisfy { name in
      name.bytes.count >= 5 && name.bytes.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }
    if !isNumbered { return [] }
    return [
      "the folders are numbered (\(classes[0]), ...), as downloaded parts are: add --unlabelled if they are no classes"
    ]
  }

  func contents(of image: SourceImage) throws(ImageError) -> ImageContents {
    .file(try ImageFile.contents(root.appending(image.key)))
  }
}

import Foundation
import Shards
import Testing

/// Images that are taken from folders and lists, and reports of files that are not.
@Suite(.serialized) struct SourceTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return "\(error)" }
  }

  /// Creates a folder below the test's own.
  private func make(_ path: String) throws {
    try FileManager.default.createDirectory(atPath: folder.path + "/" + path, withIntermediateDirectories: true)
  }

  /// Copies an image to places below the folder.
  private func place(_ paths: String..., fixture: String = "rgb.jpg") throws {
    for path in paths {
      try make((path as NSString).deletingLastPathComponent)
      try FileManager.default.copyItem(atPath: Expectation.folder + "/" + fixture, toPath: folder.path + "/" + path)
    }
  }

  private func link(_ path: String, to target: String) throws {
    try FileManager.default.createSymbolicLink(atPath: folder.path + "/" + path, withDestinationPath: target)
  }

  private func listing(_ path: String, _ change: (inout SourceOptions) -> Void = { _ in }) throws -> SourceListing {
    var options = SourceOptions()
    change(&options)
    return try PackSources.open(folder.path + "/" + path, options).listing
  }

  private func list(_ text: String, _ name: String = "in/list.txt") throws -> SourceListing {
    try text.write(toFile: folder.path + "/" + name, atomically: true, encoding: .utf8)
    return try listing(name)
  }

  @discardableResult
  private func pack(
    _ source: any PackSource, to out: String, _ change: (inout Packer.Options) -> Void = { _ in }
  ) throws -> Packer.Report {
    var options = Packer.Options()
    change(&options)
    var packer = Packer(source, options)
    return try packer.pack(to: folder.path + "/" + out) { _ in }
  }

  private func pack(
    _ path: String, to out: String, _ change: (inout Packer.Options) -> Void = { _ in }
  ) throws -> Packer.Report {
    try pack(try PackSources.open(folder.path + "/" + path), to: out, change)
  }

  // MARK: A new source

  @Test func aSourceIsATypeAndARow() throws {
    let path = folder.path + "/source"
    try "toy:".write(toFile: path, atomically: true, encoding: .utf8)
    let source = try PackSources.open(path, among: [ToySource.self] + PackSources.all)
    let set = try pack(source, to: "out").sets[0]
    #expect(set.count == 10 && set.classNames == ["odd", "even"] && set.channels == 3)
    var options = SourceOptions()
    options.root = "/"
    let text = message { _ = try PackSources.open(path, options, among: [ToySource.self]) }
    #expect(text.contains("--root says nothing to this kind of source"))
  }

  @Test func whatIsNoSourceIsNamed() throws {
    let path = folder.path + "/source"
    let files: [([UInt8], String)] = [
      ([UInt8](repeating: 0x61, count: 257) + Array("ustar".utf8), "it is a tar archive; unpack it"),
      ([0x50, 0x4B, 3, 4, 9], "it is a zip archive; unpack it"),
      ([0x1F, 0x8B, 8, 0, 9, 9], "it is compressed by gzip"),
      ([0xFF, 0xD8, 0xFF, 0xE0], "it is one JPEG image; name its folder"),
      ([0, 1, 2, 3, 4, 5], "it is no folder of images, no list (UTF-8 text) and no IDX file"),
      ([], "it is empty"),
    ]
    for (bytes, words) in files {
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      let text = message { _ = try PackSources.open(path) }
      #expect(text.contains(words), "\(text)")
    }
    #expect(mkfifo(folder.path + "/pipe", 0o600) == 0)
    #expect(message { _ = try PackSources.open(folder.path + "/pipe") }.contains("it is a pipe"))
    #expect(message { _ = try PackSources.open("/dev/zero") }.contains("it is a device"))
    try writeSet(folder.path + "/set", images: 3, shardSize: 9999)
    #expect(message { _ = try PackSources.open(folder.path + "/set") }.contains("it is a data set already"))
  }

  // MARK: Folders

  @Test func linksNeverCountAFolderTwice() throws {
    try place("all/in/a/1.jpg", "all/in/a/2.jpg", "all/in/b/3.jpg", "all/beside/4.jpg", "elsewhere/5.jpg")
    try link("all/in/a/up", to: "..")
    try link("all/in/above", to: "../../all")
    try link("all/in/again", to: "b")
    try link("all/in/c", to: "../../elsewhere")
    try link("elsewhere/back", to: "../all/in")
    let found = try listing("all/in")
    #expect(found.images.map(\.key.text).sorted() == ["a/1.jpg", "a/2.jpg", "b/3.jpg", "c/5.jpg"])
    #expect(found.classNames == ["a", "b", "c"])
    let reasons = Dictionary(uniqueKeysWithValues: found.rejected.map { ($0.key, $0.reason) })
    #expect(reasons["above"] == "it leads to a folder that holds this one")
    for key in ["a/up", "again", "c/back"] {
      #expect(reasons[key] == "it leads to a folder that was read already", "\(key)")
    }
  }

  @Test func namesThatAreNotUTF8ArePackedAndComposedOnesAreTwo() throws {
    let image = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Expectation.folder + "/rgb.jpg")))
    func write(_ name: [UInt8]) {
      let path = (Array((folder.path + "/").utf8) + name).map { CChar(bitPattern: $0) } + [0]
      let file = open(path, O_CREAT | O_WRONLY, 0o644)
      #expect(file >= 0)
      _ = image.withUnsafeBytes { Foundation.write(file, $0.baseAddress, $0.count) }
      close(file)
    }
    try make("in")
    for name in [[0x63, 0xE9], [0x63, 0xC3, 0xA9], [0x63, 0x65, 0xCC, 0x81]] as [[UInt8]] {
      let path = Array((folder.path + "/in/").utf8) + name
      #expect(mkdir(path.map { CChar(bitPattern: $0) } + [0], 0o755) == 0)
      write(Array("in/".utf8) + name + Array("/1.jpg".utf8))
    }
    let set = try pack("in", to: "out").sets[0]
    #expect(set.count == 3)
    let names = ["ce\u{301}", "c\u{E9}", "c\\xE9"].map { Array($0.utf8) }
    #expect(set.classNames.map { Array($0.utf8) } == names)
    #expect(try Set((0..<3).map { try Array(set.key($0).utf8) }).contains(Array("c\\xE9/1.jpg".utf8)))
    // The same in a list.
    write(Array("in/".utf8) + [0xE9] + Array(".jpg".utf8))
    write(Array("in/e".utf8) + [0xCC, 0x81] + Array(".jpg".utf8))
    write(Array("in/".utf8) + [0xC3, 0xA9] + Array(".jpg".utf8))
    write(Array("in/list".utf8))
    let text: [UInt8] = [0xE9] + Array(".jpg x\n".utf8) + [0x65, 0xCC, 0x81] + Array(".jpg x\n".utf8)
    try Data(text + [0xC3, 0xA9] + Array(".jpg y\n".utf8)).write(to: URL(fileURLWithPath: folder.path + "/in/list"))
    let listed = try listing("in/list")
    #expect(listed.images.map(\.label) == [0, 0, 1] && listed.rejected.isEmpty)
    #expect(listed.images[0].key.text == "\\xE9.jpg")
  }

  @Test func namesWithMoreBehindTheSuffixAreKnownByTheirBytes() throws {
    try place("in/a.jpg_large", "in/b.jpg.1", "in/c.jpg?w=200", "in/d.jpg")
    try place("in/e.jpg.json", "in/f.xml", fixture: "text.jpg")
    let found = try listing("in")
    #expect(found.images.map(\.key.text).sorted() == ["a.jpg_large", "b.jpg.1", "c.jpg?w=200", "d.jpg"])
    #expect(found.ignored == ["e.jpg.json", "f.xml"])
    _ = try pack("in", to: "out")
    let listed = try String(contentsOfFile: folder.path + "/out/rejected.tsv", encoding: .utf8)
    #expect(listed.contains("f.xml\tits name is not that of an image"))
  }

  @Test func foldersThatAreNoClassesAreHintedAt() throws {
    try place("net/train/n01/1.jpg", "net/val/n01/2.jpg", "parts/00000/1.jpg", "parts/00001/2.jpg", "good/cat/1.jpg")
    #expect(try listing("net").notices.first?.contains("pack \(folder.path)/net/train") == true)
    #expect(try listing("parts").notices.first?.contains("--unlabelled") == true)
    #expect(try listing("good").notices.isEmpty)
    #expect(try listing("parts") { $0.labelled = false }.notices.isEmpty)
  }

  // MARK: Lists

  @Test func minusOneAndNothingAreNoLabel() throws {
    try place("in/a.jpg", "in/b.jpg", "in/c.jpg", "in/d.jpg")
    let found = try list("a.jpg 10\nb.jpg -1\nc.jpg\t\nd.jpg 2\n")
    #expect(found.images.map(\.label) == [10, -1, -1, 2] && found.classNames.count == 11)
    #expect(try list("a.jpg x\nb.jpg -1\n").images.map(\.label) == [0, -1])
    // Labels that mix numbers and names keep numeric order of the numbers.
    #expect(try list("a.jpg 10\nb.jpg 9\nc.jpg x\n").classNames == ["9", "10", "x"])
  }

  @Test(arguments: ["path label", "image\tclass", "path,label"]) func aHeaderIsNoClass(_ header: String) throws {
    try place("in/a.jpg", "in/b.jpg")
    let separator = header.contains("\t") ? "\t" : header.contains(",") ? "," : " "
    let found = try list("\(header)\na.jpg\(separator)cat\nb.jpg\(separator)dog\n")
    #expect(found.classNames == ["cat", "dog"] && found.images.count == 2 && found.rejected.isEmpty)
  }

  @Test func aMissingFileMakesNoClass() throws {
    try place("in/my cat 1.jpg", "in/my cat 2.jpg", "in/a.jpg")
    let found = try list("my cat 1.jpg\nmy cat 9.png\nmy cat 2.jpg\n")
    #expect(found.images.count == 2 && found.classNames.isEmpty)
    #expect(found.rejected.map(\.key) == ["my cat 9.png"])
    let labelled = try list("a.jpg cat\ngone.jpg dog\n")
    #expect(labelled.classNames == ["cat"] && labelled.rejected.map(\.key) == ["gone.jpg"])
  }

  @Test(arguments: ["99999999999999999999", "1000000", "-2"]) func aLabelOutOfRangeIsSaid(_ label: String) throws {
    try place("in/a.jpg", "in/b.jpg")
    let text = message { _ = try list("a.jpg 3\nb.jpg \(label)\n") }
    #expect(text.contains("line 2 has the label \(label)") && text.contains("0 to 999999"), "\(text)")
  }

  @Test func commasAreRead() throws {
    try place("in/im/00.jpg", "in/im/0,1.jpg")
    for name in ["in/photos.csv", "in/photos.txt"] {
      let found = try list("im/00.jpg,cat\r\n\"im/0,1.jpg\",\"a \"\"dog\"\"\"\r\n", name)
      #expect(found.images.map(\.key.text) == ["im/00.jpg", "im/0,1.jpg"] && found.classNames == ["a \"dog\"", "cat"])
    }
    let named = try list("id,label,filename\n7,cat,im/00.jpg\n", "in/photos.csv")
    #expect(named.images.map(\.key.text) == ["im/00.jpg"] && named.classNames == ["cat"])
    let text = message { _ = try list("im/00.jpg,cat,5\n", "in/photos.csv") }
    #expect(text.contains("line 1 has 3 columns; name them in a first line"), "\(text)")
  }

  @Test func aListSaysWhereItLookedAndTakesARoot() throws {
    try place("images/a.jpg")
    try make("lists")
    let text = message { _ = try list("a.jpg 0\n", "lists/train.txt") }
    #expect(text.contains("was looked for at \(folder.path)/lists/a.jpg") && text.contains("--root"), "\(text)")
    let found = try listing("lists/train.txt") { $0.root = folder.path + "/images" }
    #expect(found.images.map(\.key.text) == ["a.jpg"] && found.rejected.isEmpty)
  }

  // MARK: Like another set

  @Test func classesAreMappedByName() throws {
    try place("base/ant/1.jpg", "base/bee/2.jpg", "base/cat/3.jpg", "few/cat/4.jpg", "few/ant/5.jpg", "new/dog/6.jpg")
    let base = try pack("base", to: "out").sets[0]
    let few = try pack("few", to: "like") { $0.like = base }.sets[0]
    #expect(few.classNames == ["ant", "bee", "cat"])
    for sample in 0..<2 { #expect(few.label(sample) == (try few.key(sample).hasPrefix("cat") ? 2 : 0)) }
    let text = message { _ = try pack("new", to: "other") { $0.like = base } }
    #expect(text.contains("classes that it has not: dog") && text.contains("--unknown-classes unlabelled"), "\(text)")
    let report = try pack("new", to: "other") {
      $0.like = base
      $0.allowsUnknownClasses = true
    }
    #expect(report.unlabelled == 1 && report.sets[0].label(0) == nil && report.sets[0].classNames.count == 3)
  }

  @Test func copiesAreFound() throws {
    try place("train/1.jpg", "train/2.jpg", "test/3.jpg")
    try place("train/4.jpg", "test/5.jpg", fixture: "grey.jpg")
    try place("test/6.jpg", fixture: "progressive.jpg")
    let train = try pack("train", to: "a").sets[0]
    let test = try pack("test", to: "b").sets[0]
    #expect(try Duplicates.within(train).count == 1 && Duplicates.within(test).count == 0)
    let across = try Duplicates.of(test, in: train)
    #expect(across.count == 2)
    let example = try #require(across.example)
    #expect(["3.jpg", "5.jpg"].contains(example.copy) && ["1.jpg", "2.jpg", "4.jpg"].contains(example.original))
  }

  // MARK: Replacing

  @Test func onlyWhatPackWroteIsReplaced() throws {
    try place("in/1.jpg", "in/2.jpg", "in/3.jpg", "in/4.jpg", "in/5.jpg", "in/6.jpg")
    try place("in/7.jpg", fixture: "empty.jpg")
    for split in [nil, 0.5] as [Double?] {
      _ = try pack("in", to: "out") {
        $0.split = split
        $0.force = true
      }
    }
    let manager = FileManager.default
    try make("out/train/run1/checkpoints")
    let again = message { _ = try pack("in", to: "out") { $0.force = true } }
    #expect(again.contains("it holds train/run1, which pack did not write"), "\(again)")
    #expect(manager.fileExists(atPath: folder.path + "/out/train/run1/checkpoints"))
    try manager.removeItem(atPath: folder.path + "/out/train/run1")
    try "mine".write(toFile: folder.path + "/out/notes.txt", atomically: true, encoding: .utf8)
    #expect(message { try Staging.check(folder.path + "/out", force: true) }.contains("it holds notes.txt"))
    // If the output is a link, its target is replaced.
    try manager.removeItem(atPath: folder.path + "/out/notes.txt")
    try link("link", to: "out")
    _ = try pack("in", to: "link") { $0.force = true }
    #expect(try manager.destinationOfSymbolicLink(atPath: folder.path + "/link") == "out")
    #expect(try DataSet(at: folder.path + "/out").count == 6)
    #expect(try manager.contentsOfDirectory(atPath: folder.path).sorted() == ["in", "link", "out"])
  }

  // MARK: Stopping

  @Test func ctrlCIsHeededWhileListing() throws {
    try place("in/1.jpg")
    // The signal is blocked in the child until it watches for it, so that it is pending before the listing begins.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    defer { pthread_sigmask(SIG_UNBLOCK, &signals, nil) }
    let run = try Run(["pack", folder.path + "/in", folder.path + "/out"]) { kill($0.processIdentifier, SIGINT) }
    #expect(run.status == 130 && !run.output.contains("packing"), "\(run.output)")
  }
}

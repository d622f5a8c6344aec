import Foundation
import Shards
import Testing

@Suite struct PackTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return "\(error)" }
  }

  /// Copies a fixture to a path below the folder.
  private func place(_ fixture: String, _ path: String) throws {
    let url = URL(fileURLWithPath: folder.path + "/" + path)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: Expectation.folder + "/" + fixture, toPath: url.path)
  }

  @discardableResult
  private func pack(
    _ source: any PackSource, to name: String = "out", _ change: (inout Packer.Options) -> Void = { _ in }
  ) throws -> Packer.Report {
    var options = Packer.Options()
    options.threads = 2
    change(&options)
    var packer = Packer(source, options)
    return try packer.pack(to: folder.path + "/" + name) { _ in }
  }

  private func open(_ path: String, _ change: (inout SourceOptions) -> Void = { _ in }) throws -> any PackSource {
    var options = SourceOptions()
    change(&options)
    return try PackSources.open(path, options)
  }

  private func keys(_ set: DataSet) throws -> [String] { try (0..<set.count).map(set.key) }

  private let missing = "it cannot be read: No such file or directory"

  // MARK: Sources

  @Test func aFolderOfClassesKeepsJPEGAsItCame() throws {
    try place("rgb.jpg", "in/cat/1.jpg")
    try place("exif-6.jpg", "in/cat/deep/2.JPEG")
    try place("rgb.png", "in/dog/1.png")
    try place("no-suffix", "in/dog/plain")
    try place("text.jpg", "in/notes.txt")
    try place("rgb.jpg", "in/beside.jpg")
    try place("rgb.jpg", "in/.hidden/1.jpg")
    let source = try open(folder.path + "/in")
    #expect(source.listing.classNames == ["cat", "dog"] && source.listing.ignored == ["notes.txt"])
    let report = try pack(source)
    let set = report.sets[0]
    #expect(report.rejected == [.init("beside.jpg", "it lies beside the class folders, so it has no class")])
    #expect(try keys(set).sorted() == ["cat/1.jpg", "cat/deep/2.JPEG", "dog/1.png", "dog/plain"])
    #expect(set.channels == 3 && set.classNames == ["cat", "dog"])
    for sample in 0..<set.count {
      let key = try set.key(sample)
      let record = set.record(sample)
      #expect(set.label(sample) == (key.hasPrefix("cat") ? 0 : 1))
      var bytes: [UInt8] = []
      try set.read(sample, into: &bytes)
      let file = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/in/" + key))
      if key.hasSuffix("png") {
        #expect(record.encoding == .raw && record.length == 24 * 16 * 3)
      } else {
        #expect(record.encoding == .jpeg && Array(bytes.prefix(record.length)) == Array(file))
      }
      if key.hasSuffix("JPEG") { #expect(record.width == 16 && record.height == 24 && record.orientation == 6) }
    }
  }

  @Test func aFlatFolderHasNoLabels() throws {
    try place("grey.jpg", "in/a.jpg")
    try place("grey-16.png", "in/b.png")
    let report = try pack(try open(folder.path + "/in"))
    let set = report.sets[0]
    #expect(set.count == 2 && set.channels == 1 && set.classNames.isEmpty)
    #expect((0..<2).allSatisfy { set.label($0) == nil })
    #expect(Set((0..<2).map { set.record($0).depth }) == [8, 16])
  }

  @Test func aListGivesPathsAndLabels() throws {
    try place("rgb.jpg", "in/a b.jpg")
    try place("rgb.jpg", "in/c.jpg")
    try place("rgb.jpg", "in/d.jpg")
    let list = folder.path + "/in/list.txt"
    func source(_ text: String) throws -> any PackSource {
      try text.write(toFile: list, atomically: true, encoding: .utf8)
      return try open(list)
    }
    let full = try source("# comment\na b.jpg\tbird\nc.jpg fish\n\n\(folder.path)/in/d.jpg\tbird\n")
    var found = full.listing
    #expect(found.images.map(\.key.text) == ["a b.jpg", "c.jpg", folder.path + "/in/d.jpg"])
    #expect(found.images.map(\.label) == [0, 1, 0] && found.classNames == ["bird", "fish"])
    #expect(try pack(full).sets[0].count == 3)
    let short = try source("a b.jpg\nc.jpg\nmissing.jpg\nc.jpg\n")
    found = short.listing
    #expect(found.images.map(\.label) == [-1, -1] && found.classNames.isEmpty)
    #expect(found.rejected.map(\.key) == ["missing.jpg", "c.jpg"])
    #expect(found.rejected.map(\.reason) == [missing, "the list names it twice"])
    #expect(try pack(short, to: "second").rejected.map(\.key).sorted() == ["c.jpg", "missing.jpg"])
    found = try source("c.jpg 2\nd.jpg 0\n").listing
    #expect(found.images.map(\.label) == [2, 0] && found.classNames == ["0", "1", "2"])
    let none = message { _ = try source("these are\nno paths\n") }
    #expect(none.contains("none of them is there") && none.contains(folder.path + "/in/these"))
  }

  /// Writes five images of 2 x 3 as an uncompressed IDX file; zlib reads both kinds.
  private func writeIDX(_ name: String, _ header: [UInt8], _ sizes: [UInt32], _ bytes: [UInt8]) throws {
    let data =
      Data(header) + Data(sizes.flatMap { size in withUnsafeBytes(of: size.bigEndian) { Array($0) } }) + Data(bytes)
    try data.write(to: URL(fileURLWithPath: folder.path + "/" + name))
  }

  @Test func anIDXFileFindsItsLabels() throws {
    let pixels = (0..<30).map { UInt8($0) }
    try writeIDX("x-images-idx3-ubyte", [0, 0, 8, 3], [5, 2, 3], pixels)
    try writeIDX("x-labels-idx1-ubyte", [0, 0, 8, 1], [5], [4, 0, 1, 1, 2])
    let path = folder.path + "/x-images-idx3-ubyte"
    let set = try pack(try open(path)).sets[0]
    #expect(set.count == 5 && set.channels == 1 && set.classNames == ["0", "1", "2", "3", "4"])
    for sample in 0..<5 {
      let number = Int(try set.key(sample).split(separator: "/")[1])!
      var bytes: [UInt8] = []
      try set.read(sample, into: &bytes)
      #expect(bytes == Array(pixels[number * 6..<number * 6 + 6]) && set.label(sample) == [4, 0, 1, 1, 2][number])
      #expect(set.record(sample).width == 3 && set.record(sample).height == 2)
    }
    let mean = pixels.reduce(0) { $0 + Double($1) / 255 } / 30
    #expect(abs(set.mean[0] - mean) < 1e-12)
    #expect(try open(path) { $0.labelled = false }.listing.classNames.isEmpty)
    #expect(message { _ = try open(path) { $0.classNames = ["a"] } }.contains("only 1 class names were given"))
    try writeIDX("x-labels-idx1-ubyte", [0, 0, 8, 1], [4], [4, 0, 1, 1])
    #expect(message { _ = try open(path) }.contains("4 labels for 5 images"))
  }

  @Test func anIDXFileThatLiesIsAnError() throws {
    let path = folder.path + "/y"
    for (header, sizes, count, expected) in [
      ([0, 0, 8, 3], [5, 2, 3], 29, "1 bytes too early"), ([0, 0, 8, 3], [.max, .max, .max], 30, "more than its"),
      ([0, 0, 8, 3], [0, 2, 3], 30, "more than its"), ([0, 0, 13, 3], [5, 2, 3], 30, "no IDX file of unsigned bytes"),
      ([0, 0, 8, 3], [5, 2], 0, "ends in its header"),
    ] as [([UInt8], [UInt32], Int, String)] {
      try writeIDX("y", header, sizes, [UInt8](repeating: 1, count: count))
      #expect(message { _ = try open(path) }.contains(expected), "\(expected)")
    }
  }

  // MARK: Bad files

  @Test func whatCannotBeReadIsListedWithItsReason() throws {
    try place("rgb.jpg", "in/good.jpg")
    try place("cut-scan-50.jpg", "in/cut.jpg")
    try place("empty.jpg", "in/empty.jpg")
    let manager = FileManager.default
    let root = folder.path + "/in"
    try manager.createSymbolicLink(atPath: root + "/link.jpg", withDestinationPath: root + "/nowhere.jpg")
    #expect(mkfifo(root + "/pipe.jpg", 0o600) == 0)
    let source = try open(root)
    let report = try pack(source)
    let reasons = Dictionary(uniqueKeysWithValues: report.rejected.map { ($0.key, $0.reason) })
    #expect(report.sets[0].count == 1)
    #expect(reasons["cut.jpg"] == "damaged JPEG: Corrupt JPEG data: premature end of data segment")
    #expect(reasons["empty.jpg"] == "it is empty")
    #expect(reasons["link.jpg"] == "it is a broken symbolic link" && reasons["pipe.jpg"] == "it is no plain file")
    let listed = try String(contentsOfFile: folder.path + "/out/rejected.tsv", encoding: .utf8)
    #expect(listed.split(separator: "\n").count == 5 && listed.contains("empty.jpg\tit is empty\n"))
    #expect(message { try pack(source, to: "other") { $0.failsOnBad = true } }.hasPrefix("cannot pack "))
    try manager.removeItem(atPath: root + "/good.jpg")
    #expect(message { try pack(try open(root), to: "other") }.contains("no file could be read"))
    #expect(try manager.contentsOfDirectory(atPath: folder.path).sorted() == ["in", "out"])
  }

  @Test func anExistingFolderIsOnlyReplacedByForceAndOnlyADataSet() throws {
    try place("rgb.jpg", "in/a.jpg")
    let source = try open(folder.path + "/in")
    try pack(source)
    #expect(message { try pack(source) }.contains("it already exists"))
    try pack(source) { $0.force = true }
    #expect(message { try pack(source, to: "in") { $0.force = true } }.contains("it is no data set of apus"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["in", "out"])
  }

  // MARK: Channels

  @Test func greyAndColourTogetherBecomeRGBWithTheRightStatistics() throws {
    try place("grey.jpg", "in/grey.jpg")
    try place("rgb.png", "in/colour.png")
    try place("cmyk.jpg", "in/ink.jpg")
    let source = try open(folder.path + "/in")
    let mixed = try pack(source)
    #expect(mixed.sets[0].channels == 3 && mixed.channelCounts == [1: 1, 3: 1, 4: 1])
    let grey = try pack(source, to: "grey") { $0.channels = 1 }.sets[0]
    #expect(grey.channels == 1)
    for set in [mixed.sets[0], grey] {
      var values = [[Double]](repeating: [], count: set.channels)
      var decoder = ImageDecoder(channels: set.channels)
      var pixels = Pixels()
      var bytes: [UInt8] = []
      for sample in 0..<set.count {
        try set.read(sample, into: &bytes)
        let length = set.record(sample).length
        _ = try bytes.withUnsafeBytes {
          try decoder.decode(.init(rebasing: $0[..<length]), set.record(sample), into: &pixels)
        }
        for i in 0..<pixels.size { values[i % set.channels].append(Double(pixels.bytes[i]) / 255) }
      }
      for (c, samples) in values.enumerated() {
        let mean = samples.reduce(0, +) / Double(samples.count)
        let variance = samples.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(samples.count)
        #expect(abs(mean - set.mean[c]) < 1e-12 && abs(variance.squareRoot() - set.deviation[c]) < 1e-9)
      }
    }
    let like = try pack(source, to: "like") { $0.like = grey }.sets[0]
    #expect(like.channels == 1 && like.mean == grey.mean && like.deviation == grey.deviation)
  }

  // MARK: Split

  private func manyImages(_ count: Int) -> ToySource {
    let image = try! Data(contentsOf: URL(fileURLWithPath: Expectation.folder + "/one-pixel.jpg"))
    let keys = (0..<count).map { ("c\($0 % 3)/\($0).jpg", $0 % 3) }
    return ToySource(keys, ["c0", "c1", "c2"]) { _ in .file([UInt8](image)) }
  }

  @Test func aSplitIsAPartitionThatStaysWhenFilesAreAdded() throws {
    let few = try pack(manyImages(300), to: "few") { $0.split = 0.2 }
    let many = try pack(manyImages(600), to: "many") { $0.split = 0.2 }
    let parts = try [few, many].map { try $0.sets.map { Set(try keys($0)) } }
    #expect(parts[0][0].isDisjoint(with: parts[0][1]) && parts[0][0].count + parts[0][1].count == 300)
    // 300 draws of 0.2: mean 60, deviation 6.9; five deviations.
    #expect(abs(parts[0][1].count - 60) < 35)
    #expect(parts[0][0].isSubset(of: parts[1][0]) && parts[0][1].isSubset(of: parts[1][1]))
    #expect(few.sets[0].mean == few.sets[1].mean && few.sets[0].fingerprint != few.sets[1].fingerprint)
    #expect(message { try pack(manyImages(1), to: "one") { $0.split = 0.5 } }.contains("change --split"))
  }

  @Test func aLimitTakesAPrefixOfTheHashOrderWhateverTheThreads() throws {
    let all = try pack(manyImages(200), to: "all").sets[0]
    let some = try pack(manyImages(200), to: "some") { ($0.limit, $0.threads) = (50, 1) }.sets[0]
    #expect(try Array(keys(all).prefix(50)) == keys(some))
    // The order mixes classes. Alternating classes would have runs of length 1, and a sorted folder one run per class.
    let labels = (0..<all.count).compactMap(all.label)
    let changes = zip(labels, labels.dropFirst()).filter { $0 != $1 }.count
    #expect(changes > 100 && changes < 160)
  }

  // MARK: Re-sharding

  @Test func reshardingKeepsEverythingButTheShards() throws {
    let source = folder.path + "/set"
    try writeSet(source, images: 60, shardSize: 700)
    let set = try DataSet(at: source)
    let whole = try Resharder(set).write(
      to: folder.path + "/whole", shardSize: 1 << 20, split: nil, force: false, progress: { _ in })[0]
    #expect(whole.shards.count == 1 && set.shards.count > 5)
    #expect(whole.fingerprint == set.fingerprint && whole.mean == set.mean && whole.deviation == set.deviation)
    #expect(whole.classNames == set.classNames)
    #expect(try keys(whole) == keys(set))
    var (a, b): ([UInt8], [UInt8]) = ([], [])
    for sample in 0..<60 {
      var x = set.record(sample)
      var y = whole.record(sample)
      x.offset = 0
      y.offset = 0
      #expect(x == y)
      try set.read(sample, into: &a)
      try whole.read(sample, into: &b)
      #expect(a.prefix(x.length) == b.prefix(x.length))
    }
    let parts = try Resharder(whole).write(
      to: folder.path + "/parts", shardSize: 500, split: 0.3, force: false, progress: { _ in })
    #expect(try Set(parts.flatMap(keys)) == Set(keys(set)))
    #expect(parts.reduce(0) { $0 + $1.count } == 60)
    for key in try keys(parts[1]) { #expect(Split.holdsOut(key, 0.3)) }
  }

  @Test func damagedBytesAreFoundByVerifyAndByResharding() throws {
    try place("rgb.jpg", "in/a.jpg")
    try place("rgb.png", "in/b.png")
    let set = try pack(try open(folder.path + "/in")).sets[0]
    #expect(try Verifier(set, threads: 2).verify { _ in }.isEmpty)
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: set.shards[0].path))
    try file.seek(toOffset: UInt64(set.shards[0].bytesOffset + set.record(1).offset + 700))
    try file.write(contentsOf: Data([1, 2, 3, 4, 5]))
    try file.close()
    let damages = try Verifier(set, threads: 2).verify { _ in }
    let key = try set.key(1)
    #expect(damages.map(\.sample) == [1] && damages[0].key == key)
    #expect(damages[0].reason.contains("its checksum is"))
    let text = message {
      _ = try Resharder(set).write(
        to: folder.path + "/x", shardSize: 9999, split: nil, force: false, progress: { _ in })
    }
    #expect(text.contains("does not match its checksum"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == ["in", "out"])
  }
}

import Files
import Foundation
import Shards
import Synchronization
import Testing

/// A run of the built program.
struct Run {
  var status: Int32
  var output: String

  static let apus = URL(fileURLWithPath: Bundle.module.bundlePath).deletingLastPathComponent().path + "/apus"

  /// Runs `apus`.
  init(_ arguments: [String], while body: (Process) throws -> Void = { _ in }) throws {
    try self.init(Self.apus, arguments, while: body)
  }

  /// Runs a program to its end and returns both output streams.
  init(_ program: String, _ arguments: [String], while body: (Process) throws -> Void = { _ in }) throws {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    try body(process)
    output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    status = process.terminationStatus
  }

  static func exists(_ program: String) -> Bool { FileManager.default.isExecutableFile(atPath: program) }
}

@Suite(.serialized) struct PackCommandTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private var hostile: String { Expectation.folder }
  private var left: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() }
  }

  @Test func theWholeWay() throws {
    let out = folder.path + "/set"
    let all = try Expectation.all()
    let bad = all.values.filter { $0.reason != nil }.count
    let packed = try Run(["pack", hostile, out, "--shard-size", "100KiB", "--threads", "2"])
    #expect(packed.status == 0, "\(packed.output)")
    #expect(packed.output.contains("\(all.count - bad) images, 3 channels, no classes"))
    #expect(packed.output.contains("left out \(bad) files, listed in \(out)/rejected.tsv:"))
    #expect(packed.output.contains("ignored 1 files whose names are not those of images, such as expect.json"))
    #expect(try String(contentsOfFile: out + "/rejected.tsv", encoding: .utf8).contains("expect.json\tits name is not"))
    let shown = try Run(["inspect", out, "--verify"])
    #expect(shown.status == 0 && shown.output.contains("verified \(all.count - bad) images"))
    #expect(shown.output.contains("1 CMYK JPEG, 1 RGB JPEG, 1 YCCK JPEG"))
    #expect(try Run(["inspect", out + "/shard-00001.h5", "--verify"]).status == 0)
    let parts = try Run(["shard", out, folder.path + "/parts", "--split", "30%"])
    #expect(parts.status == 0)
    #expect(try left == ["parts", "set"])
    #expect(try Run(["inspect", folder.path + "/parts"]).output.contains("parts/test: "))
    let again = try Run(["pack", hostile, out])
    #expect(again.status == 1 && again.output.contains("it already exists; choose another name, or --force"))
    let strict = try Run(["pack", hostile, folder.path + "/strict", "--on-bad", "fail"])
    #expect(strict.status == 1 && strict.output.contains("Error: cannot pack"))
    #expect(try left == ["parts", "set"])
  }

  /// Images as names of files below a folder, all of them the same bytes.
  private func copies(_ names: [String]) throws -> String {
    let source = folder.path + "/in"
    let good = try Expectation.all().filter { $0.value.reason == nil && $0.key.hasSuffix(".png") }
    let image = try #require(good.keys.min())
    for name in names {
      let path = source + "/" + name
      try FileManager.default.createDirectory(
        atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: hostile + "/" + image, toPath: path)
    }
    return source
  }

  @Test func copiesAcrossASplitAreSaid() throws {
    let source = try copies((0..<8).map { "\($0).png" })
    let packed = try Run(["pack", source, folder.path + "/set", "--split", "50%"])
    #expect(packed.status == 0 && packed.output.contains("WARNING: "), "\(packed.output)")
    #expect(packed.output.contains("are copies, byte for byte, of images in"), "\(packed.output)")
  }

  /// Folders that look like splits are classes, and that is said.
  @Test func splitsThatAreTakenForClassesAreSaid() throws {
    let source = try copies(["train/n01/a.png", "train/n02/b.png", "val/n01/c.png", "val/n02/d.png"])
    let packed = try Run(["pack", source, folder.path + "/set"])
    #expect(packed.status == 0 && packed.output.contains("2 classes (train, val)"), "\(packed.output)")
    #expect(packed.output.contains("note: "), "\(packed.output)")
  }

  @Test func damageGivesAStatusThatIsNotZero() throws {
    let out = folder.path + "/set"
    try writeSet(out, images: 10, shardSize: 9999)
    let shard = try DataSet(at: out).shards[0]
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: shard.path))
    try file.seek(toOffset: UInt64(shard.bytesOffset))
    try file.write(contentsOf: Data([99]))
    try file.close()
    let run = try Run(["inspect", out, "--verify"])
    #expect(run.status == 1 && run.output.contains("damaged: image 0 (folder/é0.raw): its checksum is"))
    #expect(run.output.contains("1 of 10 images of \(out) are damaged"))
    let none = try Run(["inspect", folder.path])
    #expect(none.status == 1 && none.output.contains("it is none of: a shard, a data set"))
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP]) func aSignalLeavesNothing(signal: Int32) throws {
    // Many seconds of work that writes nothing: many one-megapixel images that are cut in their last row.
    let source = folder.path + "/in"
    try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
    let original = source + "/0.jpg"
    let whole = try Data(contentsOf: URL(fileURLWithPath: hostile + "/flat-megapixel-png-named.jpg"))
    try whole.dropLast(20).write(to: URL(fileURLWithPath: original))
    for number in 1..<10_000 { #expect(link(original, "\(source)/\(number).jpg") == 0) }
    let run = try Run(["pack", source, folder.path + "/out", "--threads", "1"]) { process in
      while try left == ["in"], process.isRunning { usleep(2000) }
      kill(process.processIdentifier, signal)
    }
    #expect(run.status == 128 + signal, "\(run.output)")
    #expect(run.output.contains("nothing half-written was left"))
    #expect(try left == ["in"])
  }

  @Test func aFullDiskIsSaidAheadOrLeavesNothing() throws {
    let disk = folder.path + "/disk"
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
    let mount = try? Run("/bin/mount", ["-t", "tmpfs", "-o", "size=700k", "tmpfs", disk])
    guard let mount, mount.status == 0 else { return }  // needs a privilege
    defer { _ = try? Run("/bin/umount", [disk]) }
    // Images that look small when the room is estimated, but take a megabyte each when they are stored.
    let looks = Atomic<Int>(0)
    let growing = ToySource((0..<600).map { ("\($0).png", -1) }, []) { _ in
      let side = looks.add(1, ordering: .relaxed).newValue <= 500 ? 1 : 1000
      return .pixels([UInt8](repeating: 7, count: side * side), width: side, height: side, channels: 1)
    }
    var packer = Packer(growing, Packer.Options())
    let full = #expect(throws: FileError.self) { _ = try packer.pack(to: disk + "/out") { _ in } }
    let words = full?.description ?? "no error"
    #expect(words.contains("No space left on device; free some space"), "\(words)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: disk).isEmpty)
    let known = folder.path + "/known"
    try FileManager.default.createDirectory(atPath: known, withIntermediateDirectories: true)
    try FileManager.default.copyItem(atPath: hostile + "/flat-megapixel-png-named.jpg", toPath: known + "/x.png")
    let refused = try Run(["pack", known, disk + "/out"])
    #expect(refused.status == 1 && refused.output.contains("about 976.8 KiB are needed"), "\(refused.output)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: disk).isEmpty)
    // Image bytes fit but the index does not, so that HDF5 fails at several places. It must still work afterwards.
    for size in [250, 400, 600, 900, 1200] {
      #expect(try Run("/bin/mount", ["-o", "remount,size=\(size)k", disk]).status == 0)
      let error = #expect(throws: FileError.self, "\(size) kB") { try writeTinyImages(disk + "/set") }
      #expect(error?.description.contains("No space left on device") == true, "\(error?.description ?? "")")
      try FileManager.default.removeItem(atPath: disk + "/set")
    }
    try writeSet(folder.path + "/after", images: 5, shardSize: 9999)
  }

  /// 20,000 images of one pixel: 20 kB of pixels, more than 1 MB of index.
  private func writeTinyImages(_ path: String) throws {
    let writer = try DataSetWriter(path, classNames: [], shardSize: 1 << 20)
    let record = ImageRecord(length: 1, width: 1, height: 1, channels: 1, encoding: .raw, colour: 1)
    for number in 0..<20_000 { try [7].withUnsafeBytes { try writer.append($0, record, key: "tiny/\(number)") } }
    try writer.finish(mean: [0], deviation: [0])
  }

  @Test(.enabled(if: Run.exists("/usr/bin/h5dump"), "h5dump is not installed")) func h5dumpReadsAShard() throws {
    let out = folder.path + "/set"
    try writeSet(out, images: 6, shardSize: 9999)
    let dump = try Run(
      "/usr/bin/h5dump", ["-d", "/index/key", "-d", "/index/length", "-a", "/mean", out + "/shard-00000.h5"])
    #expect(dump.status == 0)
    #expect(dump.output.contains("\"folder/\\37777777703\\37777777651") || dump.output.contains("folder/é0.raw"))
    #expect(dump.output.contains("(0): 27, 48, 75, 108, 147, 27") && dump.output.contains("(0): 0.1, 0.2, 0.3"))
    #expect(try Run("/usr/bin/h5dump", [out + "/shard-00000.h5"]).status == 0)
  }

  @Test func h5pyReadsAShard() throws {
    let python = ProcessInfo.processInfo.environment["APUS_PYTHON"] ?? "/usr/bin/python3"
    guard Run.exists(python), try Run(python, ["-c", "import h5py"]).status == 0 else { return }
    let out = folder.path + "/set"
    try writeSet(out, images: 6, shardSize: 9999)
    let script = """
      import h5py, sys, zlib
      f = h5py.File(sys.argv[1])
      i = f["index"]
      for o, n, c in zip(i["offset"], i["length"], i["checksum"]):
          assert zlib.crc32(bytes(f["bytes"][o:o + n])) == c
      assert [k.decode() for k in i["key"]] == ["folder/é%d.raw" % s for s in range(6)]
      assert list(f["class_names"]) == [b"ant", b"bee"] and list(f.attrs["mean"]) == [0.1, 0.2, 0.3]
      assert f.attrs["format"] == 1 and f["index/label"][:].tolist() == [-1, 0, 1, -1, 0, 1]
      """
    let run = try Run(python, ["-c", script, out + "/shard-00000.h5"])
    #expect(run.status == 0, "\(run.output)")
  }
}

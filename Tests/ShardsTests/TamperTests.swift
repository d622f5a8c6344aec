import Files
import Foundation
import HDF5
import Randomness
import Shards
import Testing

/// Every change of a shard's index is detected when the set is opened.
@Suite struct TamperTests {
  let folder: TemporaryFolder
  let path: String
  let shard: String

  init() throws {
    folder = try TemporaryFolder()
    path = folder.path + "/set"
    try writeSet(path, images: 20, shardSize: 1 << 20)
    shard = path + "/shard-00000.h5"
  }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return "\(error)" }
  }

  /// Range of the shard's image bytes.
  private func bytesRange() throws -> Range<Int> {
    let file = try HDF5File.open(shard)
    let start = try file.offset(of: "bytes")
    return start..<start + (try file.shape(of: "bytes")[0])
  }

  /// Recomputes the seal, as a forger would.
  private func seal() throws {
    let update = try HDF5File.update(shard)  // drops the old one
    try update.set(.integer(0), for: "forged")
    try update.close()
    try Seal.write(to: shard, bytes: try bytesRange())
  }

  private func patch(_ offset: Int, _ bytes: [UInt8]) throws {
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: shard))
    try file.seek(toOffset: UInt64(offset))
    try file.write(contentsOf: Data(bytes))
    try file.close()
  }

  @Test func anyChangedByteOutsideOfTheImagesIsFoundBeforeHDF5IsAsked() throws {
    // HDF5 1.10 crashes on some of these changes, so the seal is checked first.
    let rounds = ProcessInfo.processInfo.environment["APUS_FUZZ"].flatMap(Int.init) ?? 150
    let whole = try Data(contentsOf: URL(fileURLWithPath: shard))
    let images = try bytesRange()
    var draws = Draws(seed: 8, .check)
    for _ in 0..<rounds {
      let at = draws.integer(below: whole.count)
      if images.contains(at) { continue }
      try patch(at, [whole[at] ^ UInt8(1 + draws.integer(below: 255))])
      #expect(throws: FileError.self, "byte \(at)") { _ = try DataSet(at: path) }
      try patch(at, [whole[at]])
    }
    _ = try DataSet(at: path)
  }

  @Test func anyChangedByteOfTheIndexIsFoundThoughTheSealIsRight() throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: shard))
    let file = try HDF5File.open(shard)
    let columns = try file.names(in: "index").filter { $0 != "key" }.map { ($0, try file.offset(of: "index/" + $0)) }
    try file.close()
    var draws = Draws(seed: 7, .check)
    for (name, start) in columns {
      let size = ["offset": 8, "length": 8, "group": 8, "width": 4, "height": 4, "checksum": 4, "label": 4][name] ?? 1
      for _ in 0..<10 {
        let at = start + draws.integer(below: 20 * size)
        try patch(at, [whole[at] ^ UInt8(1 + draws.integer(below: 255))])
        try seal()
        let text = message { _ = try DataSet(at: path) }
        #expect(text.contains("damaged shard: ") && !text.contains("seal"), "\(name) at \(at - start): \(text)")
        try whole.write(to: URL(fileURLWithPath: shard))
      }
    }
  }

  @Test func anyTruncationIsFound() throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: shard))
    for keep in [0, 7, 8, 100, 4096, whole.count / 2, whole.count - 1] {
      try whole.prefix(keep).write(to: URL(fileURLWithPath: shard))
      #expect(throws: FileError.self, "\(keep) bytes") { _ = try DataSet(at: path) }
    }
  }

  @Test func attributesThatDoNotFitAreFound() throws {
    let changes: [(String, HDF5Attribute, String)] = [
      ("format", .integer(7), "attribute \"format\" is 7, this build reads 1; pack again or update apus"),
      ("kind", .text("something"), "no apus shard"), ("images", .integer(21), "images"),
      ("images", .integer(1 << 60), "images"), ("images_total", .integer(19), "images"),
      ("shards", .integer(2), "they belong to a set of 2"), ("shard", .integer(1), "shard 1 of 1"),
      ("first", .integer(1), "images 1"), ("channels", .integer(4), "4 channels"),
      ("channels", .integer(1 << 40), "channels"), ("mean", .reals([0.1, 0.2]), "2 means"),
      ("mean", .reals([.nan, 0, 0]), "outside of 0 ... 1"), ("deviation", .reals([0, 2, 0]), "outside of 0 ... 1"),
      ("fingerprint", .text("0"), "not those that it was packed with"), ("fingerprint", .text("x"), "no fingerprint"),
      ("shard_fingerprint", .text("0"), "fingerprint"), ("shards", .text("1"), "no integer"),
    ]
    let whole = try Data(contentsOf: URL(fileURLWithPath: shard))
    let images = try bytesRange()
    for (name, value, expected) in changes {
      let file = try HDF5File.update(shard)
      try file.set(value, for: name)
      try file.close()
      #expect(message { _ = try DataSet(at: path) }.contains("cut short or was changed"))
      try Seal.write(to: shard, bytes: images)
      #expect(message { _ = try DataSet(at: path) }.contains(expected), "\(name) \(value)")
      try whole.write(to: URL(fileURLWithPath: shard))
    }
  }

  @Test func foldersThatAreNoDataSetSayWhatIsWrong() throws {
    #expect(message { _ = try DataSet(at: folder.path) }.contains("it has no shard-00000.h5"))
    #expect(message { _ = try DataSet(at: folder.path + "/none") }.contains("it is not a folder that can be read"))
    try FileManager.default.moveItem(atPath: path, toPath: folder.path + "/train")
    #expect(message { _ = try DataSet(at: folder.path) }.contains("name \(folder.path)/train"))
    let foreign = folder.path + "/foreign"
    try FileManager.default.createDirectory(atPath: foreign, withIntermediateDirectories: true)
    let file = try HDF5File.create(foreign + "/shard-00000.h5")
    try file.write([1] as [Float], to: "x")
    try file.close()
    #expect(message { _ = try DataSet(at: foreign) }.contains("it is an HDF5 file, but no apus shard"))
  }

  @Test func shardsOfOtherSetsAreFound() throws {
    let split = folder.path + "/split"
    let other = folder.path + "/other"
    try writeSet(split, images: 20, shardSize: 700)
    try writeSet(other, images: 21, shardSize: 700)
    let second = "/shard-00001.h5"
    try FileManager.default.removeItem(atPath: split + second)
    #expect(message { _ = try DataSet(at: split) }.contains("shard-00001.h5 is missing"))
    try FileManager.default.copyItem(atPath: other + second, toPath: split + second)
    #expect(message { _ = try DataSet(at: split) }.contains("does not belong to the same data set"))
    try FileManager.default.removeItem(atPath: split + second)
    try FileManager.default.copyItem(atPath: split + "/shard-00000.h5", toPath: split + second)
    #expect(message { _ = try DataSet(at: split) }.contains("not at this place"))
  }

  @Test func anIndexThatReachesOutsideOrOverlapsIsFoundThoughItsHashIsRight() throws {
    // A forger who also recomputes the fingerprint is detected too.
    func forge(_ change: (inout [ImageRecord]) -> Void) throws -> String {
      var records = (0..<20).map { sample -> ImageRecord in
        var record = rawRecord(sample)
        record.checksum = rawBytes(sample).withUnsafeBytes { checksum($0) }
        return record
      }
      for i in 1..<20 { records[i].offset = records[i - 1].offset + records[i - 1].length }
      change(&records)
      var fingerprint = Fingerprint()
      for record in records { fingerprint.add(record) }
      let file = try HDF5File.open(shard)
      func put<T: FixedWidthInteger>(_ name: String, _ value: (ImageRecord) -> T) throws {
        let bytes = records.flatMap { record in withUnsafeBytes(of: value(record).littleEndian) { Array($0) } }
        try patch(try file.offset(of: "index/" + name), bytes)
      }
      try put("offset") { Int64($0.offset) }
      try put("length") { Int64($0.length) }
      try put("width") { Int32($0.width) }
      try put("height") { Int32($0.height) }
      try put("channels") { UInt8($0.channels) }
      try put("label") { $0.label }
      try file.close()
      let update = try HDF5File.update(shard)
      try update.set(.text(fingerprint.text), for: "fingerprint")
      try update.set(.text(fingerprint.text), for: "shard_fingerprint")
      try update.close()
      try Seal.write(to: shard, bytes: try bytesRange())
      return message { _ = try DataSet(at: path) }
    }
    #expect(try forge { _ in } == "no error")
    #expect(try forge { $0[3].offset -= 1 }.contains("image 3 claims bytes"))
    #expect(try forge { $0[3].offset += 1 }.contains("image 3 claims bytes"))
    #expect(try forge { $0[19].length += 1 }.contains("image 19 claims bytes"))
    #expect(try forge { $0[19].length -= 1 }.contains("has"))
    #expect(try forge { $0[0].length = .max }.contains("image 0 claims bytes"))
    #expect(try forge { $0[0].length = -1 }.contains("image 0 claims bytes"))
    #expect(try forge { $0[5].width += 1 }.contains("image 5 has"))
    #expect(try forge { $0[5].width = 0 }.contains("image 5 claims 0 x"))
    #expect(try forge { $0[5].height = Int(Int32.max) }.contains("image 5 claims"))
    #expect(try forge { $0[5].channels = 2 }.contains("2 channels"))
    #expect(try forge { $0[5].label = 2 }.contains("label 2 of 2 classes"))
    #expect(try forge { $0[5].label = -2 }.contains("label -2"))
  }
}

import Foundation
import Testing
import Training

/// A temporary folder of one test.
private final class Folder {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("safetensors-\(UUID().uuidString)").path
  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  func file(_ name: String) -> String { path + "/" + name }
}

/// A file's bytes: length, header, data.
private func bytes(_ header: String, _ data: [UInt8] = [], length: UInt64? = nil) -> Data {
  let text = [UInt8](header.utf8)
  return Data(withUnsafeBytes(of: (length ?? UInt64(text.count)).littleEndian) { [UInt8]($0) } + text + data)
}

@Suite struct SafetensorsTests {
  @Test func whatIsWrittenIsRead() throws {
    let folder = try Folder()
    let path = folder.file("a.safetensors")
    let floats: [Float] = [1, -0.0, .pi, .greatestFiniteMagnitude, .leastNonzeroMagnitude, -7]
    let doubles = [Double.pi, -1e300]
    let integers: [Int64] = [.min, 0, .max]
    try Safetensors.write(
      [
        ("x.weight", [2, 3], .floats(floats)), ("länge \"\\\n", [2], .doubles(doubles)),
        ("n", [3], .integers(integers)),
        ("single", [], .floats([4])), ("empty", [0, 5], .floats([])),
      ], metadata: ["case": "{\"a\": [1, 2]}", "b/c": "é\u{1}"], to: path)
    let file = try Safetensors.read(path)
    #expect(file.names == ["empty", "länge \"\\\n", "n", "single", "x.weight"].sorted())
    #expect(file.metadata == ["case": "{\"a\": [1, 2]}", "b/c": "é\u{1}"])
    #expect(try file.shape("x.weight") == [2, 3])
    #expect(try file.floats("x.weight").map(\.bitPattern) == floats.map(\.bitPattern))
    #expect(try file.doubles("länge \"\\\n") == doubles)
    #expect(try file.integers("n") == integers)
    #expect(try file.shape("single") == [] && file.floats("single") == [4])
    #expect(try file.shape("empty") == [0, 5] && file.floats("empty") == [])
    #expect(try file.doubles("x.weight") == floats.map(Double.init))
    #expect(!file.contains("y"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["a.safetensors"])
  }

  @Test func sameTensorsSameBytesAndAligned() throws {
    let folder = try Folder()
    for name in ["a", "b"] {
      try Safetensors.write(
        [("f", [3], .floats([1, 2, 3])), ("d", [1], .doubles([4]))], metadata: ["z": "1", "a": "2"],
        to: folder.file(name))
    }
    let data = try Data(contentsOf: URL(fileURLWithPath: folder.file("a")))
    #expect(try data == Data(contentsOf: URL(fileURLWithPath: folder.file("b"))))
    #expect(data[0] % 8 == 0 && data.count == 8 + Int(data[0]) + 20)
  }

  /// 8- and 16-bit types as Python's library writes them.
  @Test func smallTypes() throws {
    let folder = try Folder()
    let path = folder.file("a")
    let header =
      #"{"h":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"b":{"dtype":"BF16","shape":[2],"#
      + #""data_offsets":[6,10]},"i":{"dtype":"I32","shape":[1],"data_offsets":[10,14]},"#
      + #""u":{"dtype":"U8","shape":[2],"data_offsets":[14,16]}}"#
    let data: [UInt8] = [0x00, 0x3C, 0x01, 0x00, 0x00, 0xC0, 0x80, 0x3F, 0x49, 0x40, 0xFE, 0xFF, 0xFF, 0xFF, 0, 255]
    try bytes(header, data).write(to: URL(fileURLWithPath: path))
    let file = try Safetensors.read(path)
    #expect(try file.floats("h") == [1, 0x1p-24, -2])
    #expect(try file.doubles("b") == [1, 3.140625])
    #expect(try file.integers("i") == [-2])
    #expect(try file.integers("u") == [0, 255])
    #expect(throws: SafetensorsError.self) { try file.integers("h") }
    #expect(throws: SafetensorsError.self) { try file.floats("u") }
    #expect(throws: SafetensorsError.self) { try file.doubles("i") }
    #expect(throws: SafetensorsError.self) { try file.shape("x") }
  }

  /// Wrong headers and lengths. Each error names what is wrong.
  @Test(arguments: [
    (bytes("", length: 0), "claims a header of 0 bytes"),
    (Data([1, 2, 3]), "has 3 bytes"),
    (bytes("{}", length: 3), "claims a header of 3 bytes"),
    (bytes("{}", length: .max), "claims a header of 18446744073709551615 bytes"),
    (bytes("{}", length: 1 << 63), "claims a header of"),
    (Data("version https://git-lfs.github.com/spec/v1\n".utf8), "is a Git LFS pointer"),
    (Data([0x50, 0x4B, 3, 4, 0, 0, 0, 0, 0]), "is a PyTorch or pickle file"),
    (Data([0x89, 0x48, 0x44, 0x46, 13, 10, 26, 10]), "is an HDF5 file"),
    (bytes("[]"), "not a JSON object"),
    (bytes("{\"a\":"), "does not parse"),
    (bytes("{\"a\":7}"), "does not parse"),
    (bytes(#"{"__metadata__":{"a":1}}"#), "does not parse"),
    (bytes("{}", [0]), "its tensors end at byte 10, the file at 11"),
    (tensor("F32", "[2]", "[0,8]", 7), "within 0...7"),
    (tensor("F32", "[2]", "[0,4]", 8), "needs 8 bytes"),
    (tensor("F32", "[2]", "[8,0]", 8), "lies at [8, 0]"),
    (tensor("F32", "[2]", "[-8,0]", 8), "lies at [-8, 0]"),
    (tensor("F32", "[2]", "[0]", 8), "lies at [0]"),
    (tensor("F32", "[2]", "[0,9223372036854775807]", 8), "within 0...8"),
    (tensor("F32", "[2.5]", "[0,8]", 8), "does not parse"),
    (tensor("F32", "[-1,-2]", "[0,8]", 8), "has the shape [-1, -2]"),
    (tensor("F32", "[4611686018427387904,2]", "[0,8]", 8), "has the shape"),
    (tensor("F4", "[2]", "[0,8]", 8), "is F4"),
    (tensor("F32", "[1]", "[4,8]", 8), "starts at 4, expected 0: overlap or gap"),
    (twice("[0,4]", "[2,6]"), "starts at 2, expected 4"),
    (twice("[0,4]", "[0,4]"), "overlap or gap"),
    (twice("[0,4]", "[4,8]", names: ("a", "a")), "names something twice"),
    (bytes(#"{"__metadata__":{"a":"1","a":"2"}}"#), "names something twice"),
    (bytes(#"{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#), "names something twice"),
  ])
  func tampered(_ file: Data, _ message: String) throws {
    let folder = try Folder()
    let path = folder.file("bad.safetensors")
    try file.write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: SafetensorsError.self) { try Safetensors.read(path) }
    let text = try #require(error).description
    #expect(text.hasPrefix("cannot read safetensors file \(path): ") && text.contains(message), "\(text)")
  }

  /// A good file with any truncation or changed header byte is refused or read, without a trap.
  @Test func cutsAndFlips() throws {
    let folder = try Folder()
    let path = folder.file("a")
    try Safetensors.write([("a", [2, 2], .floats([1, 2, 3, 4])), ("b", [1], .integers([5]))], to: path)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for count in 0..<whole.count {
      try whole.prefix(count).write(to: URL(fileURLWithPath: path))
      #expect(throws: SafetensorsError.self) { try Safetensors.read(path) }
    }
    for place in 0..<whole.count - 24 {
      for mask: UInt8 in [0x01, 0x10, 0x80] {
        var changed = whole
        changed[place] ^= mask
        try changed.write(to: URL(fileURLWithPath: path))
        guard let file = try? Safetensors.read(path) else { continue }
        for name in file.names { _ = try? file.floats(name) }
      }
    }
  }

  @Test func notAFile() throws {
    let folder = try Folder()
    for (path, message) in [(folder.path, "not a regular file"), (folder.file("none"), "No such file")] {
      let error = #expect(throws: SafetensorsError.self) { try Safetensors.read(path) }
      #expect(try #require(error).description.contains(message))
    }
  }

  @Test func failedWriteLeavesTheOldFile() throws {
    let folder = try Folder()
    let path = folder.file("a")
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    // A folder has the name of the file.
    #expect(throws: SafetensorsError.self) { try Safetensors.write([("a", [1], .floats([1]))], to: path) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["a"])
    #expect(throws: SafetensorsError.self) { try Safetensors.write([], to: folder.file("none/a")) }
  }

  @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full"), "there is no /dev/full"))
  func fullDisk() throws {
    // /dev/full refuses every write, as a full disk does.
    let folder = try Folder()
    let path = folder.file("a")
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/dev/full")
    let error = #expect(throws: SafetensorsError.self) { try Safetensors.write([("a", [1], .floats([1]))], to: path) }
    #expect(try #require(error).description.contains("No space left"))
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: path) == "/dev/full")
  }
}

/// Files from and for Python's safetensors library.
@Suite struct SafetensorsExchangeTests {
  /// The fixtures, which Python wrote, follow the convention in their README.md.
  @Test func fixturesHoldTheirConvention() throws {
    let folder = try #require(Bundle.module.resourceURL).appendingPathComponent("Fixtures")
    let paths = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".safetensors") }
    #expect(paths.count >= 13)
    struct Case: Decodable { let format: Int, kind: String, batch: Int, size: Int, bounds: [String: Double] }
    let kinds = Set(Methods.all.map { $0.name } + ["encoder"])
    for path in paths {
      let file = try Safetensors.read(folder.appendingPathComponent(path).path)
      let text = try #require(file.metadata["case"], "\(path) has no case")
      let described = try JSONDecoder().decode(Case.self, from: Data(text.utf8))
      #expect(described.format == 1 && kinds.contains(described.kind))
      let expected = file.names.filter { $0.hasPrefix("expect.") }.map { String($0.dropFirst(7)) }
      #expect(Set(expected) == Set(described.bounds.keys), "\(path)")
      for name in file.names where try ![.int64, .int32, .uint8].contains(file.scalar(name)) {
        let values = try file.doubles(name)
        let shape = try file.shape(name)
        #expect(values.count == shape.reduce(1, *) && values.allSatisfy(\.isFinite), "\(path): \(name)")
      }
      // A bound as large as its tensor would accept zeros. Counters may be zero; and a bias before a BN has no
      // gradient, only rounding.
      for (name, bound) in described.bounds where !name.hasSuffix("pointer") && !name.hasSuffix("filled") {
        let largest = try file.doubles("expect." + name).map(abs).max() ?? 0
        if largest < 1e-12 {
          #expect(name.contains("bias") && bound < 1e-5, "\(path): \(name) of \(largest) is bound by \(bound)")
          continue
        }
        #expect(0 < bound && bound < 0.2 * largest, "\(path): \(name) of \(largest) is bound by \(bound)")
      }
    }
  }

  private static let python = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent(".venv/bin/python").path

  /// Needs `Scripts/install --oracles`.
  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: python), "there is no .venv with safetensors"))
  func pythonReadsWhatIsWritten() throws {
    let folder = try Folder()
    let ours = folder.file("ours")
    let theirs = folder.file("theirs")
    try Safetensors.write(
      [("a.weight", [2, 2], .floats([1, 2, 3, .pi])), ("é\"", [1], .doubles([.pi])), ("n", [], .integers([.min]))],
      metadata: ["k": "v\n"], to: ours)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Self.python)
    process.arguments = [
      "-c",
      """
      import sys, safetensors.numpy as s, safetensors
      with safetensors.safe_open(sys.argv[1], "numpy") as f: metadata = f.metadata()
      s.save_file(s.load_file(sys.argv[1]), sys.argv[2], metadata)
      """, ours, theirs,
    ]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    let a = try Safetensors.read(ours)
    let b = try Safetensors.read(theirs)
    #expect(a.names == b.names && a.metadata == b.metadata)
    for name in a.names { #expect(try a.shape(name) == b.shape(name)) }
    #expect(try a.floats("a.weight") == b.floats("a.weight"))
    #expect(try a.doubles("é\"") == b.doubles("é\""))
    #expect(try a.integers("n") == b.integers("n"))
  }
}

private func tensor(_ type: String, _ shape: String, _ offsets: String, _ count: Int) -> Data {
  bytes(
    #"{"a":{"dtype":"\#(type)","shape":\#(shape),"data_offsets":\#(offsets)}}"#, [UInt8](repeating: 0, count: count))
}

private func twice(_ first: String, _ second: String, names: (String, String) = ("a", "b")) -> Data {
  let (a, b) = names
  return bytes(
    #"{"\#(a)":{"dtype":"F32","shape":[1],"data_offsets":\#(first)},"\#(b)":{"dtype":"F32","shape":[1],"#
      + #""data_offsets":\#(second)}}"#, [UInt8](repeating: 0, count: 8))
}

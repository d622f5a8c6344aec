import Files
import Foundation
import Testing

@Suite struct FileSystemTests {
  @Test(arguments: [("a/b", "a"), ("/a", "/"), ("a", "."), ("/a/b/", "/a"), ("/", "/")])
  func pathsHaveAParent(path: String, parent: String) { #expect(FileSystem.parent(of: path) == parent) }

  @Test func roomIsFoundAboveWhatIsNotThere() {
    #expect(FileSystem.nearest(above: "/tmp/no/such/folder") == "/tmp")
    #expect(FileSystem.freeBytes(at: "/tmp/no/such/folder") ?? 0 > 0)
  }

  /// Reads end at the end of the file.
  @Test func readsAreWhole() throws {
    let path = NSTemporaryDirectory() + "apus-files-\(UUID().uuidString)"
    defer { unlink(path) }
    try AtomicFile.write([1, 2, 3, 4, 5], to: path)
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4)
    #expect(
      bytes.withUnsafeMutableBytes { Descriptor.read(descriptor, at: 1, into: $0) } == 4 && bytes == [2, 3, 4, 5])
    #expect(bytes.withUnsafeMutableBytes { Descriptor.read(descriptor, at: 3, into: $0) } == 2)
    #expect(bytes.withUnsafeMutableBytes { Descriptor.read(-1, at: 0, into: $0) } == nil)
  }

  /// Writing to a full non-blocking pipe waits.
  @Test func fullPipesAreWaitedFor() {
    var ends = [Int32](repeating: 0, count: 2)
    pipe(&ends)
    _ = fcntl(ends[1], F_SETFL, O_NONBLOCK)
    let (reading, writing) = (ends[0], ends[1])
    let count = 1 << 20
    let reader = Thread {
      usleep(20_000)
      var bytes = [UInt8](repeating: 0, count: 1 << 16)
      while read(reading, &bytes, bytes.count) > 0 {}
    }
    reader.start()
    #expect([UInt8](repeating: 7, count: count).withUnsafeBytes { Descriptor.write($0, to: writing) })
    close(writing)
  }
}

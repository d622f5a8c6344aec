import Files
import Foundation
import Testing

@Suite struct AtomicFileTests {
  /// A temporary folder of one test.
  private final class Folder {
    let path: String
    init() {
      path = NSTemporaryDirectory() + "apus-files-\(UUID().uuidString)"
      mkdir(path, 0o777)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    func callAsFunction(_ name: String) -> String { path + "/" + name }
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
    func text(_ name: String) -> String? { try? String(contentsOfFile: path + "/" + name, encoding: .utf8) }
  }

  private func mode(_ path: String) -> mode_t {
    var status = stat()
    return lstat(path, &status) == 0 ? status.st_mode : 0
  }

  @Test func filesAreReplacedWholeAndKeepTheirPermissions() throws {
    let folder = Folder()
    try AtomicFile.write("old", to: folder("a"))
    chmod(folder("a"), 0o640)
    let inode = try FileManager.default.attributesOfItem(atPath: folder("a"))[.systemFileNumber] as? Int
    try AtomicFile.write("new", to: folder("a"))
    #expect(folder.text("a") == "new" && mode(folder("a")) & 0o777 == 0o640 && folder.names == ["a"])
    let later = try FileManager.default.attributesOfItem(atPath: folder("a"))[.systemFileNumber] as? Int
    #expect(inode != later, "written into the old file instead of beside it")
  }

  /// A file that was not committed leaves nothing behind.
  @Test func halvesLeaveNothing() throws {
    let folder = Folder()
    try AtomicFile.write("old", to: folder("a"))
    do {
      let file = try AtomicFile(folder("a"))
      try file.write([1, 2, 3])
    }
    #expect(folder.text("a") == "old" && folder.names == ["a"])
  }

  /// Links are kept, whether relative, absolute, chained, or dangling.
  @Test func linksAreFollowed() throws {
    let folder = Folder()
    mkdir(folder("sub"), 0o777)
    try AtomicFile.write("old", to: folder("sub/target"))
    symlink("sub/target", folder("relative"))
    symlink(folder("relative"), folder("absolute"))
    symlink("sub/later", folder("dangling"))
    for (link, target) in [("relative", "sub/target"), ("absolute", "sub/target"), ("dangling", "sub/later")] {
      try AtomicFile.write(link, to: folder(link))
      #expect(mode(folder(link)) & S_IFMT == S_IFLNK, "\(link) became a file")
      #expect(folder.text(target) == link)
    }
    symlink("loop", folder("loop"))
    #expect(throws: FileError.self) { try AtomicFile.write("x", to: folder("loop")) }
    #expect(folder.names == ["absolute", "dangling", "loop", "relative", "sub"])
  }

  /// A pipe gets the bytes and stays a pipe; so does a device.
  @Test func whatIsNoFileIsWrittenInto() throws {
    let folder = Folder()
    mkfifo(folder("pipe"), 0o666)
    let reader = open(folder("pipe"), O_RDONLY | O_NONBLOCK)
    defer { close(reader) }
    try AtomicFile.write("through", to: folder("pipe"))
    var bytes = [UInt8](repeating: 0, count: 16)
    #expect(read(reader, &bytes, 16) == 7 && String(decoding: bytes[..<7], as: UTF8.self) == "through")
    #expect(mode(folder("pipe")) & S_IFMT == S_IFIFO)
    symlink("/dev/null", folder("null"))
    try AtomicFile.write("away", to: folder("null"))
    #expect(mode("/dev/null") & S_IFMT == S_IFCHR && mode(folder("null")) & S_IFMT == S_IFLNK)
    let error = #expect(throws: FileError.self) { try AtomicFile.write("x", to: "/dev/full") }
    #expect(error?.description.hasPrefix("cannot write /dev/full: No space left on device") == true)
    #expect(mode("/dev/full") & S_IFMT == S_IFCHR)
  }

  /// An open file named by /dev/fd is written in place, because its owner has it open.
  @Test func openFilesAreWrittenInto() throws {
    let folder = Folder()
    try AtomicFile.write("begun ", to: folder("a"))
    let descriptor = open(folder("a"), O_RDWR)
    defer { close(descriptor) }
    try AtomicFile.write("and ended", to: "/dev/fd/\(descriptor)")
    var bytes = [UInt8](repeating: 0, count: 32)
    #expect(pread(descriptor, &bytes, 32, 0) == 15 && folder.text("a") == "begun and ended")
  }

  @Test func foldersAreRefused() throws {
    let folder = Folder()
    let error = #expect(throws: FileError.self) { try AtomicFile.write("x", to: folder.path) }
    #expect(error?.description == "cannot write \(folder.path): it is a folder; give the name of a file")
    #expect(throws: FileError.self) { try AtomicFile.write("x", to: folder("none/a")) }
    #expect(folder.names.isEmpty)
  }
}

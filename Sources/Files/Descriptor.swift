import Foundation

/// Whole reads and writes of open files: the system may do a part at a time, and be interrupted by signals.
package enum Descriptor {
  /// What one call gets at most: Linux takes no more than 2 GiB.
  private static let most = 1 << 30

  /// Fills a buffer from a place in a file; from any number of threads.
  /// - Returns: how many bytes were read, fewer where the file ends; nil where that failed, with `errno` set.
  package static func read(_ descriptor: Int32, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int? {
    var done = 0
    while done < buffer.count {
      let got = pread(descriptor, buffer.baseAddress! + done, min(buffer.count - done, most), off_t(offset + done))
      if got < 0, errno == EINTR { continue }
      if got < 0 { return nil }
      if got == 0 { break }
      done += got
    }
    return done
  }

  /// Writes all bytes, at a place in the file where one is given.
  /// - Parameter patience: milliseconds to wait for a full pipe that does not make its writer wait; -1 for any time.
  /// - Returns: whether all were written; `errno` is set where not.
  package static func write(
    _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, at offset: Int? = nil, patience: Int32 = -1
  ) -> Bool {
    var done = 0
    while done < bytes.count {
      let start = bytes.baseAddress! + done
      let count = min(bytes.count - done, most)
      let put =
        if let offset { pwrite(descriptor, start, count, off_t(offset + done)) } else {
          Foundation.write(descriptor, start, count)
        }
      if put < 0, errno == EINTR { continue }
      if put < 0, errno == EAGAIN, wait(for: descriptor, patience) { continue }
      if put < 0 { return false }
      done += put
    }
    return true
  }

  /// - Returns: whether the descriptor can be written to again, or an error of it be met.
  private static func wait(for descriptor: Int32, _ patience: Int32) -> Bool {
    var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    let found = poll(&request, 1, patience)
    return found > 0 || found < 0 && errno == EINTR
  }
}

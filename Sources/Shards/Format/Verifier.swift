import Foundation
import Threading

/// Recomputes every checksum of a data set and decodes every image.
package struct Verifier {
  /// A damaged image.
  package struct Damage: Sendable {
    /// Its number in the set.
    package let sample: Int
    /// Its name; "?" if it cannot be read.
    package let key: String
    /// What is wrong with it.
    package let reason: String
  }

  private let set: DataSet
  private let team: ThreadTeam

  /// A verifier with so many threads, at least 1.
  package init(_ set: DataSet, threads: Int) {
    self.set = set
    team = ThreadTeam(count: threads)
  }

  /// Verifies the whole set.
  /// - Returns: all damaged images, in order.
  /// - Throws: when the user interrupts it.
  package func verify(progress: (Packer.Progress) -> Void) throws -> [Damage] {
    var damages: [Damage] = []
    var bytes = 0
    let chunk = 64 * team.count
    var scratch = [Scratch](repeating: Scratch(channels: set.channels), count: team.count)
    for start in stride(from: 0, to: set.count, by: chunk) {
      try Interruption.check()
      let end = min(start + chunk, set.count)
      var reasons = [String?](repeating: nil, count: end - start)
      reasons.withUnsafeMutableBufferPointer { reasons in
        scratch.withUnsafeMutableBufferPointer { scratch in
          team.run(end - start) { block, thread in reasons[block] = scratch[thread].check(set, start + block) }
        }
      }
      for (place, reason) in reasons.enumerated() {
        bytes += set.record(start + place).length
        guard let reason else { continue }
        damages.append(Damage(sample: start + place, key: (try? set.key(start + place)) ?? "?", reason: reason))
      }
      progress(.init(done: end, total: set.count, bytes: bytes, rejected: damages.count))
    }
    return damages
  }

  private struct Scratch {
    var bytes: [UInt8] = []
    var pixels = Pixels()
    var decoder: ImageDecoder

    init(channels: Int) { decoder = ImageDecoder(channels: channels) }

    /// Why an image is damaged; nil if it is not.
    mutating func check(_ set: DataSet, _ sample: Int) -> String? {
      let record = set.record(sample)
      do {
        try set.read(sample, into: &bytes)
        return try bytes.withUnsafeBytes { raw in
          let image = UnsafeRawBufferPointer(rebasing: raw.prefix(record.length))
          let found = checksum(image)
          if found != record.checksum {
            return "its checksum is \(found), its index says \(record.checksum)"
          }
          _ = try decoder.decode(image, record, into: &pixels)
          return nil
        }
      } catch { return "\(error)" }
    }
  }
}

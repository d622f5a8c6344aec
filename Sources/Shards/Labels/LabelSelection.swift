import CZlib
import Foundation
import Randomness

/// The labelled images of a data set that a training learns from, and those that are kept from it for validation.
///
/// A number of images is drawn by a seed, class by class: each class has as many as every other, or one more, as in the
/// published lists of ImageNet (1 %: 12 or 13 of each class), and all that it has where that is less. So there is at
/// least one of each class that has any. A smaller draw by the same seed is part of a larger one.
package struct LabelSelection: Sendable, Equatable {
  /// Samples to learn from, and samples to validate on, both in the order of the data set.
  package let training: [Int], validation: [Int]
  /// Images with a label in the whole set.
  package let available: Int
  /// By class: the number of samples to learn from.
  package let counts: [Int]

  /// - Parameters:
  ///   - validation: of the chosen images; nil for none.
  ///   - seed: of the draws.
  /// - Throws: `RecipeError` where the set does not have what is asked for.
  package init(
    _ set: DataSet, _ choice: LabelChoice, validation: LabelChoice.Amount? = nil, seed: UInt64
  ) throws(RecipeError) {
    var labels = [Int32](repeating: -1, count: set.count)
    var available = 0
    for sample in 0..<set.count {
      guard let label = set.label(sample), label < set.classNames.count else { continue }
      labels[sample] = Int32(label)
      available += 1
    }
    guard available > 0 else {
      throw RecipeError(
        "labels: \(set.path) has no labelled image: pack a folder with a subfolder for each class, or a list with "
          + "classes")
    }
    self.available = available
    let chosen = try Self.choose(set, choice, labels, available, seed)
    var held: Set<Int> = []
    if let validation {
      let wanted = validation.count(of: chosen.count)
      let byClass = Self.byClass(chosen, labels, set.classNames.count)
      // Each class keeps an image to learn from.
      let limits = byClass.map { max(0, $0.count - 1) }
      let most = limits.reduce(0, +)
      guard (1...max(1, most)).contains(wanted), most > 0 else {
        throw RecipeError(
          "validation is \(validation) of \(chosen.count) labelled images, which is \(wanted): it must be at least 1, "
            + "and leave an image of each class to learn from, so at most \(most); take another number, or more labels")
      }
      held = Set(Self.draw(wanted, of: byClass, limits: limits, seed, .validation))
    }
    let classes = set.classNames.count
    training = chosen.filter { !held.contains($0) }
    self.validation = held.sorted()
    counts = Self.byClass(training, labels, classes).map(\.count)
  }

  /// Changes with any of the images.
  package var checksum: UInt32 {
    var crc: UInt32 = 0
    for list in [training, validation] {
      let words = list.map(Int64.init) + [-1]
      crc = words.withUnsafeBytes { czlib_crc32(crc, $0.baseAddress, $0.count) }
    }
    return crc
  }

  private static func choose(
    _ set: DataSet, _ choice: LabelChoice, _ labels: [Int32], _ available: Int, _ seed: UInt64
  ) throws(RecipeError) -> [Int] {
    switch choice {
    case .all: return labels.indices.filter { labels[$0] >= 0 }
    case .list(let path): return try listed(set, path, labels)
    case .some(let amount):
      let byClass = byClass(Array(labels.indices), labels, set.classNames.count)
      let present = byClass.count { !$0.isEmpty }
      // At least one of each class.
      let wanted = max(amount.count(of: available), present)
      guard wanted <= available else {
        throw RecipeError(
          "labels is \(amount), but \(set.path) has \(available) labelled images: take fewer, or `all`")
      }
      if case .images(let count) = amount, count < present {
        throw RecipeError(
          "labels is \(count), but \(set.path) has \(present) classes: take at least one image of each, \(present)")
      }
      return draw(wanted, of: byClass, limits: byClass.map(\.count), seed, .labels).sorted()
    }
  }

  /// Samples by class, in the order of the data set.
  private static func byClass(_ samples: [Int], _ labels: [Int32], _ classes: Int) -> [[Int]] {
    var byClass = [[Int]](repeating: [], count: classes)
    for sample in samples where labels[sample] >= 0 { byClass[Int(labels[sample])].append(sample) }
    return byClass
  }

  private static func draw(
    _ count: Int, of byClass: [[Int]], limits: [Int], _ seed: UInt64, _ purpose: Purpose
  ) -> [Int] {
    let quotas = quotas(count, limits: limits, seed, purpose)
    return byClass.indices.flatMap { k -> [Int] in
      var draws = Draws(seed: seed, purpose, UInt64(k))
      return draws.shuffled(byClass[k].count).prefix(quotas[k]).map { byClass[k][$0] }
    }
  }

  /// How many images of each class are drawn: the same number of every class, or one more, up to the class's limit.
  package static func quotas(_ count: Int, limits: [Int], _ seed: UInt64, _ purpose: Purpose) -> [Int] {
    var quotas = [Int](repeating: 0, count: limits.count)
    var order = Draws(seed: seed, purpose)
    var classes = order.shuffled(limits.count)
    var left = min(count, limits.reduce(0, +))
    while left > 0 {
      classes.removeAll { quotas[$0] == limits[$0] }
      // Whole rounds at once, as far as every class goes along.
      let rounds = min(left / classes.count, classes.map { limits[$0] - quotas[$0] }.min()!)
      let more = rounds > 0 ? classes[...] : classes.prefix(left)
      for k in more { quotas[k] += max(1, rounds) }
      left -= more.count * max(1, rounds)
    }
    return quotas
  }

  // MARK: Lists

  /// The images that a file lists by key, or by the last part of it as ImageNet's published lists do.
  private static func listed(_ set: DataSet, _ path: String, _ labels: [Int32]) throws(RecipeError) -> [Int] {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw RecipeError("labels is `\(path)`, which is no file, and not all, a share such as 1% or a number")
    }
    let lines = String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline)
    let names = lines.map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    guard !names.isEmpty else { throw RecipeError("labels: \(path) lists no image") }
    let (byKey, byName) = try index(of: set, names: Set(names))
    var chosen: Set<Int> = []
    for name in names {
      let found = byKey[name].map { [$0] } ?? byName[name] ?? []
      guard let sample = found.first else {
        throw RecipeError("labels: \(path) lists \(name), which \(set.path) has not; it was made for other data")
      }
      guard found.count == 1 else {
        throw RecipeError("labels: \(path) lists \(name), which names \(found.count) images of \(set.path); list keys")
      }
      guard labels[sample] >= 0 else {
        throw RecipeError("labels: \(path) lists \(name), which has no label in \(set.path)")
      }
      guard chosen.insert(sample).inserted else { throw RecipeError("labels: \(path) lists \(name) twice") }
    }
    return chosen.sorted()
  }

  /// Where listed names occur: as whole keys, and as their last parts.
  private static func index(
    of set: DataSet, names: Set<String>
  ) throws(RecipeError) -> (byKey: [String: Int], byName: [String: [Int]]) {
    var byKey: [String: Int] = [:]
    var byName: [String: [Int]] = [:]
    for sample in 0..<set.count {
      let key: String
      do { key = try set.key(sample) } catch { throw RecipeError("labels: \(error)") }
      if names.contains(key) { byKey[key] = sample }
      let last = key.split(separator: "/").last.map(String.init) ?? key
      if names.contains(last) { byName[last, default: []].append(sample) }
    }
    return (byKey, byName)
  }
}

import Foundation
import Randomness
import Shards
import Testing

/// Which labels a training may see.
@Suite struct LabelTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  /// Packs images of one pixel: class k has `counts[k]` of them, named `k/k_0.JPEG` and on, class after class in turn.
  private func pack(_ name: String, _ counts: [Int], unlabelled: Int = 0, classes: [String]? = nil) throws -> DataSet {
    let path = folder.path + "/" + name
    let classes = classes ?? counts.indices.map { "c\($0)" }
    let writer = try DataSetWriter(path, classNames: classes, shardSize: 1 << 20)
    func add(_ label: Int, _ key: String) throws {
      let record = ImageRecord(
        length: 1, width: 1, height: 1, channels: 1, encoding: .raw, colour: 1, label: Int32(label))
      try [UInt8(truncatingIfNeeded: label)].withUnsafeBytes { try writer.append($0, record, key: key) }
    }
    for i in 0..<(counts.max() ?? 0) {
      for k in counts.indices where i < counts[k] { try add(k, "c\(k)/c\(k)_\(i).JPEG") }
    }
    for i in 0..<unlabelled { try add(-1, "none/n_\(i).JPEG") }
    try writer.finish(mean: [0.5], deviation: [0.3])
    return try DataSet(at: path)
  }

  private func select(
    _ set: DataSet, _ choice: String = "all", validation: String? = nil, seed: UInt64 = 1
  ) throws -> LabelSelection {
    try LabelSelection(
      set, try #require(LabelChoice(choice)), validation: try validation.map { try #require(LabelChoice.Amount($0)) },
      seed: seed)
  }

  private func refusal(_ body: () throws -> LabelSelection) -> String {
    do {
      _ = try body()
      return "not refused"
    } catch { return "\(error)" }
  }

  private func classes(_ samples: [Int], of set: DataSet) -> [Int] {
    samples.reduce(into: Array(repeating: 0, count: set.classNames.count)) { $0[set.label($1)!] += 1 }
  }

  private func write(_ lines: String, to name: String = "list.txt") throws -> String {
    let path = folder.path + "/" + name
    try lines.write(toFile: path, atomically: false, encoding: .utf8)
    return path
  }

  // MARK: Numbers of each class

  /// The published lists of ImageNet's labels have 12,811 and 128,116 of its 1,281,167 training images, 12 or 13 and
  /// 128 or 129 of each class. 895 of its classes have 1300 images.
  @Test func sharesAreThoseOfThePublishedLists() {
    let rest = 1_281_167 - 895 * 1300
    let limits = (0..<1000).map { $0 < 895 ? 1300 : rest / 105 + ($0 - 895 < rest % 105 ? 1 : 0) }
    #expect(limits.reduce(0, +) == 1_281_167)
    func counts(_ amount: String) -> [Int: Int] {
      let count = LabelChoice.Amount(amount)!.count(of: 1_281_167)
      return LabelSelection.quotas(count, limits: limits, 1, .labels).reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }
    #expect(counts("1%") == [12: 189, 13: 811])
    #expect(counts("10%") == [128: 884, 129: 116])
  }

  @Test(arguments: [
    ("1%", 1_281_167, 12811), ("10%", 1_281_167, 128_116), ("29%", 100, 29), ("100%", 7, 7), ("0.5%", 1000, 5),
    ("33.3%", 1000, 333), ("1%", 99, 0), ("12", 5, 12),
  ]) func amountsAreRoundedDown(_ text: String, whole: Int, count: Int) {
    #expect(LabelChoice.Amount(text)?.count(of: whole) == count)
  }

  /// Every class has as many as any other, or one more; which have one more is drawn.
  @Test func everyClassHasAsMany() throws {
    let set = try pack("set", Array(repeating: 10, count: 7))
    var larger: Set<[Int]> = []
    for seed in 1...4 {
      let selection = try select(set, "24", seed: UInt64(seed))
      #expect(selection.counts.sorted() == [3, 3, 3, 3, 4, 4, 4] && selection.available == 70)
      #expect(selection.counts == classes(selection.training, of: set) && selection.validation.isEmpty)
      #expect(selection.training == Array(Set(selection.training)).sorted())
      larger.insert(selection.counts.indices.filter { selection.counts[$0] == 4 })
    }
    #expect(larger.count > 1)
    #expect(try select(set).training == Array(0..<70) && select(set).counts == Array(repeating: 10, count: 7))
    #expect(try select(set, "100%").training == select(set).training)
  }

  /// A class gives all that it has where that is less than the others' share.
  @Test func rareClassesGiveAllThatTheyHave() throws {
    let set = try pack("set", [40, 2, 40, 1, 0, 17], unlabelled: 9)
    #expect(try select(set, "40%").counts.reduce(0, +) == 40)
    let selection = try select(set, "43")
    // 43 less 2 and 1 are 40: 14, 13 and 13.
    #expect(selection.counts[1] == 2 && selection.counts[3] == 1 && selection.counts[4] == 0)
    #expect([selection.counts[0], selection.counts[2], selection.counts[5]].sorted() == [13, 13, 14])
    #expect(selection.available == 100 && selection.training.allSatisfy { set.label($0) != nil })
    #expect(try select(set, "90").counts.sorted() == [0, 1, 2, 17, 35, 35])
    // At least one of each class that has any, however small the share.
    #expect(try select(set, "1%").counts == [1, 1, 1, 1, 0, 1])
    #expect(try select(set, "5").counts == [1, 1, 1, 1, 0, 1])
  }

  /// A smaller draw is part of a larger one by the same seed, whatever the classes' sizes; other seeds draw others.
  @Test func smallerDrawsArePartsOfLargerOnes() throws {
    for counts in [Array(repeating: 30, count: 12), [70, 3, 1, 50, 50, 9, 33, 20]] {
      let set = try pack("set \(counts[1])", counts)
      var smaller: Set<Int> = []
      for percent in [1, 3, 10, 11, 37, 60, 90, 100] {
        let selection = Set(try select(set, "\(percent)%").training)
        #expect(smaller.isSubset(of: selection), "\(percent) %")
        smaller = selection
      }
      let ten = try select(set, "10%")
      #expect(try select(set, "10%") == ten && select(set, "10%").checksum == ten.checksum)
      let other = try select(set, "10%", seed: 2)
      #expect(other.training != ten.training && other.checksum != ten.checksum)
      #expect(!Set(other.training).isSubset(of: try select(set, "20%").training))
    }
  }

  // MARK: Lists

  /// A published list has the last parts of keys, n01440764_10026.JPEG.
  @Test func aListNamesKeysOrTheirLastParts() throws {
    let set = try pack("set", [5, 4, 3])
    let keys = try write("c2/c2_0.JPEG\n\n# my own\n  c0_3.JPEG \r\nc1/c1_1.JPEG")
    let selection = try select(set, keys)
    #expect(try selection.training.map(set.key).sorted() == ["c0/c0_3.JPEG", "c1/c1_1.JPEG", "c2/c2_0.JPEG"])
    #expect(selection.training == selection.training.sorted() && selection.counts == [1, 1, 1])
    // The order of the lines is nothing.
    let turned = try write("c1_1.JPEG\nc0/c0_3.JPEG\nc2_0.JPEG\n", to: "turned.txt")
    #expect(try select(set, turned) == selection && select(set, turned, seed: 5) == selection)
  }

  /// The name of one image can be the key of another: the key is meant.
  @Test func aKeyComesBeforeALastPart() throws {
    let path = folder.path + "/keys"
    let writer = try DataSetWriter(path, classNames: ["a", "b"], shardSize: 1 << 20)
    for (label, key) in ["a/x.png", "x.png", "b/x.png", "b/y.png"].enumerated() {
      let record = ImageRecord(
        length: 1, width: 1, height: 1, channels: 1, encoding: .raw, colour: 1, label: Int32(label / 2))
      try [UInt8(0)].withUnsafeBytes { try writer.append($0, record, key: key) }
    }
    try writer.finish(mean: [0.5], deviation: [0.3])
    let set = try DataSet(at: path)
    #expect(try select(set, write("x.png\ny.png")).training == [1, 3])
  }

  // MARK: Refusals

  @Test func whatTheSetHasNotIsRefused() throws {
    let set = try pack("set", [6, 5, 1, 0], unlabelled: 3)
    let none = try pack("none", [], unlabelled: 4)
    #expect(refusal { try select(none) }.contains("none has no labelled image: pack a folder with a subfolder"))
    let path = set.path
    #expect(
      refusal { try select(set, "13") }.contains(
        "labels is 13, but \(path) has 12 labelled images: take fewer, or `all`"))
    #expect(
      refusal { try select(set, "2") }.contains(
        "labels is 2, but \(path) has 3 classes: take at least one image of each, 3"))
    for (lines, words) in [
      ("c0_1.JPEG\nc0/c0_1.JPEG\n", "lists c0/c0_1.JPEG twice"),
      ("c0_77.JPEG\n", "lists c0_77.JPEG, which \(path) has not; it was made for other data"),
      ("n_1.JPEG\n", "lists n_1.JPEG, which has no label in \(path)"),
      ("# nothing\n\n", "list.txt lists no image"),
    ] {
      let list = try write(lines)
      #expect(refusal { try select(set, list) }.contains(words), "\(refusal { try select(set, list) })")
    }
    #expect(
      refusal { try select(set, folder.path + "/nowhere") }.contains(
        "nowhere`, which is no file, and not all, a share such as 1% or a number"))
    let two = try pack("two", [2], classes: ["c"])
    let twin = folder.path + "/twin"
    let writer = try DataSetWriter(twin, classNames: ["a", "b"], shardSize: 1 << 20)
    for (label, key) in ["a/x.png", "b/x.png"].enumerated() {
      let record = ImageRecord(
        length: 1, width: 1, height: 1, channels: 1, encoding: .raw, colour: 1, label: Int32(label))
      try [UInt8(0)].withUnsafeBytes { try writer.append($0, record, key: key) }
    }
    try writer.finish(mean: [0.5], deviation: [0.3])
    let list = try write("x.png\n")
    #expect(
      refusal { try select(DataSet(at: twin), list) }.contains(
        "lists x.png, which names 2 images of \(twin); list keys"))
    #expect(try select(two).counts == [2])
  }

  // MARK: Validation

  @Test func validationIsApartAndLeavesEveryClassAnImage() throws {
    let set = try pack("set", [20, 2, 20, 1, 7], unlabelled: 5)
    for (choice, validation, count) in [
      ("all", "10%", 5), ("all", "45", 45), ("all", "90%", 45), ("30", "10", 10),
    ] {
      let selection = try select(set, choice, validation: validation)
      #expect(selection.validation.count == count, "\(choice) \(validation)")
      #expect(Set(selection.validation).isDisjoint(with: selection.training))
      #expect(selection.counts == classes(selection.training, of: set))
      #expect(selection.counts.allSatisfy { $0 >= 1 }, "\(selection.counts)")
      let all = try select(set, choice).training
      #expect((selection.training + selection.validation).sorted() == all)
      #expect(selection.validation == selection.validation.sorted())
      #expect(try select(set, choice, validation: validation) == selection)
    }
    // Class by class as well: the rare ones give what they can.
    let found = classes(try select(set, validation: "21").validation, of: set)
    #expect(found[1] == 1 && found[3] == 0 && [found[0], found[2], found[4]].sorted() == [6, 7, 7])
    #expect(try select(set, validation: "10").validation != select(set, validation: "10", seed: 2).validation)
    #expect(try select(set, validation: "10").checksum != select(set).checksum)
  }

  @Test func validationThatCannotBeIsRefused() throws {
    let set = try pack("set", [5, 2, 1])
    for (choice, validation, words) in [
      ("all", "6", "validation is 6 of 8 labelled images, which is 6: it must be at least 1, and leave"),
      ("all", "80%", "which is 6"), ("all", "1%", "validation is 1% of 8 labelled images, which is 0"),
      ("3", "1", "so at most 0"),
    ] {
      let text = refusal { try select(set, choice, validation: validation) }
      #expect(text.contains(words) && text.contains("take another number, or more labels"), "\(text)")
    }
    #expect(try select(set, validation: "5").counts == [1, 1, 1])
  }

  // MARK: Words

  @Test func choicesAreWords() throws {
    for (text, choice) in [
      ("all", LabelChoice.all), ("1%", .some(.share(0.01))), ("1.1%", .some(.share(0.011))),
      ("500", .some(.images(500))),
      ("lists/1percent.txt", .list("lists/1percent.txt")),
    ] {
      #expect(LabelChoice(text)?.description == text)
      if text != "1.1%" { #expect(LabelChoice(text) == choice) }
      let json = try JSONEncoder().encode([LabelChoice(text)!])
      #expect(try JSONDecoder().decode([LabelChoice].self, from: json)[0].description == text)
    }
    for text in ["", "0", "-3", "0%", "101%", "x%", "1.5", "1e3", "nan%", "inf"] {
      #expect(LabelChoice(text) == nil, "\(text)")
    }
  }

  // MARK: What a stage trains on

  private func labels(_ images: TrainingImages) -> [Int32] { (0..<images.count).map { images.record($0).label } }

  /// A label that may not be seen is −1 in every record that a loader gets.
  @Test func labelsThatMayNotBeSeenAreHidden() throws {
    let set = try pack("set", [10, 10], unlabelled: 4)
    let blind = TrainingImages(set)
    #expect(blind.count == 24 && labels(blind).allSatisfy { $0 == -1 })
    let selection = try select(set, "8", validation: "2")
    let only = TrainingImages(set, selection, only: true)
    #expect((0..<only.count).map(only.original) == selection.training)
    #expect(labels(only) == selection.training.map { Int32(set.label($0)!) })
    // All but those for validation, of which the chosen have their labels.
    let some = TrainingImages(set, selection, only: false)
    #expect(some.count == 22)
    for sample in 0..<some.count {
      let original = some.original(sample)
      #expect(!selection.validation.contains(original))
      let expected = selection.training.contains(original) ? Int32(set.label(original)!) : -1
      #expect(some.record(sample).label == expected)
    }
    let whole = TrainingImages(set, try select(set), only: false)
    #expect(whole.count == 24 && labels(whole) == (0..<24).map { Int32(set.label($0) ?? -1) })
  }

  /// Of a selection each image is its own bytes and name.
  @Test func imagesOfASelectionAreTheirOwn() throws {
    let set = try pack("set", [9, 9, 9])
    for only in [false, true] {
      let images = TrainingImages(set, try select(set, "12", validation: "3"), only: only)
      for sample in 0..<images.count {
        var mine: [UInt8] = []
        var its: [UInt8] = []
        try images.fetch(sample..<sample + 1, into: &mine)
        let original = images.original(sample)
        try set.fetch(original..<original + 1, into: &its)
        #expect(mine == its && images.name(sample) == set.name(original))
        #expect(images.neighbours(of: sample) == sample..<sample + 1)
      }
    }
    // The whole set is read as it lies.
    #expect(TrainingImages(set).neighbours(of: 3) == set.neighbours(of: 3))
  }
}

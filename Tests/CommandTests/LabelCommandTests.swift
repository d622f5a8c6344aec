import Foundation
import Testing

extension CommandTests {
  /// From a pre-trained encoder to predictions: finetune, distil, predict.
  @Suite final class LabelCommandTests {
    let work: Workplace
    init() throws { work = try Workplace() }

    private func path(_ name: String) -> String { work.path + "/" + name }

    /// Runs a command and expects it to succeed.
    @discardableResult
    private func done(_ words: [String], ranks: Int? = nil) throws -> String {
      let outcome = try Job(words, ranks: ranks, in: work.path).outcome()
      #expect(outcome.status == 0, "\(words): \(outcome.output)")
      return outcome.output
    }

    private func refused(_ words: String..., saying texts: String...) throws {
      let outcome = try Job(words, in: work.path).outcome()
      #expect(outcome.status == 1 && outcome.seconds < Workplace.soon, "\(words): \(outcome.output)")
      for text in texts { #expect(outcome.output.contains(text), "`\(text)` is not in: \(outcome.output)") }
      #expect(outcome.output.components(separatedBy: "error: ").count == 2, "\(outcome.output)")
    }

    private func pretrained() throws -> String {
      let run = path("pre")
      let outcome = try work.pretrain(ranks: nil, run: run, ["length=6 steps", "monitor.every=6 steps"]).outcome()
      #expect(outcome.status == 0, "\(outcome.output)")
      return run
    }

    private func finetuned() throws -> String {
      let run = path("fine")
      try done([
        "finetune", try pretrained(), "--data", "data=\(try work.data())", "--run", run, "--threads", "1", "--labels",
        "50%",
        "--set", "data.validation=20%", "--set", "batch=29", "--set", "length=8 steps", "--set",
        "monitor.every=2 steps",
      ])
      return run
    }

    /// A folder of pictures, with a file among them that is none, and a note.
    private func photographs(_ count: Int) throws -> String {
      let folder = path("photos/deep")
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      for i in 0..<count {
        try PlainPNG.grey(28) { UInt8(($0 / (i + 1) + $1) % 2 * 200) }.write(to: url("photo \(i).png"))
      }
      try Data("this is no picture".utf8).write(to: url("bad.png"))
      try Data("a note".utf8).write(to: url("note.txt"))
      return path("photos")
    }

    private func url(_ name: String) -> URL { URL(fileURLWithPath: path("photos/deep/\(name)")) }

    /// A table without what was said on standard error.
    private func table(_ output: String) -> [String] {
      output.split(separator: "\n").map(String.init).filter { !$0.hasPrefix("left out") }
    }

    /// Expects a header of the file, its class and the classes' names, and lines whose probabilities have the sum 1 and
    /// are largest for the class that is named.
    private func expectTable(_ lines: [String], rows: Int) throws {
      #expect(lines.count == rows + 1, "\(lines.prefix(3))")
      let names = try #require(lines.first).split(separator: ",").map(String.init)
      #expect(names.prefix(2) == ["file", "class"] && names.count == 12)
      for line in lines.dropFirst() {
        let fields = line.split(separator: ",").map(String.init)
        let values = fields.dropFirst(2).compactMap(Double.init)
        #expect(values.count == 10 && abs(values.reduce(0, +) - 1) < 1e-4, "\(line)")
        let best = try #require(values.indices.max { values[$0] < values[$1] })
        #expect(fields[1] == names[2 + best], "\(line)")
      }
    }

    // MARK: Fine-tuning

    /// Labels are chosen, the first layer of the head is kept, the best checkpoint is watched, and the report shows it.
    @Test func anEncoderIsFineTuned() throws {
      let run = try finetuned()
      #expect(work.isComplete(run))
      let recipe = try String(contentsOfFile: run + "/recipe.yaml", encoding: .utf8)
      for words in ["name: supervised", "labels: 50%", "carry: [encoder, head.0]", "width: features", "count: 1"] {
        #expect(recipe.contains(words), "`\(words)` is not in: \(recipe)")
      }
      #expect(!recipe.contains("colour"))
      let lists = try ["finetune", "finetune-validation"].map {
        try String(contentsOfFile: "\(run)/labels/\($0).txt", encoding: .utf8).split(separator: "\n")
      }
      // 145 of 290 images, of which 29 are kept.
      #expect(lists.map(\.count) == [116, 29] && Set(lists[0]).isDisjoint(with: lists[1]))
      let page = try String(contentsOfFile: run + "/report.html", encoding: .utf8)
      #expect(page.contains("Worst mistakes") && page.contains("accuracy"))
      let metrics = try String(contentsOfFile: run + "/metrics.jsonl", encoding: .utf8)
      #expect(metrics.contains("validation_accuracy") && metrics.contains("test_accuracy"))
      // The written labels are a choice for another run, on two ranks too.
      let again = try done(
        [
          "finetune", path("pre"), "--data", try work.data(), "--run", path("again"), "--threads", "1", "--labels",
          "\(run)/labels/finetune.txt", "--layers", "0", "--set", "batch=29", "--set", "length=2 steps",
        ], ranks: 2)
      #expect(again.contains("starts with encoder of"), "\(again)")
      #expect(work.isComplete(path("again")))
    }

    @Test func aFineTuningThatCannotBeIsRefused() throws {
      let run = try pretrained()
      let data = try work.data()
      try refused(
        "finetune", run, "--data", data, "--run", path("x"), "--layers", "5", saying: "but the head of \(run) has 2")
      try refused(
        "finetune", run, "--data", data, "--run", path("x"), "--labels", "0", saying: "--labels is `0`; it can be all")
      try refused(
        "finetune", run, "--data", data, "--run", path("x"), "--labels", "9", saying: "labels is 9",
        "has 10 classes: take at least one image of each")
      try refused(
        "finetune", path("nowhere"), "--data", data, "--run", path("x"),
        saying: "run \(path("nowhere")) has no whole checkpoint")
      try refused(
        "finetune", run, "--data", data, "--run", path("x"), "--set", "optimizer.rat=1", saying: "did you mean `rate`?")
      try refused(
        "finetune", run, "--data", data, "--run", run, "--restart",
        saying: "which is also the folder to train in: give another --run")
      #expect(work.isComplete(run) && !FileManager.default.fileExists(atPath: path("x")))
      let negative = try work("finetune", run, "--data", data, "--run", path("x"), "--layers=-1")
      #expect(negative.status == 64 && negative.output.contains("--layers is -1"), "\(negative.output)")
    }

    // MARK: Distillation

    @Test func aStudentIsDistilled() throws {
      let teacher = try finetuned()
      let data = try work.data()
      let run = path("student")
      let output = try done(
        [
          "distil", teacher, "--data", data, "--run", run, "--threads", "1", "--width", "0.0625", "--labels", "30%",
          "--set", "method.alpha=0.5", "--set", "batch=34", "--set", "length=6 steps",
        ], ranks: 2)
      #expect(output.contains("asks the network of run \(teacher)"), "\(output)")
      let recipe = try String(contentsOfFile: run + "/recipe.yaml", encoding: .utf8)
      for words in ["name: distil", "labels: 30%", "teacher: run \(teacher)", "width: 0.0625"] {
        #expect(recipe.contains(words), "`\(words)` is not in: \(recipe)")
      }
      try expectTable(table(try done(["predict", run, data + "/test", "--threads", "1"])), rows: 110)
      // Images without labels have the classes of those that they are packed like.
      try done(["pack", try photographs(40), path("bare"), "--unlabelled", "--like", data + "/train"])
      try done([
        "distil", teacher, "--data", path("bare"), "--run", path("unlabelled"), "--threads", "1", "--set", "batch=20",
        "--set", "length=2 steps",
      ])
      // A student may teach.
      try done([
        "distil", run, "--data", data, "--run", path("second"), "--threads", "1", "--set", "batch=34", "--set",
        "length=2 steps",
      ])
      try refused(
        "distil", path("pre"), "--data", data, "--run", path("x"), saying: "tells no classes: give a run or a stage")
      try refused(
        "distil", teacher, "--data", data, "--run", path("x"), "--encoder", "resnet19",
        saying: "there is no encoder `resnet19`", "resnet18")
      try refused(
        "distil", teacher, "--data", data, "--run", path("x"), "--labels", "30%",
        saying: "data.labels is given, but distil learns without labels")
      #expect(!FileManager.default.fileExists(atPath: path("x")))
    }

    // MARK: Predictions

    /// The same table alone and on two ranks, of a folder and of a packed set; a bad file is left out and named.
    @Test func imagesArePredicted() throws {
      let run = try finetuned()
      let photographs = try photographs(7)
      let alone = try done(["predict", run, photographs, "--threads", "1"])
      try expectTable(table(alone), rows: 7)
      #expect(alone.contains("left out deep/bad.png: ") && alone.contains("left out 1 of the files"), "\(alone)")
      let lines = table(alone).dropFirst()
      #expect(lines.map { $0.prefix { $0 != "," } } == (0..<7).map { "deep/photo \($0).png" }, "\(lines)")
      let two = try done(["predict", run, photographs, "--threads", "1"], ranks: 2)
      #expect(table(two) == table(alone))
      #expect(two.components(separatedBy: "left out deep/bad.png").count == 2, "\(two)")
      // Packed, the images have the same classes and nearly the same probabilities: the same pixels.
      try done(["pack", photographs, path("packed"), "--unlabelled"])
      let packed = try done(["predict", run, path("packed"), "--threads", "1"])
      #expect(table(packed).sorted() == table(alone).sorted())
      #expect(try table(done(["predict", run, path("packed"), "--threads", "1"], ranks: 2)) == table(packed))
      // An earlier checkpoint can be asked.
      let steps = work.checkpoints(run)
      try expectTable(table(try done(["predict", run, photographs, "--step", "\(steps[0])"])), rows: 7)
    }

    @Test func whatCannotBePredictedIsRefused() throws {
      let run = try pretrained()
      let photographs = try photographs(2)
      try refused(
        "predict", run, photographs, saying: "\(run) tells no classes", "train a classifier with apus finetune \(run)")
      try refused("predict", path("nowhere"), photographs, saying: "has no whole checkpoint")
      let fine = try finetuned()
      try refused("predict", fine, path("nothing"), saying: path("nothing"), "No such file or directory")
      try refused("predict", fine, path("photos/deep/note.txt"), saying: "note.txt")
      try refused("predict", fine, try work.data(), saying: "it holds packed sets, train and test: name one, such as")
      for i in 0..<2 { try FileManager.default.removeItem(at: url("photo \(i).png")) }
      try refused("predict", fine, photographs, saying: "left out deep/bad.png", "none of its 1 files could be read")
      try refused("predict", fine, photographs, "--step", "77", saying: "has no checkpoint of step 77")
    }

    /// A stage of a recipe can be compared between ranks; it must begin with other runs.
    @Test func aStageOfSeveralIsCompared() throws {
      let data = try work.data()
      let recipe = Workplace.recipe("distil")
      let run = try pretrained()
      try done([
        "replicas", "make", recipe, "--data", data, "--out", path("one"), "--stage", "finetune", "--steps", "2",
        "--set",
        "stages.1.start.from=run \(run)", "--threads", "1",
      ])
      try refused(
        "replicas", "make", recipe, "--data", data, "--out", path("x"), "--stage", "finetun",
        saying: "the recipe has no stage `finetun`; did you mean `finetune`?")
      try refused(
        "replicas", "make", recipe, "--data", data, "--out", path("x"), "--stage", "finetune",
        saying: "start.from is `previous`, but this stage is the first")
    }
  }
}

/// A PNG of grey pixels that is not compressed.
enum PlainPNG {
  /// - Parameter pixel: value at a column and a row.
  static func grey(_ side: Int, _ pixel: (_ x: Int, _ y: Int) -> UInt8) -> Data {
    var rows: [UInt8] = []
    for y in 0..<side { rows += [0] + (0..<side).map { pixel($0, y) } }
    let length = UInt16(rows.count)
    var stream: [UInt8] = [0x78, 0x01, 0x01]
    stream += bytes(length.littleEndian) + bytes((~length).littleEndian) + rows + bytes(adler(rows).bigEndian)
    let size = bytes(UInt32(side).bigEndian)
    let header = size + size + [8, 0, 0, 0, 0]
    let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    return Data(signature + chunk("IHDR", header) + chunk("IDAT", stream) + chunk("IEND", []))
  }

  private static func chunk(_ name: String, _ content: [UInt8]) -> [UInt8] {
    let body = Array(name.utf8) + content
    return bytes(UInt32(content.count).bigEndian) + body + bytes(crc(body).bigEndian)
  }

  private static func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

  private static func adler(_ data: [UInt8]) -> UInt32 {
    var a: UInt32 = 1
    var b: UInt32 = 0
    for byte in data {
      a = (a + UInt32(byte)) % 65521
      b = (b + a) % 65521
    }
    return b << 16 | a
  }

  private static func crc(_ data: [UInt8]) -> UInt32 {
    var crc = UInt32.max
    for byte in data {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 0 ? crc >> 1 : crc >> 1 ^ 0xEDB8_8320 }
    }
    return ~crc
  }
}

import Foundation
import Randomness
import Shards
import Training

let hostile = "<script>alert(1)</script>&\"'"

extension EvaluationResult {
  /// A result as decoded from a file.
  static func sample(_ name: String, _ features: String, correct: Int, of count: Int, k: Int? = nil, classes: Int = 10)
    throws -> EvaluationResult
  {
    let interval = Interval.wilson(correct, of: count)
    let sizes = (0..<classes).map { label in
      let right = correct / classes + label * 4 - 18
      return "{\"value\":\(Double(right) / Double(count / classes)),\"count\":\(count / classes)}"
    }
    let text = """
      {"name":"\(name)","version":1,"title":"\(k.map { "kNN, k = \($0)" } ?? "linear probe")","features":"\(features)",
      "options":{\(k.map { "\"k\":\($0)" } ?? "")},"trainCount":12000,"testCount":\(count),"dimension":128,
      "scores":[{"name":"top-1","unit":"%","value":\(Double(correct) / Double(count)),"hits":\(correct),
      "trials":\(count),"interval":{"low":\(interval.low),"high":\(interval.high)}},
      {"name":"top-5","unit":"%","value":0.98}],
      "classes":[\(sizes.joined(separator: ","))],"notes":[],"timing":{"seconds":3.2}}
      """
    return try JSONDecoder().decode(EvaluationResult.self, from: Data(text.utf8))
  }
}

extension EvaluationRecord {
  /// A record of the last step of the sample report.
  static func sample(step: Int = 5000, data: String = "data/train", _ results: [EvaluationResult] = []) -> Self {
    EvaluationRecord(
      Subject(path: "runs/first", stage: 0, stageName: "pretrain", step: step),
      input: EncoderInput(size: 28, mean: [0.25], deviation: [0.5]),
      train: Images(path: data, fingerprint: "ab", taken: 12_000, count: 60_000),
      test: Images(path: "data/test", fingerprint: "cd", taken: 10_000, count: 10_000),
      classNames: (0..<9).map { "class \($0)" } + [hostile], results: results)
  }
}

extension ReportContent {
  /// A whole report with every section.
  static func sample() throws -> ReportContent {
    var content = ReportContent(
      title: "simclr on \(hostile)",
      summary: "SimCLR v1, ResNet-18 of width 0.25, 60 000 images, 20 epochs on 2 ranks in 7 min.")
    content.warnings = ["the loss sits at ln(511) \(hostile)"]
    content.facts = [
      Fact("encoder", "resnet18, width 0.25"), Fact("data \(hostile)", "60 000 images"), Fact("ranks", "2"),
    ]
    content.recipe = "seed: 1\nencoder: {name: resnet18, width: 0.25}\n# \(hostile)\n"
    content.metrics = (1...500).map { i in
      let t = Double(i) / 500
      var values: [String: JSONValue] = [
        "loss": .number(6.2 * exp(-2 * t) + 2 + 0.05 * sin(Double(i))), "candidates": .number(511),
        "rate": .number(0.3 * cos(t * 1.57)),
        "embedding_deviation": .number(0.6 + 0.35 * t), "effective_rank": .number(20 + 60 * t),
        "positive_similarity": .number(0.9 - 0.1 * t),
        "negative_similarity": .number(0.5 - 0.45 * t), "gradient_norm": .number(2 - t), "top1": .number(0.1 + 0.7 * t),
      ]
      if i % 50 == 0 { values["knn_top1"] = .number(0.6 + 0.25 * t) }
      return MetricsLine(
        step: i * 10, values: values,
        timing: [
          "views_per_second": .number(3000 + 100 * sin(Double(i) / 9)), "data_wait_share": .number(0.01),
          "communication_share": .number(0.06),
        ])
    }
    var results: [EvaluationResult] = []
    for (name, k) in [("linear", nil), ("knn", 200), ("knn", 20)] as [(String, Int?)] {
      for (features, correct) in [("learned", 8712), ("random weights", 8291), ("raw pixels", 8305)] {
        results.append(try .sample(name, features, correct: correct - (k ?? 0), of: 10_000, k: k))
      }
    }
    content.evaluations = [.sample(results)]
    content.stages = ["pretrain"]
    content.grids = [
      Grid(
        "Views", text: "Two views of an image.",
        rows: (0..<3).map { row in
          .init("image \(row)", (0..<6).map { Picture(picture(row * 6 + $0, 28, 1), caption: "view \($0)") })
        }),
      Grid(
        "Nearest neighbours",
        rows: [
          .init(
            hostile,
            [
              Picture(picture(1, 16, 3), caption: hostile, mark: .query),
              Picture(picture(2, 16, 3), caption: "a", mark: .same),
              Picture(picture(3, 16, 3), caption: "b", mark: .different),
            ])
        ]),
      Grid("Kernels", size: 40, rows: [.init("", (0..<16).map { Picture(picture(40 + $0, 3, 1)) })]),
    ]
    return content
  }

  static func picture(_ number: Int, _ size: Int, _ channels: Int) -> ReportImage {
    var draws = Draws(seed: 1, .check, UInt64(number))
    return ReportImage(
      width: size, height: size, channels: channels,
      pixels: (0..<size * size * channels).map { _ in UInt8(draws.integer(below: 256)) })
  }
}

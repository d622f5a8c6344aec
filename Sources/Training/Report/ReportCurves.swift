import Foundation
import Shards

/// The charts that a run's metrics give; one without points is left out. A chart is a row here.
enum ReportCurves {
  /// - Parameter stages: their names, by index.
  static func all(_ lines: [MetricsLine], stages: [String]) -> [Curve] {
    var loss = curve(lines, "Loss", "nats", [("loss", "loss")])
    loss.guides = guesses(lines)
    let accuracy = curve(
      lines, "Accuracy", "%",
      [("accuracy", "batch"), ("validation_accuracy", "validation"), ("test_accuracy", "held-out")], scale: 100)
    let agreement = curve(lines, "Agreement with the teacher", "%", [("agreement", "agreement")], scale: 100)
    let entropy = curve(lines, "Entropy of the prototypes", "nats", [("entropy", "entropy")])
    var top1 = curve(lines, "Contrastive top-1", "%", [("top1", "top-1")], scale: 100)
    top1.including = [0]
    let knn = curve(lines, "kNN top-1 on held-out images", "%", [("knn_top1", "kNN top-1")], scale: 100)
    let similarity = curve(
      lines, "Cosine similarity", "",
      [("positive_similarity", "two views of an image"), ("negative_similarity", "different images")])
    var deviation = curve(lines, "Embedding deviation × √d", "", [("embedding_deviation", "deviation")])
    deviation.guides = [Curve.Guide(1, "even spread")]
    deviation.including = [0]
    var rank = curve(lines, "Effective rank of the embeddings", "dimensions", [("effective_rank", "effective rank")])
    rank.including = [0]
    var speed = curve(lines, "Speed", "views/s", [("timing.views_per_second", "views/s")])
    speed.including = [0]
    var shares = curve(
      lines, "Time lost", "%",
      [("timing.data_wait_share", "waiting for images"), ("timing.communication_share", "communication")], scale: 100)
    shares.including = [0, 10]
    var norm = curve(lines, "Gradient norm", "", [("gradient_norm", "gradient norm")])
    norm.including = [0]
    var rate = curve(lines, "Learning rate", "", [("rate", "rate")])
    rate.including = [0]
    let borders = borders(lines, stages)
    return [loss, knn, top1, accuracy, agreement, similarity, entropy, deviation, rank, rate, norm, speed, shares]
      .filter { !$0.series.isEmpty }
      .map { curve in
        var curve = curve
        curve.borders = borders
        return curve
      }
  }

  /// Where a stage follows another: half-way between the last step of one and the first logged step of the next.
  private static func borders(_ lines: [MetricsLine], _ stages: [String]) -> [Curve.Border] {
    let logged = lines.filter { $0["stage"] != nil }
    return zip(logged, logged.dropFirst()).compactMap { before, after in
      guard let stage = after["stage"], stage != before["stage"] else { return nil }
      let index = Int(stage)
      let name = stages.indices.contains(index) ? stages[index] : "stage \(index)"
      return Curve.Border(x: Double(before.step + after.step) / 2, name: name)
    }
  }

  /// The loss of guessing, as the run wrote it down last; runs of earlier versions wrote the candidates alone.
  private static func guesses(_ lines: [MetricsLine]) -> [Curve.Guide] {
    let candidates = lines.last { $0["candidates"] != nil }?["candidates"]
    let logarithm = candidates.flatMap { $0 > 1 ? log($0) : nil }
    guard let chance = lines.last(where: { $0["chance"] != nil })?["chance"] ?? logarithm else { return [] }
    let words = chance == logarithm ? "guessing: ln(\(significant(candidates!)))" : "guessing: \(significant(chance))"
    return [Curve.Guide(chance, words)]
  }

  private static func curve(
    _ lines: [MetricsLine], _ title: String, _ unit: String, _ keys: [(key: String, name: String)], scale: Double = 1
  ) -> Curve {
    let series = keys.map { key, name in
      Curve.Series(name, lines.compactMap { line in line[key].map { (Double(line.step), $0 * scale) } })
    }
    return Curve(title, unit: unit, series.filter { !$0.points.isEmpty })
  }
}

/// The keys of `metrics.jsonl`. `RunFolderAndMetrics.md` and the report take their descriptions from here.
package enum Metrics {
  /// One key and its description.
  package struct Key: Sendable {
    /// The key; those inside `timing` begin with `timing.`.
    package let name: String
    /// Empty for a pure number.
    package let unit: String
    /// Description in a few words.
    package let meaning: String
    init(_ name: String, _ unit: String, _ meaning: String) {
      self.name = name
      self.unit = unit
      self.meaning = meaning
    }
  }

  /// All keys, in the order of the documentation.
  package static let documentation: [Key] = [
    Key("step", "", "steps done, counted from 1"),
    Key("epoch", "", "passes over the data, with their fraction"),
    Key("stage", "", "the stage of the recipe, counted from 0"),
    Key("loss", "nats", "mean over this step's global batch"),
    Key("chance", "nats", "the loss that guessing gives"),
    Key("candidates", "", "among how many the positive is to be found"),
    Key("entropy", "nats", "of which prototype is the nearest; ln(prototypes) where all are used alike"),
    Key("in_batch", "", "mean probability of the batch's other keys, where there are further negatives"),
    Key("rate", "", "learning rate, scaling included"),
    Key("top1", "", "share of anchors whose positive is the most similar candidate"),
    Key("accuracy", "", "share of labelled images that are given their class"),
    Key("agreement", "", "share of images that are given the teacher's class"),
    Key("validation_accuracy", "", "share of the images kept for validation that are given their class"),
    Key("test_accuracy", "", "share of held-out images that are given their class"),
    Key("positive_similarity", "", "mean cosine of the two views of an image"),
    Key("negative_similarity", "", "mean cosine of different images"),
    Key("embedding_deviation", "", "deviation of the embeddings times √d; 1 is even on the sphere, 0 is collapse"),
    Key("effective_rank", "dimensions", "exp of the entropy of the eigenvalues of the embeddings' covariance"),
    Key("gradient_norm", "", "of all parameters' gradients, summed over ranks"),
    Key("weight_norm", "", "of encoder and head"),
    Key("knn_top1", "", "share of held-out images that their nearest training images name rightly"),
    Key("warnings", "", "what was said about the health of the run at this step"),
    Key("timing.views_per_second", "views/s", "all ranks together, over the last half minute"),
    Key("timing.seconds", "s", "since the run, or its latest resume, began"),
    Key("timing.seconds_left", "s", "estimate"),
    Key("timing.data_wait_share", "", "share of the time spent waiting for images"),
    Key(
      "timing.communication_share", "",
      "share of the time that arithmetic stood still for collectives, other ranks' lateness included"),
    Key("timing.peak_memory", "bytes", "largest resident size of rank 0 so far"),
  ]

  /// The description of a key; nil for an unknown one.
  package static func key(_ name: String) -> Key? { documentation.first { $0.name == name } }

  /// The keys as a Markdown table.
  package static var markdown: String {
    (["| key | unit | meaning |", "|---|---|---|"]
      + documentation.map { "| `\($0.name)` | \($0.unit) | \($0.meaning) |" }).joined(separator: "\n")
  }
}

extension ReportContent.Grid {
  /// Augmented views, one row an image.
  /// - Parameters:
  ///   - views: (views * images, size, size, channels), view-major, normalised.
  ///   - names: of the images.
  package static func views(
    _ views: UnsafePointer<Float>, count: Int, images: Int, size: Int, channels: Int, names: [String]
  ) -> Self {
    precondition(names.count == images, "\(names.count) names for \(images) images")
    let length = size * size * channels
    let rows = (0..<images).map { image in
      Row(
        names[image],
        (0..<count).map { view in
          let start = views + (view * images + image) * length
          let values = Array(UnsafeBufferPointer(start: start, count: length))
          return .init(
            ReportImage(width: size, height: size, channels: channels, stretching: values), caption: "view \(view + 1)")
        })
    }
    return Self("What the encoder sees", text: "Views of a few training images, augmented as in training.", rows: rows)
  }

  /// Test images and the training images whose features are most similar.
  /// - Parameters:
  ///   - origin: whose features, such as "After step 12".
  ///   - classNames: by label.
  ///   - image: a picture of a sample of the training or the test set.
  package static func neighbours(
    _ found: [Comparison.Neighbours], origin: String, classNames: [String],
    image: (_ isTraining: Bool, _ sample: Int) throws -> ReportImage
  ) throws -> Self {
    func name(_ label: Int32) -> String {
      classNames.indices.contains(Int(label)) ? classNames[Int(label)] : "class \(label)"
    }
    let rows = try found.map { query in
      let own = ReportContent.Picture(try image(false, query.query), caption: "query", mark: .query)
      let others = try zip(query.nearest, query.nearestLabels).map { sample, label in
        ReportContent.Picture(
          try image(true, sample), caption: name(label), mark: label == query.label ? .same : .different)
      }
      return Row(name(query.label), [own] + others)
    }
    return Self(
      "Nearest neighbours",
      text: "Test images, and the training images whose features are most similar. Green: of the same class; red: of "
        + "another. \(origin).",
      size: 72, rows: rows)
  }

  /// The filters of the first convolution, each stretched around middle grey.
  /// - Parameter weights: (kernel, kernel, channels, filters).
  package static func kernels(_ weights: UnsafePointer<Float>, kernel: Int, channels: Int, filters: Int) -> Self {
    let pictures = (0..<filters).map { filter in
      let values = (0..<kernel * kernel * channels).map { weights[$0 * filters + filter] }
      return ReportContent.Picture(
        ReportImage(width: kernel, height: kernel, channels: channels, stretching: values, symmetric: true))
    }
    return Self(
      "First-layer kernels",
      text: "Weights of the first convolution, each filter on a scale of its own; 0 is middle grey.",
      size: 44, rows: [Row("", pictures)])
  }
}

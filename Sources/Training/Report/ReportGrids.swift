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
  ///   - queries: rows of the test table.
  ///   - classNames: by label.
  ///   - image: a picture of a row of the training or the test table.
  package static func neighbours(
    _ train: FeatureTable, _ test: FeatureTable, queries: [Int], neighbours: Int = 10, classNames: [String],
    image: (_ isTraining: Bool, _ row: Int) throws -> ReportImage
  ) throws -> Self {
    let search = NeighbourSearch(train, k: min(neighbours, train.count))
    func name(_ label: Int32) -> String {
      classNames.indices.contains(Int(label)) ? classNames[Int(label)] : "class \(label)"
    }
    let rows = try queries.map { query in
      var indices: [Int] = []
      search.find(test, query..<query + 1) { indices = $2.map(Int.init) }
      let own = test.labels[query]
      return Row(
        name(own),
        [.init(try image(false, query), caption: "query", mark: .query)]
          + (try indices.map {
            .init(
              try image(true, $0), caption: name(train.labels[$0]), mark: train.labels[$0] == own ? .same : .different)
          }))
    }
    return Self(
      "Nearest neighbours",
      text: "Test images, and the training images whose features are most similar. Green: of the same class; red: of "
        + "another.",
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

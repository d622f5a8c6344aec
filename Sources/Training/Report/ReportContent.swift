/// All that a report shows. Numbers come from the run's files; the page computes none of its own.
package struct ReportContent: Sendable {
  /// A name and its value, such as ("encoder", "ResNet-18, width 0.25, 0.7 M parameters").
  package struct Fact: Sendable, Codable, Equatable {
    package var name: String
    package var value: String
    package init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  /// A picture with what is known of it.
  package struct Picture: Sendable, Codable, Equatable {
    package enum Mark: String, Sendable, Codable {
      case none
      /// What was asked for.
      case query
      /// Of the query's class, or not.
      case same, different
    }
    package var image: ReportImage
    package var caption: String
    package var mark: Mark
    package init(_ image: ReportImage, caption: String = "", mark: Mark = .none) {
      self.image = image
      self.caption = caption
      self.mark = mark
    }
  }

  /// Rows of pictures: views of an image, a query and its neighbours, kernels.
  package struct Grid: Sendable, Codable, Equatable {
    package struct Row: Sendable, Codable, Equatable {
      package var name: String
      package var pictures: [Picture]
      package init(_ name: String, _ pictures: [Picture]) {
        self.name = name
        self.pictures = pictures
      }
    }
    package var title: String
    package var text: String
    package var rows: [Row]
    /// Width of a picture on the page, in CSS pixels.
    package var size: Int
    package init(_ title: String, text: String = "", size: Int = 64, rows: [Row]) {
      self.title = title
      self.text = text
      self.size = size
      self.rows = rows
    }
  }

  package var title: String
  /// One sentence: what ran, on what.
  package var summary: String
  package var warnings: [String] = []
  package var facts: [Fact] = []
  /// The resolved recipe, as `recipe.yaml` holds it.
  package var recipe: String = ""
  package var metrics: [MetricsLine] = []
  /// Names of the recipe's stages, by index; lines of metrics say which of them they belong to.
  package var stages: [String] = []
  package var evaluations: [EvaluationRecord] = []
  /// How the classifiers of the run's stages do.
  package var classifiers: [ClassifierRecord] = []
  package var grids: [Grid] = []
  /// Results of several runs.
  package var figures: [Figure] = []

  package init(title: String, summary: String) {
    self.title = title
    self.summary = summary
  }
}

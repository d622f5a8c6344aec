/// Which labels of a data set a training may use: `all`, a share such as `1%`, a number such as `1000`, or the images
/// that a file lists, one key a line.
package enum LabelChoice: Sendable, Equatable {
  case all
  case some(Amount)
  case list(String)

  /// How many images.
  package enum Amount: Sendable, Equatable {
    /// Above 0 and up to 1.
    case share(Double)
    /// At least 1.
    case images(Int)

    /// Reads `10%` or `1000`.
    package init?(_ text: String) {
      if text.hasSuffix("%") {
        guard let percent = Double(text.dropLast()), percent > 0, percent <= 100 else { return nil }
        self = .share(percent / 100)
      } else {
        guard let count = Int(text), count >= 1 else { return nil }
        self = .images(count)
      }
    }

    /// So many of a whole, rounded down, as in the published lists of ImageNet: 12,811 of 1,281,167 are 1 %.
    package func count(of whole: Int) -> Int {
      switch self {
      // 29 % of 100 are 28.999999999999996 in Double.
      case .share(let share): Int(share * Double(whole) + 1e-6)
      case .images(let count): count
      }
    }
  }

  /// Reads `description`'s form. What is no number is a file.
  package init?(_ text: String) {
    if text == "all" {
      self = .all
    } else if let amount = Amount(text) {
      self = .some(amount)
    } else if text.isEmpty || text.hasSuffix("%") || Double(text) != nil {
      return nil
    } else {
      self = .list(text)
    }
  }
}

extension LabelChoice.Amount: Codable, CustomStringConvertible {
  package var description: String {
    switch self {
    case .share(let share):
      // Of 1.1 % the share times 100 is not 1.1.
      let percent = (share * 100 * 1e9).rounded() / 1e9
      return percent == percent.rounded() ? "\(Int(percent))%" : "\(percent)%"
    case .images(let count): return "\(count)"
    }
  }

  package init(from decoder: any Swift.Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try (try? container.decode(Int.self)).map(String.init) ?? container.decode(String.self)
    guard let amount = Self(text) else {
      throw decoder.invalid("`\(text)` is no number of images; write a share such as 10%, or a number such as 500")
    }
    self = amount
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if case .images(let count) = self { return try container.encode(count) }
    try container.encode(description)
  }
}

extension LabelChoice: Codable, CustomStringConvertible {
  package var description: String {
    switch self {
    case .all: "all"
    case .some(let amount): "\(amount)"
    case .list(let path): path
    }
  }

  package init(from decoder: any Swift.Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try (try? container.decode(Int.self)).map(String.init) ?? container.decode(String.self)
    guard let choice = LabelChoice(text) else {
      throw decoder.invalid("`\(text)` is no choice of labels; write all, a share such as 1%, a number, or a file")
    }
    self = choice
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if case .some(let amount) = self { return try amount.encode(to: encoder) }
    try container.encode(description)
  }
}

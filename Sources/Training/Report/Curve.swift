import Foundation

/// A line chart as SVG: axes, ticks, units, guides, and a title under the pointer at each shown point.
package struct Curve {
  package struct Series {
    package var name: String
    /// By rising x.
    package var points: [(x: Double, y: Double)]
    package init(_ name: String, _ points: [(x: Double, y: Double)]) { (self.name, self.points) = (name, points) }
  }

  /// A horizontal line that the curve is read against.
  package struct Guide {
    package var value: Double
    package var name: String
    package init(_ value: Double, _ name: String) { (self.value, self.name) = (value, name) }
  }

  package var title: String
  /// Stands above the y axis.
  package var unit: String
  package var xName: String
  package var series: [Series]
  package var guides: [Guide] = []
  /// Values that the y axis shows in any case.
  package var including: [Double] = []

  package init(_ title: String, unit: String = "", x xName: String = "step", _ series: [Series]) {
    (self.title, self.unit, self.xName) = (title, unit, xName)
    self.series = series.map { Series($0.name, $0.points.filter { $0.x.isFinite && $0.y.isFinite }) }
  }

  private static let width = 520.0, height = 250.0
  private static let left = 58.0, right = 14.0, top = 22.0, bottom = 40.0

  /// Nil where there is nothing to draw.
  package var svg: String? {
    let points = series.flatMap(\.points)
    guard let first = points.first else { return nil }
    let xs = points.reduce((first.x, first.x)) { (min($0.0, $1.x), max($0.1, $1.x)) }
    let seen = points.map(\.y) + guides.map(\.value) + including
    let x = Axis(xs.0, xs.1, padded: false, from: Self.left, to: Self.width - Self.right, ticks: 6)
    let y = Axis(seen.min() ?? 0, seen.max() ?? 1, padded: true, from: Self.height - Self.bottom, to: Self.top, ticks: 5)
    let parts = [frame(x, y)] + guides.map { draw($0, y) } + series.enumerated().map { draw($1, number: $0, x, y) }
    let label = "\(title) over \(xName)" + (series.count > 1 ? ": " + series.map(\.name).joined(separator: ", ") : "")
    return "<svg viewBox=\"0 0 \(Int(Self.width)) \(Int(Self.height))\" role=\"img\" aria-label=\"\(HTML.escape(label))\">"
      + parts.joined() + "</svg>"
  }

  private func frame(_ x: Axis, _ y: Axis) -> String {
    let (w, h) = (Self.width, Self.height)
    var svg = ""
    for tick in y.ticks {
      let place = place(y(tick))
      svg += "<line class=\"grid\" x1=\"\(Int(Self.left))\" x2=\"\(Int(w - Self.right))\" y1=\"\(place)\" y2=\"\(place)\"/>"
      svg += "<text class=\"tick\" x=\"\(Int(Self.left - 8))\" y=\"\(place)\" dy=\".32em\" text-anchor=\"end\">\(y.text(tick))</text>"
    }
    for tick in x.ticks {
      let place = place(x(tick))
      svg += "<line class=\"axis\" x1=\"\(place)\" x2=\"\(place)\" y1=\"\(Int(h - Self.bottom))\" y2=\"\(Int(h - Self.bottom + 4))\"/>"
      svg += "<text class=\"tick\" x=\"\(place)\" y=\"\(Int(h - Self.bottom + 17))\" text-anchor=\"middle\">\(x.text(tick))</text>"
    }
    svg += "<line class=\"axis\" x1=\"\(Int(Self.left))\" x2=\"\(Int(w - Self.right))\" y1=\"\(Int(h - Self.bottom))\" y2=\"\(Int(h - Self.bottom))\"/>"
    svg += "<text class=\"unit\" x=\"\(Int(w - Self.right))\" y=\"\(Int(h - 6))\" text-anchor=\"end\">\(HTML.escape(xName))</text>"
    if !unit.isEmpty { svg += "<text class=\"unit\" x=\"\(Int(Self.left - 8))\" y=\"10\" text-anchor=\"start\">\(HTML.escape(unit))</text>" }
    return svg
  }

  private func draw(_ guide: Guide, _ y: Axis) -> String {
    let place = place(y(guide.value)), start = Int(Self.left), end = Int(Self.width - Self.right)
    // The name stands where the curves are farther from the guide, and below it where there is no room above.
    func distance(_ points: [(x: Double, y: Double)]) -> Double { points.map { abs($0.y - guide.value) }.min() ?? 0 }
    let atStart = distance(series.compactMap(\.points.first)) > distance(series.compactMap(\.points.last))
    let offset = y(guide.value) < Self.top + 14 ? "1.15em" : "-.4em"
    return "<line class=\"guide\" x1=\"\(start)\" x2=\"\(end)\" y1=\"\(place)\" y2=\"\(place)\"/>"
      + "<text class=\"guide\" x=\"\(atStart ? start + 6 : end)\" y=\"\(place)\" dy=\"\(offset)\" "
      + "text-anchor=\"\(atStart ? "start" : "end")\">\(HTML.escape(guide.name))</text>"
  }

  private func draw(_ series: Series, number: Int, _ x: Axis, _ y: Axis) -> String {
    let points = thinned(series.points, to: 400)
    let path = points.map { "\(place(x($0.x))),\(place(y($0.y)))" }.joined(separator: " ")
    var svg = points.count > 1 ? "<polyline class=\"s s\(number)\" points=\"\(path)\"/>" : ""
    for point in thinned(points, to: 80) {
      let name = self.series.count > 1 ? series.name : title
      let title = "\(xName) \(significant(point.x)): \(name) \(significant(point.y))" + (unit.isEmpty ? "" : " \(unit)")
      let shown = points.count <= 40 ? " dot" : ""
      svg += "<circle class=\"p s\(number)\(shown)\" cx=\"\(place(x(point.x)))\" cy=\"\(place(y(point.y)))\" r=\"\(shown.isEmpty ? 5 : 2.5)\">"
        + "<title>\(HTML.escape(title))</title></circle>"
    }
    return svg
  }

  /// Keeps the lowest and the highest point of each stretch, so that a spike is not lost.
  private func thinned(_ points: [(x: Double, y: Double)], to count: Int) -> [(x: Double, y: Double)] {
    if points.count <= count { return points }
    let stretches = count / 2
    var kept: [(x: Double, y: Double)] = []
    for stretch in 0..<stretches {
      let range = stretch * points.count / stretches..<(stretch + 1) * points.count / stretches
      guard let low = range.min(by: { points[$0].y < points[$1].y }),
        let high = range.max(by: { points[$0].y < points[$1].y })
      else { continue }
      kept += Set([low, high]).sorted().map { points[$0] }
    }
    return kept
  }

  private func place(_ value: Double) -> String { fixed(value, 1) }
}

/// A linear axis with ticks at multiples of 1, 2 or 5 times a power of ten.
struct Axis {
  let low: Double, high: Double
  private let from: Double, to: Double
  let ticks: [Double]
  private let decimals: Int

  /// - Parameters:
  ///   - padded: whether the range grows to whole ticks.
  ///   - from, to: where `low` and `high` lie in the picture.
  init(_ low: Double, _ high: Double, padded: Bool, from: Double, to: Double, ticks count: Int) {
    var (low, high) = (low, high)
    if !(high > low) {  // One value: a range around it.
      let reach = low == 0 ? 1 : abs(low) * (padded ? 0.1 : 0.5)
      (low, high) = (low - reach, high + reach)
    }
    let rough = (high - low) / Double(count), power = pow(10, floor(log10(rough)))
    let step = power * ([1, 2, 5].first { $0 * power >= rough * 0.999 } ?? 10)
    if padded { (low, high) = (floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step) }
    (self.low, self.high, self.from, self.to) = (low, high, from, to)
    let first = Int(ceil(low / step - 1e-9)), last = Int(floor(high / step + 1e-9))
    ticks = first <= last ? (first...last).map { Double($0) * step } : []
    decimals = max(0, -Int(floor(log10(step) + 1e-9)))
  }

  func callAsFunction(_ value: Double) -> Double { from + (value - low) / (high - low) * (to - from) }

  func text(_ tick: Double) -> String {
    if abs(tick) >= 1e6 || decimals > 5 { return significant(tick) }
    if abs(tick) >= 1e4, decimals == 0 { return significant(tick / 1000) + "k" }
    return fixed(tick, decimals).replacingOccurrences(of: "-", with: "−")
  }
}

import Foundation
import Shards

/// A line chart as SVG: axes, ticks, units, guides, and a title under the pointer at each shown point.
package struct Curve: Sendable {
  package struct Series: Sendable {
    package var name: String
    /// By rising x.
    package var points: [(x: Double, y: Double)]
    /// By point: how far a line reaches above and below it. Empty for none.
    package var spread: [Double]
    package init(_ name: String, _ points: [(x: Double, y: Double)], spread: [Double] = []) {
      precondition(spread.isEmpty || spread.count == points.count, "\(spread.count) spreads of \(points.count) points")
      self.name = name
      self.points = points
      self.spread = spread
    }

    /// Without points that have no place in a picture.
    fileprivate var finite: Series {
      let kept = points.indices.filter { points[$0].x.isFinite && points[$0].y.isFinite }
      return Series(name, kept.map { points[$0] }, spread: spread.isEmpty ? [] : kept.map { spread[$0] })
    }
  }

  /// A horizontal line that the curve is read against.
  package struct Guide: Sendable {
    package var value: Double
    package var name: String
    package init(_ value: Double, _ name: String) {
      self.value = value
      self.name = name
    }
  }

  /// A vertical line where one part of the curves ends and the next, which it names, begins.
  package struct Border: Sendable, Equatable {
    package var x: Double
    package var name: String
    package init(x: Double, name: String) {
      self.x = x
      self.name = name
    }
  }

  package var title: String
  /// Stands above the y axis.
  package var unit: String
  package var xName: String
  package var series: [Series]
  package var guides: [Guide] = []
  package var borders: [Border] = []
  /// Values that the y axis shows in any case.
  package var including: [Double] = []
  /// Equal factors of x are equally far apart, and the ticks are the points' own x. All of them are above 0.
  package var isLogarithmic = false

  package init(_ title: String, unit: String = "", x xName: String = "step", _ series: [Series]) {
    self.title = title
    self.unit = unit
    self.xName = xName
    self.series = series.map(\.finite)
  }

  private static let width = 520.0, height = 250.0
  private static let left = 58.0, right = 14.0, top = 22.0, bottom = 40.0

  /// Nil where there is nothing to draw.
  package var svg: String? {
    let points = series.flatMap(\.points)
    guard let first = points.first else { return nil }
    let xs = points.reduce((along(first.x), along(first.x))) { (min($0.0, along($1.x)), max($0.1, along($1.x))) }
    let reach = series.flatMap { line in zip(line.points, line.spread).flatMap { [$0.y - $1, $0.y + $1] } }
    let seen = points.map(\.y) + reach + guides.map(\.value) + including
    let x = Axis(xs.0, xs.1, padded: false, from: Self.left, to: Self.width - Self.right, ticks: 6)
    let floor = Self.height - Self.bottom
    let y = Axis(seen.min() ?? 0, seen.max() ?? 1, padded: true, from: floor, to: Self.top, ticks: 5)
    let lines = guides.map { draw($0, y) } + borders.compactMap { draw($0, x) }
    let parts = [frame(x, y)] + lines + series.enumerated().map { draw($1, number: $0, x, y) }
    let label = "\(title) over \(xName)" + (series.count > 1 ? ": " + series.map(\.name).joined(separator: ", ") : "")
    let box = "0 0 \(Int(Self.width)) \(Int(Self.height))"
    return HTML.element("svg", ["viewBox": box, "role": "img", "aria-label": label], parts.joined())
  }

  /// Where an x stands on the x axis, in the axis's units.
  private func along(_ x: Double) -> Double { isLogarithmic ? log2(x) : x }

  private func marks(_ x: Axis) -> [(place: Double, text: String)] {
    if !isLogarithmic { return x.ticks.map { (x($0), x.text($0)) } }
    let values = Set(series.flatMap { $0.points.map(\.x) }).sorted()
    var marks: [(place: Double, text: String)] = []
    // One that would run into its neighbour is left out.
    for value in values where marks.last.map({ x(along(value)) - $0.place >= 34 }) ?? true {
      marks.append((x(along(value)), significant(value)))
    }
    return marks
  }

  private func frame(_ x: Axis, _ y: Axis) -> String {
    let (start, end) = (Self.left, Self.width - Self.right)
    let floor = Self.height - Self.bottom
    var svg = ""
    for tick in y.ticks {
      svg += line("grid", start, y(tick), end, y(tick))
      svg += text("tick", start - 8, y(tick), "end", y.text(tick), shift: ".32em")
    }
    for (place, words) in marks(x) {
      svg += line("axis", place, floor, place, floor + 4)
      svg += text("tick", place, floor + 17, "middle", words)
    }
    svg += line("axis", start, floor, end, floor) + text("unit", end, Self.height - 6, "end", xName)
    return unit.isEmpty ? svg : svg + text("unit", start - 8, 10, "start", unit)
  }

  private func draw(_ guide: Guide, _ y: Axis) -> String {
    let (start, end) = (Self.left, Self.width - Self.right)
    let height = y(guide.value)
    // The name stands where the curves are farther from the guide, and below it where there is no room above.
    func distance(_ points: [(x: Double, y: Double)]) -> Double { points.map { abs($0.y - guide.value) }.min() ?? 0 }
    let atStart = distance(series.compactMap(\.points.first)) > distance(series.compactMap(\.points.last))
    return line("guide", start, height, end, height)
      + text(
        "guide", atStart ? start + 6 : end, height, atStart ? "start" : "end", guide.name,
        shift: height < Self.top + 14 ? "1.15em" : "-.4em")
  }

  /// Nil outside of the picture.
  private func draw(_ border: Border, _ x: Axis) -> String? {
    let place = x(along(border.x))
    guard (Self.left...Self.width - Self.right).contains(place) else { return nil }
    return line("guide", place, Self.top, place, Self.height - Self.bottom)
      + text("guide", place + 4, Self.top, "start", border.name, shift: ".9em")
  }

  private func draw(_ series: Series, number: Int, _ x: Axis, _ y: Axis) -> String {
    let points = thinned(series.points, to: 400)
    let path = points.map { "\(place(x(along($0.x)))),\(place(y($0.y)))" }.joined(separator: " ")
    var svg = points.count > 1 ? "<polyline class=\"s s\(number)\" points=\"\(path)\"/>" : ""
    for (point, reach) in zip(series.points, series.spread) where reach > 0 {
      let across = x(along(point.x))
      svg += line("spread s\(number)", across, y(point.y - reach), across, y(point.y + reach))
    }
    let (shown, radius) = points.count <= 40 ? (" dot", "2.5") : ("", "5")
    for point in thinned(points, to: 80) {
      let name = self.series.count > 1 ? series.name : title
      let title = "\(xName) \(significant(point.x)): \(name) \(significant(point.y))" + (unit.isEmpty ? "" : " \(unit)")
      svg +=
        "<circle class=\"p s\(number)\(shown)\" cx=\"\(place(x(along(point.x))))\" cy=\"\(place(y(point.y)))\" "
        + "r=\"\(radius)\"><title>\(HTML.escape(title))</title></circle>"
    }
    return svg
  }

  private func line(_ kind: String, _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double) -> String {
    "<line class=\"\(kind)\" x1=\"\(place(x1))\" y1=\"\(place(y1))\" x2=\"\(place(x2))\" y2=\"\(place(y2))\"/>"
  }

  private func text(
    _ kind: String, _ x: Double, _ y: Double, _ anchor: String, _ text: String, shift: String = "0"
  ) -> String {
    "<text class=\"\(kind)\" x=\"\(place(x))\" y=\"\(place(y))\" dy=\"\(shift)\" text-anchor=\"\(anchor)\">"
      + "\(HTML.escape(text))</text>"
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
    var low = low
    var high = high
    if !(high > low) {  // One value: a range around it.
      let reach = low == 0 ? 1 : abs(low) * (padded ? 0.1 : 0.5)
      low = low - reach
      high = high + reach
    }
    let rough = (high - low) / Double(count)
    let power = pow(10, floor(log10(rough)))
    let step = power * ([1, 2, 5].first { $0 * power >= rough * 0.999 } ?? 10)
    if padded { (low, high) = (floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step) }
    self.low = low
    self.high = high
    self.from = from
    self.to = to
    let first = Int(ceil(low / step - 1e-9))
    let last = Int(floor(high / step + 1e-9))
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

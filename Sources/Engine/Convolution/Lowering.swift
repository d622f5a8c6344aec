import Foundation

/// im2col and its transpose. A lowered row holds the inputs of one output in the weight's order (R, S, C), with zeros
/// for padding.
///
/// In an NHWC input the S·C floats of a kernel's row are neighbours, so they are copied in one run, cut at the border.
struct Lowering {
  let shape: ConvolutionShape
  /// The kernel rows that are lowered: all, or one where a weight gradient is made in parts.
  let kernelRows: Range<Int>

  init(_ shape: ConvolutionShape) { self.init(shape, kernelRows: 0..<shape.kernel) }

  init(_ shape: ConvolutionShape, kernelRows: Range<Int>) {
    self.shape = shape
    self.kernelRows = kernelRows
  }

  /// Floats of a lowered row.
  var depth: Int { kernelRows.count * shape.kernel * shape.c }

  /// The floats of one kernel row of one output.
  private struct Run {
    /// Place in the matrix, and in the input (-1 where all of it is padding).
    let to: Int, from: Int
    /// How many floats are padding before the input, lie in the input, and are padding after it.
    let before: Int, within: Int, after: Int
  }

  @inline(__always)
  private func forEachRun(_ lines: Range<Int>, _ body: (Run) -> Void) {
    let h = shape.h
    let w = shape.w
    let c = shape.c
    let taps = shape.kernel
    var at = 0
    for line in lines {
      let image = line / shape.height
      let outputLine = line % shape.height
      for column in 0..<shape.width {
        let left = column &* shape.stride &- shape.padding
        let first = min(max(0, -left), taps)
        let last = max(first, min(taps, w &- left))
        for kernelRow in kernelRows {
          let inputLine = outputLine &* shape.stride &- shape.padding &+ kernelRow
          if inputLine >= 0 && inputLine < h && last > first {
            let from = ((image &* h &+ inputLine) &* w &+ left &+ first) &* c
            body(Run(to: at, from: from, before: first &* c, within: (last &- first) &* c, after: (taps &- last) &* c))
          } else {
            body(Run(to: at, from: -1, before: taps &* c, within: 0, after: 0))
          }
          at &+= taps &* c
        }
      }
    }
  }

  /// Fills `matrix` (lines · W' rows of `depth`) from the input.
  func lower(_ x: UnsafePointer<Float>, lines: Range<Int>, into matrix: UnsafeMutablePointer<Float>) {
    forEachRun(lines) { run in
      var to = matrix + run.to
      for i in 0..<run.before { to[i] = 0 }
      to += run.before
      if run.within > 0 { copy(x + run.from, to: to, count: run.within) }
      to += run.within
      for i in 0..<run.after { to[i] = 0 }
    }
  }

  /// Adds the rows of `matrix` to the places of `dx` that they were lowered from.
  func raise(_ matrix: UnsafePointer<Float>, lines: Range<Int>, addingTo dx: UnsafeMutablePointer<Float>) {
    forEachRun(lines) { run in
      if run.within > 0 { (dx + run.from).add(matrix + run.to + run.before, count: run.within) }
    }
  }
}

/// Copies a run. Most runs are too short for a call of `memcpy`.
@inline(__always)
private func copy(_ values: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, count: Int) {
  var i = 0
  while i &+ 16 <= count {
    target.store(values.lanes(i), i)
    i &+= 16
  }
  while i < count {
    target[i] = values[i]
    i &+= 1
  }
}

/// Minimises a smooth function by limited-memory BFGS with backtracking.
///
/// Nocedal, Wright: Numerical Optimization (2006), algorithms 7.4 and 7.5. Every decision follows from the function's
/// values alone, so ranks that see the same values walk the same path.
package struct LBFGS {
  /// Pairs of steps and gradient changes that are remembered.
  package var memory = 10
  /// Converged where no part of the gradient is larger.
  package var tolerance: Double
  package var iterations: Int
  /// Differences of the value below this share of it are rounding: they do not stop a search.
  package var noise = 1e-8

  package init(tolerance: Double, iterations: Int) {
    self.tolerance = tolerance
    self.iterations = iterations
  }

  /// Vectors as long as the parameters that a fit holds at most: the pairs, and what a step works with.
  static func vectors(memory: Int) -> Int { 2 * memory + 8 }

  /// How a fit ended.
  package struct Outcome: Equatable {
    package var iterations: Int
    /// The largest part of the gradient.
    package var gradient: Double
    package var converged: Bool
  }

  /// - Parameters:
  ///   - x: where to start, then where it ended.
  ///   - function: gives the value and fills the gradient.
  package func minimise(_ x: inout [Double], _ function: ([Double], inout [Double]) -> Double) -> Outcome {
    var gradient = [Double](repeating: 0, count: x.count)
    var next = gradient
    var value = function(x, &gradient)
    var pairs: [Pair] = []
    for iteration in 0..<iterations {
      let largest = gradient.reduce(0) { max($0, abs($1)) }
      if largest <= tolerance { return Outcome(iterations: iteration, gradient: largest, converged: true) }
      var direction = descend(gradient, pairs)
      var slope = dot(direction, gradient)
      if slope >= 0 {  // Rounding spoilt the memory: start anew from steepest descent.
        pairs = []
        direction = descend(gradient, pairs)
        slope = dot(direction, gradient)
      }
      guard
        let (step, found) = search(
          from: x, value: value, along: direction, slope: slope, gradient: &next, function)
      else {
        return Outcome(iterations: iteration, gradient: largest, converged: false)
      }
      var moved = direction
      for i in x.indices {
        moved[i] *= step
        x[i] += moved[i]
      }
      var change = next
      for i in x.indices { change[i] -= gradient[i] }
      if let pair = Pair(moved, change) {
        pairs.append(pair)
        if pairs.count > memory { pairs.removeFirst() }
      }
      value = found
      swap(&gradient, &next)
    }
    let largest = gradient.reduce(0) { max($0, abs($1)) }
    return Outcome(iterations: iterations, gradient: largest, converged: largest <= tolerance)
  }

  private struct Pair {
    let s: [Double], y: [Double], inverse: Double  // 1 / sᵀy
    let scale: Double  // sᵀy / yᵀy
    /// Nil where the curvature is not safely positive.
    init?(_ s: [Double], _ y: [Double]) {
      let sy = dot(s, y)
      let yy = dot(y, y)
      guard sy > 1e-12 * (dot(s, s) * yy).squareRoot(), yy > 0 else { return nil }
      self.s = s
      self.y = y
      inverse = 1 / sy
      scale = sy / yy
    }
  }

  /// −H g by the two loops; the first step is of length 1 at most.
  private func descend(_ gradient: [Double], _ pairs: [Pair]) -> [Double] {
    var q = gradient
    var weights: [Double] = []
    for pair in pairs.reversed() {
      let weight = pair.inverse * dot(pair.s, q)
      add(-weight, pair.y, to: &q)
      weights.append(weight)
    }
    let scale = pairs.last?.scale ?? min(1, 1 / dot(gradient, gradient).squareRoot())
    for i in q.indices { q[i] *= scale }
    for (pair, weight) in zip(pairs, weights.reversed()) {
      add(weight - pair.inverse * dot(pair.y, q), pair.s, to: &q)
    }
    for i in q.indices { q[i] = -q[i] }
    return q
  }

  /// The first of 1, then shorter steps, that lowers the value enough (Armijo); nil where rounding hides any descent.
  private func search(
    from x: [Double], value: Double, along direction: [Double], slope: Double, gradient: inout [Double],
    _ function: ([Double], inout [Double]) -> Double
  ) -> (step: Double, value: Double)? {
    var step = 1.0
    for _ in 0..<30 {
      var candidate = x
      add(step, direction, to: &candidate)
      let found = function(candidate, &gradient)
      if found <= value + 1e-4 * step * slope + noise * abs(value) { return (step, found) }
      // The parabola through the two values and the slope, kept from collapsing.
      let parabola = -slope * step * step / (2 * (found - value - slope * step))
      step = parabola.isFinite ? min(max(parabola, 0.1 * step), 0.5 * step) : 0.1 * step
    }
    return nil
  }
}

private func dot(_ a: [Double], _ b: [Double]) -> Double {
  a.withUnsafeBufferPointer { a in
    b.withUnsafeBufferPointer { b in
      // Four sums, so that the additions overlap.
      var sum = SIMD4<Double>()
      let whole = a.count & ~3
      for i in stride(from: 0, to: whole, by: 4) {
        sum += SIMD4(a[i], a[i &+ 1], a[i &+ 2], a[i &+ 3]) * SIMD4(b[i], b[i &+ 1], b[i &+ 2], b[i &+ 3])
      }
      var rest = 0.0
      for i in whole..<a.count { rest += a[i] * b[i] }
      return sum.sum() + rest
    }
  }
}

private func add(_ factor: Double, _ a: [Double], to b: inout [Double]) {
  a.withUnsafeBufferPointer { a in
    b.withUnsafeMutableBufferPointer { b in for i in 0..<a.count { b[i] += factor * a[i] } }
  }
}

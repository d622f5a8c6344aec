import Engine

/// A feature map in Double, NHWC, for the references. A matrix of features is (N, 1, 1, D).
struct Map {
  let n: Int, h: Int, w: Int, c: Int
  var values: [Double]

  init(n: Int, h: Int = 1, w: Int = 1, c: Int, _ values: [Double]? = nil) {
    self.n = n
    self.h = h
    self.w = w
    self.c = c
    self.values = values ?? [Double](repeating: 0, count: n * h * w * c)
    precondition(
      self.values.count == n * h * w * c, "\(self.values.count) values for a map of (\(n), \(h), \(w), \(c))")
  }

  init(_ tensor: Tensor) {
    self.init(n: tensor.n, h: tensor.h, w: tensor.w, c: tensor.c, tensor.buffer.map(Double.init))
  }

  init(like other: Map) { self.init(n: other.n, h: other.h, w: other.w, c: other.c) }

  var shape: (Int, Int, Int, Int) { (n, h, w, c) }

  subscript(n: Int, h: Int, w: Int, c: Int) -> Double {
    get { values[((n * self.h + h) * self.w + w) * self.c + c] }
    set { values[((n * self.h + h) * self.w + w) * self.c + c] = newValue }
  }

  /// The row of features of one image.
  func row(_ n: Int) -> [Double] { Array(values[n * h * w * c..<(n + 1) * h * w * c]) }

  func map(_ transform: (Double) -> Double) -> Map { Map(n: n, h: h, w: w, c: c, values.map(transform)) }
}

/// √(mean of squares); 0 for an empty list.
func rms(_ values: [Double]) -> Double {
  values.isEmpty ? 0 : (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot()
}

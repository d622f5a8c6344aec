/// A dense Float32 tensor in NHWC order: a trivial value that owns nothing. Memory belongs to an `Arena` or a
/// `ParameterSlab`.
///
/// The letters used everywhere: N images, H height, W width, C channels, K filters, R×S kernel, D features, V views,
/// B images of the global batch, Q queue length, P ranks. `dX` is the gradient of the loss with respect to `X`.
///
/// A feature map is also a matrix of N·H·W rows by C columns; a matrix of features is (N, 1, 1, D).
package struct Tensor: BitwiseCopyable {
  package let data: UnsafeMutablePointer<Float>
  package let n: Int, h: Int, w: Int, c: Int

  package init(_ data: UnsafeMutablePointer<Float>, n: Int, h: Int = 1, w: Int = 1, c: Int) {
    self.data = data
    self.n = n
    self.h = h
    self.w = w
    self.c = c
  }

  /// Elements: N·H·W·C.
  package var count: Int { n * h * w * c }
  package var bytes: Int { count * MemoryLayout<Float>.stride }
  /// Rows of the matrix view: N·H·W.
  package var rows: Int { n * h * w }
  /// Rows of one image: H·W.
  package var rowsPerImage: Int { h * w }
  package var shape: (Int, Int, Int, Int) { (n, h, w, c) }

  package func hasShape(of other: Tensor) -> Bool { shape == other.shape }

  /// The images in `range`, sharing memory.
  package func images(_ range: Range<Int>) -> Tensor {
    precondition(0 <= range.lowerBound && range.upperBound <= n, "images \(range) of a tensor of \(n)")
    return Tensor(data + range.lowerBound * h * w * c, n: range.count, h: h, w: w, c: c)
  }

  package var buffer: UnsafeMutableBufferPointer<Float> { UnsafeMutableBufferPointer(start: data, count: count) }
}

extension [Float] {
  /// Takes over the tensor's elements, without allocating where its capacity is enough.
  package mutating func replace(with tensor: Tensor) {
    removeAll(keepingCapacity: true)
    append(contentsOf: tensor.buffer)
  }
}

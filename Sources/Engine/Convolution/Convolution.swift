/// How a convolution is computed.
package enum ConvolutionAlgorithm: String, Sendable, Codable {
  /// Winograd's minimal filtering where it pays, exact elsewhere.
  case fast
  /// Sums of products as the definition has them (im2col and GEMM).
  case exact
}

/// A convolution without bias, square kernel, zero padding.
package struct Convolution {
  /// (R, S, C, K), in the parameter slab.
  package let weight: Slice
  package let inputs: Int, filters: Int, kernel: Int, stride: Int, padding: Int

  package init(
    _ layout: inout ParameterLayout, _ name: String, inputs: Int, filters: Int, kernel: Int, stride: Int, padding: Int,
    _ initialisation: Initialisation
  ) {
    weight = layout.add(name + ".weight", [kernel, kernel, inputs, filters], .weight, initialisation)
    self.inputs = inputs
    self.filters = filters
    self.kernel = kernel
    self.stride = stride
    self.padding = padding
  }

  /// Height or width of the output for one of the input.
  package func extent(of input: Int) -> Int { (input + 2 * padding - kernel) / stride + 1 }

  /// y (N, H', W', K) ← x (N, H, W, C) convolved with the weight; y is overwritten.
  /// - epilogue: applied to the output.
  package func forward(_ x: Tensor, into y: Tensor, epilogue: Epilogue? = nil, _ pass: Pass) {
    let shape = ConvolutionShape(self, x)
    precondition(y.shape == shape.output, "a convolution of \(x.shape) gives \(shape.output), not \(y.shape)")
    if x.n == 0 { return }
    withAlgorithm(shape, "forward", pass) { winograd in
      if let winograd {
        winograd.forward(x.data, pass.state.parameters[weight], into: y.data, epilogue)
      } else {
        LoweredConvolution(shape, pass.context).forward(x.data, pass.state.parameters[weight], into: y.data, epilogue)
      }
    }
  }

  /// Gradients for dy (N, H', W', K) and the input x of forward.
  /// - Parameters:
  ///   - dx: where given, gets the data gradient (N, H, W, C).
  ///   - accumulate: whether dx is added to or overwritten.
  ///   - pass: the weight's gradient is added to its `gradients`, where the weight trains.
  package func backward(_ dy: Tensor, x: Tensor, dx: Tensor?, accumulate: Bool, _ pass: Pass) {
    let shape = ConvolutionShape(self, x)
    precondition(dy.shape == shape.output, "a convolution of \(x.shape) gives \(shape.output), not \(dy.shape)")
    precondition(dx?.hasShape(of: x) ?? true, "a data gradient of shape \(dx!.shape) for an input of \(x.shape)")
    if x.n == 0 { return }
    if weight.trains {
      let dw = pass.gradients![weight]
      withAlgorithm(shape, "weight gradient", pass) { winograd in
        if let winograd {
          winograd.weightGradient(dy.data, x.data, addingTo: dw)
        } else {
          LoweredConvolution(shape, pass.context).weightGradient(dy.data, x.data, addingTo: dw)
        }
      }
    }
    guard let dx else { return }
    withAlgorithm(shape, "data gradient", pass) { winograd in
      if let winograd {
        winograd.dataGradient(dy.data, pass.state.parameters[weight], into: dx.data, accumulate: accumulate)
      } else {
        LoweredConvolution(shape, pass.context).dataGradient(
          dy.data, pass.state.parameters[weight], into: dx.data, accumulate: accumulate)
      }
    }
  }

  /// Picks the algorithm and calls `body` with it (nil: lowering). The choice does not depend on the batch, and neither
  /// algorithm takes more memory for a smaller batch, so a dry run of the largest step plans for all steps.
  private func withAlgorithm(
    _ shape: ConvolutionShape, _ direction: StaticString, _ pass: Pass, _ body: (WinogradConvolution?) -> Void
  ) {
    let winograd = WinogradConvolution(shape, pass.context)
    let fast = pass.context.convolution == .fast && WinogradConvolution.exists(shape) && winograd.pays
    let part: Profile.Part = fast ? .winograd : shape.isMatrix ? .pointwise : .lowered
    pass.context.part(part, operations: shape.operations, layer: "\(shape.name) \(direction)") {
      body(fast ? winograd : nil)
    }
  }
}

/// The sizes of a convolution of one input.
struct ConvolutionShape {
  let n: Int, h: Int, w: Int, c: Int
  /// Height and width of the output, and its channels.
  let height: Int, width: Int, k: Int
  let kernel: Int, stride: Int, padding: Int

  init(_ convolution: Convolution, _ x: Tensor) {
    precondition(x.c == convolution.inputs, "a convolution of \(convolution.inputs) channels got \(x.shape)")
    (n, h, w, c) = x.shape
    height = convolution.extent(of: h)
    width = convolution.extent(of: w)
    k = convolution.filters
    kernel = convolution.kernel
    stride = convolution.stride
    padding = convolution.padding
  }

  var output: (Int, Int, Int, Int) { (n, height, width, k) }
  /// Products in one output: R·S·C.
  var depth: Int { kernel * kernel * c }
  /// Lines of the output: N·H'.
  var lines: Int { n * height }
  /// Rows of the output's matrix: N·H'·W'.
  var rows: Int { lines * width }
  /// Floating-point operations of the direct convolution in one direction: two for each tap.
  var operations: Double { 2 * Double(rows) * Double(depth) * Double(k) }
  /// Such as `3×3/2 64→128 @ 56`.
  var name: String { "\(kernel)×\(kernel)\(stride > 1 ? "/\(stride)" : "") \(c)→\(k) @ \(h)" }
  /// Whether the input is already the matrix that a GEMM takes.
  var isMatrix: Bool { kernel == 1 && stride == 1 && padding == 0 }
}

/// Weights in the forms that kernels want; owned by a `NetworkState`.
package final class PreparedWeights {
  package init() {}
}

/// A convolution without bias, square kernel, zero padding.
package struct Convolution {
  /// (R, S, C, K), in the parameter slab.
  package let weight: Slice
  package let inputs: Int, filters: Int, kernel: Int, stride: Int, padding: Int

  package init(_ layout: inout ParameterLayout, _ name: String, inputs: Int, filters: Int, kernel: Int, stride: Int, padding: Int, _ initialisation: Initialisation) {
    weight = layout.add(name + ".weight", [kernel, kernel, inputs, filters], .weight, initialisation)
    (self.inputs, self.filters, self.kernel, self.stride, self.padding) = (inputs, filters, kernel, stride, padding)
  }

  /// Height or width of the output for one of the input.
  package func extent(of input: Int) -> Int { (input + 2 * padding - kernel) / stride + 1 }
}
extension Convolution {
  package func forward(_ x: Tensor, into y: Tensor, _ pass: Pass) {}
  package func backward(_ dy: Tensor, x: Tensor, dx: Tensor?, accumulate: Bool, _ pass: Pass) {}
}

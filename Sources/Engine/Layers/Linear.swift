/// A linear layer, y = x·W + b, of the rows of a matrix: of features, or of a map's pixels, where it is a 1×1
/// convolution.
package struct Linear {
  package let name: String
  /// (in, out)
  package let weight: Slice
  /// (out)
  package let bias: Slice?
  package let inputs: Int, outputs: Int

  /// Rows of the GEMM in one block.
  private static let rowsPerBlock = 64
  /// Columns of the weight gradient in one block.
  private static let columnsPerBlock = 256

  package init(
    _ layout: inout ParameterLayout, _ name: String, inputs: Int, outputs: Int, bias: Bool,
    weight initialisation: Initialisation, biasInitialisation: Initialisation = .constant(0)
  ) {
    self.name = name
    weight = layout.add(name + ".weight", [inputs, outputs], .weight, initialisation)
    self.bias = bias ? layout.add(name + ".bias", [outputs], .bias, biasInitialisation) : nil
    self.inputs = inputs
    self.outputs = outputs
  }

  /// Whether any of its parameters trains.
  var trains: Bool { weight.trains || bias?.trains == true }

  /// - x: (N, in), or (N, H, W, in). y: (N, out), or (N, H, W, out), overwritten.
  package func forward(_ x: Tensor, into y: Tensor, _ pass: Pass) {
    precondition(x.c == inputs && y.c == outputs && x.rows == y.rows, "\(name): \(x.shape) into \(y.shape)")
    let weight = pass.state.parameters[weight]
    let bias = bias.map { pass.state.parameters[$0] }
    pass.context.run((x.rows + Self.rowsPerBlock - 1) / Self.rowsPerBlock) { block, _ in
      let row = block * Self.rowsPerBlock
      let rows = min(Self.rowsPerBlock, x.rows - row)
      if let bias { for r in row..<row + rows { (y.data + r * outputs).update(from: bias, count: outputs) } }
      sgemm(
        rows, outputs, inputs, x.data + row * inputs, lda: inputs, weight, ldb: outputs,
        into: y.data + row * outputs, ldc: outputs, beta: bias == nil ? 0 : 1)
    }
    pass.context.watch?.look(at: y, name)
  }

  /// Adds to dW and db where they train; where dx is given, overwrites it.
  package func backward(_ dy: Tensor, x: Tensor, dx: Tensor?, _ pass: Pass) {
    if trains { addGradients(dy, x: x, pass) }
    guard let dx else { return }
    let weight = pass.state.parameters[self.weight]
    pass.context.run((x.rows + Self.rowsPerBlock - 1) / Self.rowsPerBlock) { block, _ in
      let row = block * Self.rowsPerBlock
      let rows = min(Self.rowsPerBlock, x.rows - row)
      sgemm(
        rows, inputs, outputs, dy.data + row * outputs, lda: outputs, transposed: false, weight, ldb: outputs,
        transposed: true,
        into: dx.data + row * inputs, ldc: inputs)
    }
  }

  /// Adds to dW and db.
  private func addGradients(_ dy: Tensor, x: Tensor, _ pass: Pass) {
    let gradients = pass.gradients!
    pass.context.run((outputs + Self.columnsPerBlock - 1) / Self.columnsPerBlock) { block, _ in
      let column = block * Self.columnsPerBlock
      let columns = min(Self.columnsPerBlock, outputs - column)
      if weight.trains {
        sgemm(
          inputs, columns, x.rows, x.data, lda: inputs, transposed: true, dy.data + column, ldb: outputs,
          into: gradients[weight] + column, ldc: outputs, beta: 1)
      }
      if let bias, bias.trains {
        let db = gradients[bias]
        for k in column..<column + columns {
          var sum = 0.0
          for row in 0..<x.rows { sum += Double(dy.data[row * outputs + k]) }
          db[k] += Float(sum)
        }
      }
    }
  }
}

/// max(0, x) in place, and its gradient.
package enum ReLU {
  package static func forward(_ x: Tensor, _ context: Context) {
    context.elementwise(x.count) { range in
      for i in range where x.data[i] < 0 { x.data[i] = 0 }
    }
  }

  /// Masks dy by y > 0.
  package static func backward(_ dy: Tensor, y: Tensor, _ context: Context) {
    context.elementwise(dy.count) { range in
      for i in range where y.data[i] <= 0 { dy.data[i] = 0 }
    }
  }
}

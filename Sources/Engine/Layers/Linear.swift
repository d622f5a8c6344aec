/// A linear layer, y = x·W + b.
package struct Linear {
  package let name: String
  /// (in, out)
  package let weight: Slice
  /// (out)
  package let bias: Slice?
  package let inputs: Int, outputs: Int

  /// Rows of a GEMM that one block takes.
  private static let rowsPerBlock = 64
  /// Columns of the weight gradient that one block takes.
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

  /// - x: (N, in). y: (N, out), overwritten.
  package func forward(_ x: Tensor, into y: Tensor, _ pass: Pass) {
    precondition(x.c == inputs && y.c == outputs && x.n == y.n, "\(name): \(x.shape) into \(y.shape)")
    let weight = pass.state.parameters[weight]
    let bias = bias.map { pass.state.parameters[$0] }
    pass.context.run((x.n + Self.rowsPerBlock - 1) / Self.rowsPerBlock) { block, _ in
      let row = block * Self.rowsPerBlock
      let rows = min(Self.rowsPerBlock, x.n - row)
      if let bias { for r in row..<row + rows { (y.data + r * outputs).update(from: bias, count: outputs) } }
      sgemm(
        rows, outputs, inputs, x.data + row * inputs, lda: inputs, weight, ldb: outputs,
        into: y.data + row * outputs, ldc: outputs, beta: bias == nil ? 0 : 1)
    }
    pass.context.watch?.look(at: y, name)
  }

  /// Adds to dW and db; where dx is given, overwrites it.
  package func backward(_ dy: Tensor, x: Tensor, dx: Tensor?, _ pass: Pass) {
    let weight = pass.state.parameters[self.weight]
    let gradient = pass.gradients![self.weight]
    pass.context.run((outputs + Self.columnsPerBlock - 1) / Self.columnsPerBlock) { block, _ in
      let column = block * Self.columnsPerBlock
      let columns = min(Self.columnsPerBlock, outputs - column)
      sgemm(
        inputs, columns, x.n, x.data, lda: inputs, transposed: true, dy.data + column, ldb: outputs,
        into: gradient + column, ldc: outputs, beta: 1)
      if let bias {
        let db = pass.gradients![bias]
        for k in column..<column + columns {
          var sum = 0.0
          for row in 0..<x.n { sum += Double(dy.data[row * outputs + k]) }
          db[k] += Float(sum)
        }
      }
    }
    guard let dx else { return }
    pass.context.run((x.n + Self.rowsPerBlock - 1) / Self.rowsPerBlock) { block, _ in
      let row = block * Self.rowsPerBlock
      let rows = min(Self.rowsPerBlock, x.n - row)
      sgemm(
        rows, inputs, outputs, dy.data + row * outputs, lda: outputs, transposed: false, weight, ldb: outputs,
        transposed: true,
        into: dx.data + row * inputs, ldc: inputs)
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

import Randomness

/// A value and its gradient.
final class Node {
  var value: Map
  var gradient: [Double]
  init(_ value: Map) {
    self.value = value
    gradient = [Double](repeating: 0, count: value.values.count)
  }
  func add(_ other: [Double]) { for i in gradient.indices { gradient[i] += other[i] } }
}

/// Reverse-mode differentiation of the reference layers: every layer records its backward step. So the order of the
/// backward pass is not written by hand, unlike the engine's.
final class ReferenceTape {
  private var steps: [() -> Void] = []
  /// Smallest distance of a ReLU's input from 0, or of a max-pool's second value from its maximum, in units of the
  /// map's rms.
  private(set) var margin = Double.infinity
  /// Normal noise of this size, in units of the map's rms, is added to every value and gradient, to simulate rounding.
  let noise: Double
  private var draws = Draws(seed: 11, .check, named: "noise")

  init(noise: Double = 0) { self.noise = noise }

  private func disturb(_ values: inout [Double]) {
    guard noise > 0 else { return }
    let size = noise * rms(values)
    for i in values.indices { values[i] += size * draws.normal() }
  }

  private func node(_ value: Map, backward: @escaping (_ dy: Map) -> Void) -> Node {
    let node = Node(value)
    disturb(&node.value.values)
    steps.append { [self] in
      disturb(&node.gradient)
      backward(Map(n: value.n, h: value.h, w: value.w, c: value.c, node.gradient))
    }
    return node
  }

  /// Runs backward from `d`, the gradient of `output`.
  func backward(_ output: Node, _ d: [Double]) { backward([(output, d)]) }

  /// Runs backward from the gradients of several outputs.
  func backward(_ gradients: [(output: Node, d: [Double])]) {
    for (output, d) in gradients { output.add(d) }
    while let step = steps.popLast() { step() }
  }

  func convolution(_ x: Node, _ weight: Node, kernel: Int, stride: Int) -> Node {
    let map = x.value
    let layer = ReferenceConvolution(
      n: map.n, h: map.h, w: map.w, c: map.c, k: weight.value.values.count / (kernel * kernel * map.c), kernel: kernel,
      stride: stride, padding: kernel / 2)
    let y = Map(n: map.n, h: layer.height, w: layer.width, c: layer.k, layer.forward(map.values, weight.value.values))
    return node(y) { dy in
      x.add(layer.dataGradient(dy.values, weight.value.values))
      weight.add(layer.weightGradient(dy.values, x.value.values))
    }
  }

  /// - frozen: running statistics to use instead of the batch's; nil for the batch's.
  func norm(_ x: Node, _ gamma: Node, _ beta: Node?, groups: [Int], frozen: ReferenceBatchNorm.Moments?) -> Node {
    let layer = ReferenceBatchNorm(
      gamma: gamma.value.values, beta: beta?.value.values ?? [Double](repeating: 0, count: gamma.value.c))
    let groups = frozen == nil ? groups : groups.map { _ in 0 }
    let moments = frozen ?? ReferenceBatchNorm.moments(x.value, groups)
    return node(layer.forward(x.value, groups, moments)) { dy in
      let result = layer.backward(dy, x.value, groups, moments, frozen: frozen != nil)
      x.add(result.dx.values)
      gamma.add(result.dGamma)
      beta?.add(result.dBeta)
    }
  }

  func relu(_ x: Node, residual: Node? = nil) -> Node {
    let sum = zip(x.value.values, residual?.value.values ?? [Double](repeating: 0, count: x.value.values.count)).map(+)
    margin = min(margin, sum.reduce(.infinity) { min($0, abs($1)) } / rms(sum))
    let y = ReferenceLayers.reluOfSum(x.value, residual?.value)
    return node(y) { dy in
      let dx = ReferenceLayers.reluBackward(dy, y).values
      x.add(dx)
      residual?.add(dx)
    }
  }

  func maxPool(_ x: Node) -> Node {
    let (y, winner) = ReferenceLayers.maxPool(x.value)
    // Zeros after a ReLU may tie: whichever wins, the ReLU stops the gradient.
    var without = x.value
    for place in winner { without.values[place] = -.infinity }
    let size = rms(x.value.values)
    for (best, second) in zip(y.values, ReferenceLayers.maxPool(without).y.values) where best > 0 && second > -.infinity
    {
      margin = min(margin, abs(best - second) / size)
    }
    return node(y) { dy in x.add(ReferenceLayers.maxPoolBackward(dy, winner, like: x.value).values) }
  }

  func averagePool(_ x: Node) -> Node {
    node(ReferenceLayers.averagePool(x.value)) { x.add(ReferenceLayers.averagePoolBackward($0, like: x.value).values) }
  }

  /// ResNet-D's mean over 2×2.
  func mean(_ x: Node, stride: Int) -> Node {
    node(ReferenceSelection.mean(x.value, stride: stride)) {
      x.add(ReferenceSelection.meanBackward($0, stride: stride, like: x.value).values)
    }
  }

  /// The sum of both streams, averaged over height and width.
  func pooledStreams(_ x: Node) -> Node {
    node(ReferenceSelection.pooled(x.value)) { x.add(ReferenceSelection.pooledBackward($0, like: x.value).values) }
  }

  /// Both streams, weighted by the softmax of e.
  func mix(_ x: Node, _ e: Node) -> Node {
    node(ReferenceSelection.mix(x.value, e.value)) { dy in
      let result = ReferenceSelection.mixBackward(dy, x.value, e.value)
      x.add(result.dx.values)
      e.add(result.dE.values)
    }
  }

  func linear(_ x: Node, _ weight: Node, _ bias: Node?) -> Node {
    node(ReferenceLayers.linear(x.value, weight.value.values, bias?.value.values)) { dy in
      let result = ReferenceLayers.linearBackward(dy, x.value, weight.value.values)
      x.add(result.dx.values)
      weight.add(result.dWeight)
      bias?.add(result.dBias)
    }
  }
}

/// The peak performance of a team of threads on this machine, measured: the roofs that a bench compares the parts of a
/// step with.
package struct Peak: Sendable {
  /// FLOP/s of fused multiply-adds in registers, or of the micro-kernel in the L1 cache, which may have wider ones.
  package let arithmetic: Double
  /// FLOP/s of Winograd's convolution, counted as a direct one, at a favourable shape: 256 channels in the cache.
  package let winograd: Double
  /// B/s from and to memory, with two maps read and one written.
  package let memory: Double

  package init(threads: Int) {
    let context = Context(threads: threads)
    arithmetic = Self.arithmetic(threads: threads)
    winograd = Self.winograd(context)
    memory = Self.memory(context)
  }

  /// FLOP/s of fused multiply-adds in registers, or of the micro-kernel in the L1 cache, which may have wider ones; by
  /// a measurement of a few hundredths of a second.
  package static func arithmetic(threads: Int) -> Double { Double(threads) * max(fusedMultiplyAdd(), products()) }

  /// The value of a roof; nil where there is none.
  package func of(_ roof: Profile.Roof) -> Double? {
    switch roof {
    case .arithmetic: arithmetic
    case .winograd: winograd
    case .memory: memory
    case .none: nil
    }
  }

  private static func best(of count: Int, _ body: () -> Void) -> Double {
    (0..<count).reduce(.infinity) { best, _ in
      let start = ContinuousClock.now
      body()
      return min(best, (ContinuousClock.now - start).seconds)
    }
  }

  private static func winograd(_ context: Context) -> Double {
    var layout = ParameterLayout()
    let convolution = Convolution(
      &layout, "peak", inputs: 256, filters: 256, kernel: 3, stride: 1, padding: 1, .constant(0.01))
    let state = NetworkState(layout, ParameterLayout())
    let arena = context.arena
    state.initialise(seed: 1)
    let x = arena.tensor(n: 16 * context.team.count, h: 16, w: 16, c: 256)
    let y = arena.tensor(like: x)
    x.buffer.update(repeating: 1)
    let pass = Pass(context, state, .inference, BatchGroups(images: x.n, in: arena))
    let operations = 2 * Double(y.count) * 9 * 256
    return operations / best(of: 4) { convolution.forward(x, into: y, pass) }
  }

  private static func memory(_ context: Context) -> Double {
    let arena = context.arena
    let a = arena.tensor(n: 1, c: 1 << 24)
    let b = arena.tensor(like: a)
    let c = arena.tensor(like: a)
    for map in [a, b, c] { map.buffer.update(repeating: 1) }
    let seconds = best(of: 4) {
      context.elementwise(a.count) { range in
        for i in stride(from: range.lowerBound, to: range.upperBound, by: 16) {
          c.data.store(a.data.lanes(i) + b.data.lanes(i), i)
        }
      }
    }
    return Double(3 * a.bytes) / seconds
  }

  /// One core's micro-kernel on factors in the L1 cache, FLOP/s.
  private static func products() -> Double {
    let (m, k, n) = (24, 128, 2 * Panels.width)
    let a = [Float](repeating: 0.5, count: m * k)
    let b = [Float](repeating: 0.5, count: k * n)
    var c = [Float](repeating: 0, count: m * n)
    let rounds = 2000
    let seconds = c.withUnsafeMutableBufferPointer { c in
      var next = Prefetch(nothingBeside: a)
      return best(of: 5) {
        for _ in 0..<rounds {
          MicroKernels.current.multiply(
            ProductSize(m: m, n: n, k: k, accumulate: false), LeftFactor(rows: Rows(a, step: k)),
            RightFactor(panels: b, depth: k), MutableRows(c.baseAddress!, step: n), nil, &next)
        }
      }
    }
    return 2 * Double(rounds * m * k * n) / seconds
  }

  /// One core's fused multiply-adds in registers, FLOP/s.
  private static func fusedMultiplyAdd() -> Double {
    let rounds = 4_000_000
    var best = 0.0
    for _ in 0..<3 {
      let start = ContinuousClock.now
      let sum = chain(rounds)
      let seconds = (ContinuousClock.now - start).seconds
      // The comparison keeps the compiler from removing the work.
      if sum.isFinite { best = max(best, Double(rounds * 12 * Lanes.scalarCount * 2) / seconds) }
    }
    return best
  }

  /// Twelve independent chains: enough to hide the latency of two units.
  @inline(never)
  private static func chain(_ rounds: Int) -> Float {
    let m = Lanes(repeating: 0.999_999)
    let a = Lanes(repeating: 1e-6)
    var s0 = a
    var s1 = a
    var s2 = a
    var s3 = a
    var s4 = a
    var s5 = a
    var s6 = a
    var s7 = a
    var s8 = a
    var s9 = a
    var s10 = a
    var s11 = a
    for _ in 0..<rounds {
      s0 = a.addingProduct(s0, m)
      s1 = a.addingProduct(s1, m)
      s2 = a.addingProduct(s2, m)
      s3 = a.addingProduct(s3, m)
      s4 = a.addingProduct(s4, m)
      s5 = a.addingProduct(s5, m)
      s6 = a.addingProduct(s6, m)
      s7 = a.addingProduct(s7, m)
      s8 = a.addingProduct(s8, m)
      s9 = a.addingProduct(s9, m)
      s10 = a.addingProduct(s10, m)
      s11 = a.addingProduct(s11, m)
    }
    return (s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11).sum()
  }
}

import CZlib
import Engine
import Foundation
import Randomness
import Ranks
import Shards

/// What a few steps of a recipe computed: the first step's gradients, every loss, the weights after the last. Those of
/// different rank counts are compared with one another, and with what moving every initial weight by one ulp does.
package struct ReplicaCheck {
  /// Ways to compute wrongly, to show that the comparison would notice.
  package enum Control: String, CaseIterable, Sendable {
    /// Batch statistics of each rank alone.
    case localBatchNorm = "local-bn"
    /// The gradient of gathered embeddings, without the other ranks' part.
    case unsummedGather = "unsummed-gather"
  }

  package var losses: [Double]
  /// ‖w₂₀ − w₀‖/‖w₀‖
  package var moved: Double
  /// By name, in our layout.
  package var gradients: [(name: String, values: [Float])]
  package var weights: [(name: String, values: [Float])]

  // MARK: Making

  /// - Parameters:
  ///   - name: the stage that is run, alone: what it starts from and learns from must be other runs or files. Nil for
  ///     the first.
  ///   - perturbation: moves every initial weight by one ulp, up or down as drawn with this seed.
  package static func make(
    _ recipe: Recipe, stage name: String? = nil, data path: String, steps: Int, perturbation: UInt64?,
    control: Control?, _ context: Context
  ) throws -> ReplicaCheck {
    var recipe = recipe
    if let name {
      let names = recipe.stages.map(\.name)
      recipe.stages.removeAll { $0.name != name }
      if recipe.stages.isEmpty {
        throw RecipeError(
          "the recipe has no stage `\(name)`\(suggestion(for: name, in: names)) its stages are "
            + names.joined(separator: ", "))
      }
    }
    var stage = recipe.stages[0]
    let data = try DataSet(at: Trainer.paths(path, nil).train)
    let ranks = context.communicator.size
    if control == .localBatchNorm { stage.batchNorm = BatchNormRecipe(.group(images: stage.batch / ranks)) }
    let teachers = try Plan.teachers(of: stage, [], data, context)
    let stageRun = try StageRun(
      stage, data: data, heldOut: nil, seed: recipe.seed, index: 0, teachers: teachers.map { $0.make() }, context)
    try stageRun.loadTeachers(teachers, context.communicator) { _ in "" }
    guard stageRun.plan.totalSteps >= steps else {
      throw RunError(
        "the recipe has \(stageRun.plan.totalSteps) steps, \(steps) are to be compared: --set length=\"\(steps) steps\""
      )
    }
    let start = try Plan.start(of: 0, recipe, stageRun, [], context)
    _ = try stageRun.start(from: start, context.communicator) { _ in "" }
    if let perturbation { for trained in stageRun.method.trained { perturb(trained.state.parameters, perturbation) } }
    stageRun.method.adoptEncoder()
    let parameters = stageRun.method.encoder.state.parameters
    let initial = Array(parameters.buffer)
    let trained = stageRun.method.trained
    let loader = try stageRun.loader(from: 0, threads: 1)
    var check = ReplicaCheck(losses: [], moved: 0, gradients: [], weights: [])
    for step in 0..<steps {
      let batch = try loader.next()
      check.losses.append(stageRun.gradients(stageRun.input(batch)).loss)
      loader.release(batch)
      if step == 0 { check.gradients = trained.flatMap { arrays($0.gradients, $0.name) } }
      stageRun.update(step: step)
    }
    check.weights = trained.flatMap { arrays($0.state.parameters, $0.name) }
    check.moved = distance(initial, Array(parameters.buffer)) / norm(initial, initial.count)
    return check
  }

  private static func perturb(_ slab: ParameterSlab, _ seed: UInt64) {
    for entry in slab.layout.entries {
      var draws = Draws(seed: seed, .check, named: entry.name)
      let values = slab[entry.slice]
      for i in 0..<entry.slice.count { values[i] = draws.chance(0.5) ? values[i].nextUp : values[i].nextDown }
    }
  }

  private static func arrays(_ slab: ParameterSlab, _ network: String) -> [(name: String, values: [Float])] {
    slab.layout.entries.map {
      ("\(network).\($0.name)", Array(UnsafeBufferPointer(start: slab[$0.slice], count: $0.slice.count)))
    }
  }

  // MARK: Files

  package func write(_ path: String) throws {
    var tensors: [(name: String, shape: [Int], values: Safetensors.Values)] = [
      ("losses", [losses.count], .doubles(losses)), ("moved", [1], .doubles([moved])),
    ]
    tensors += gradients.map { ("gradient." + $0.name, [$0.values.count], .floats($0.values)) }
    tensors += weights.map { ("weight." + $0.name, [$0.values.count], .floats($0.values)) }
    try Safetensors.write(tensors, metadata: [:], to: path)
  }

  package init(
    losses: [Double], moved: Double, gradients: [(name: String, values: [Float])],
    weights: [(name: String, values: [Float])]
  ) {
    self.losses = losses
    self.moved = moved
    self.gradients = gradients
    self.weights = weights
  }

  package init(_ path: String) throws {
    let file = try Safetensors.read(path)
    func arrays(_ prefix: String) throws -> [(name: String, values: [Float])] {
      try file.names.filter { $0.hasPrefix(prefix) }.map { (String($0.dropFirst(prefix.count)), try file.floats($0)) }
    }
    self.init(
      losses: try file.doubles("losses"), moved: try file.doubles("moved")[0], gradients: try arrays("gradient."),
      weights: try arrays("weight."))
  }

  // MARK: Comparing

  /// How far two traces are apart: gradients of the first step and final weights tensor by tensor, the losses step by
  /// step.
  package struct Drift {
    package var gradients: [Double], losses: [Double], weights: [Double]
  }

  package func drift(from base: ReplicaCheck) throws -> Drift {
    guard gradients.map(\.name) == base.gradients.map(\.name), losses.count == base.losses.count else {
      throw RunError("these are of different recipes: they have different parameters or steps")
    }
    func distances(_ a: [(name: String, values: [Float])], _ b: [(name: String, values: [Float])]) -> [Double] {
      zip(a, b).map { ReplicaCheck.distance($0.values, $1.values) }
    }
    return Drift(
      gradients: distances(gradients, base.gradients), losses: zip(losses, base.losses).map { abs($0 - $1) },
      weights: distances(weights, base.weights))
  }

  private static func distance(_ a: [Float], _ b: [Float]) -> Double {
    zip(a, b).reduce(0) { $0 + pow(Double($1.0) - Double($1.1), 2) }.squareRoot()
  }
}

extension ReplicaCheck.Drift {
  /// The largest ratio of this drift to what one ulp does, in each of the three.
  ///
  /// The reference is the largest of several perturbed traces. A tensor's own is at least one rounding (2⁻²⁴) of its
  /// norm: a gradient that is exactly reproduced under perturbation says nothing. Losses are taken at the
  /// largest reference so far: rounding grows with the steps, but not evenly.
  package func ratios(to ulps: [ReplicaCheck.Drift], _ base: ReplicaCheck) -> (
    gradients: Double, losses: Double, weights: Double
  ) {
    func worst(_ mine: [Double], _ others: [[Double]], _ floors: [Double]) -> Double {
      mine.indices.map { i in mine[i] / max(others.map { $0[i] }.max() ?? 0, floors[i], .leastNormalMagnitude) }.max()
        ?? 0
    }
    func floors(_ arrays: [(name: String, values: [Float])]) -> [Double] {
      arrays.map { norm($0.values, $0.values.count) * 0x1p-24 }
    }
    var largest = 0.0
    let lossFloors = base.losses.indices.map { i in
      largest = max(largest, ulps.map { $0.losses[i] }.max() ?? 0, base.losses[i] * 0x1p-24)
      return largest
    }
    return (
      worst(gradients, ulps.map(\.gradients), floors(base.gradients)), worst(losses, ulps.map(\.losses), lossFloors),
      worst(weights, ulps.map(\.weights), floors(base.weights))
    )
  }
}

/// A communicator that leaves out the other ranks' part of a gathered gradient: one of the controls.
package final class UnsummedGather: Communicator {
  private let inner: any Communicator
  package init(_ inner: any Communicator) { self.inner = inner }
  package var rank: Int { inner.rank }
  package var size: Int { inner.size }
  package var ranksOnNode: Int { inner.ranksOnNode }
  package var host: String { inner.host }
  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Float>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  ) {
    if purpose != .gatheredGradient { inner.allReduce(data, reduction, on: channel, purpose) }
  }
  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Double>, _ reduction: Reduction, on channel: Channel,
    _ purpose: CollectivePurpose
  ) {
    inner.allReduce(data, reduction, on: channel, purpose)
  }
  package func allReduce(
    _ data: UnsafeMutableBufferPointer<Int64>, _ reduction: Reduction, on channel: Channel, _ purpose: CollectivePurpose
  ) {
    inner.allReduce(data, reduction, on: channel, purpose)
  }
  package func allGather(
    _ send: UnsafePointer<Float>, rows: [Int], width: Int, into receive: UnsafeMutablePointer<Float>,
    _ purpose: CollectivePurpose
  ) {
    inner.allGather(send, rows: rows, width: width, into: receive, purpose)
  }
  package func broadcast(_ data: UnsafeMutableRawBufferPointer, from root: Int, _ purpose: CollectivePurpose) {
    inner.broadcast(data, from: root, purpose)
  }
  package func barrier() { inner.barrier() }
  package func abort(_ message: String, code: Int32) -> Never { inner.abort(message, code: code) }
}

import Engine
import Foundation
import Limits
import Ranks
import Shards

/// One stage of a run, made and checked before step 0: everything that can be known to fail is found here.
package final class StageRun {
  package let stage: Stage
  package let data: DataSet
  package let heldOut: DataSet?
  /// Whose labels may be seen; nil for a method that learns from none.
  package let labels: LabelSelection?
  /// What is trained on.
  package let images: TrainingImages
  /// How they are read.
  package let reads: ReadPlan
  package var order: Order { reads.order }
  package let plan: RunPlan
  package let method: any Method
  package let optimizer: any Optimizer
  /// Networks that the method asks; without weights until `loadTeachers`.
  package let teachers: [Teacher]
  /// Checksums of their weights, in their order.
  package internal(set) var teacherChecksums: [UInt32] = []
  /// What each encoder of the result is fed: by the training set, or as the run began with.
  package private(set) var inputs: [EncoderInput]
  package let context: Context
  /// The run's seed and the stage, in one.
  private let seed: UInt64
  /// The learning rate after scaling, and the factor.
  package let rate: Double, rateScale: Double
  /// Candidates of each anchor at a full batch, and the loss that guessing gives.
  package let candidates: Int?, chance: Double?
  /// What the user should know, in words.
  package let notices: [String]
  /// Bytes of this rank.
  package let memory: StageMemory
  /// The work of a step, counted in the dry run.
  let work = Profile()
  /// What an input holds, in arrays that are made once.
  private var shares: [Int]
  private var views: [Tensor] = []
  private var targets: [UnsafePointer<Int32>?] = []

  /// - Parameters:
  ///   - index: of the stage in its run; each has draws of its own.
  ///   - teachers: those of the method's recipe, without weights.
  /// - Throws: `RecipeError` or `RunError`, the same on every rank.
  package init(
    _ stage: Stage, data: DataSet, heldOut: DataSet?, seed: UInt64, index: Int, teachers: [Teacher] = [],
    _ context: Context
  ) throws {
    self.stage = stage
    self.data = data
    self.heldOut = heldOut
    self.teachers = teachers
    self.context = context
    let ranks = context.communicator.size
    labels = try StageRun.labels(stage, data, seed: seed)
    images = StageRun.images(stage, data, labels)
    let seed = StageRun.seed(seed, stage: index)
    self.seed = seed
    let warnings = try StageRun.check(stage, data, images: images.count, heldOut, ranks: ranks)
    reads = try ReadPlan(images, batch: stage.batch, seed: seed, stage.data)
    plan = RunPlan(stepsPerEpoch: reads.order.stepsPerEpoch, batch: stage.batch, length: stage.length)
    guard plan.totalSteps > 0 else {
      throw RecipeError("length \(stage.length) is no step of \(stage.batch) images; make it longer")
    }
    rateScale = stage.optimizer.scaling.factor(batch: stage.batch)
    rate = stage.optimizer.rate * rateScale
    optimizer = stage.optimizer.algorithm
    context.convolution = stage.convolution
    method = StageRun.makeMethod(
      stage, data, images: images.count, labels, seed: seed, teachers, plan, optimizer, context)
    try ParameterRule.check(stage.parameters, method.trained.map(\.network))
    try StageRun.checkChannels(stage, data, results: method.results.count)
    inputs = stage.views.prefix(method.results.count).map {
      EncoderInput($0, mean: data.mean, deviation: data.deviation)
    }
    try StageRun.check(teachers, of: stage, input: inputs[0], data)
    let extractor = StageRun.extractor(method, stage, inputs, context)
    shares = (0..<ranks).map { share(of: stage.batch, rank: $0, ranks: ranks).count }
    (candidates, chance) = StageRun.planStep(
      method, stage, shares: shares, channels: data.channels, extractor, work, context)
    var memory = StageRun.memory(method, stage, data, heldOut, labels, reads, extractor, context)
    memory.teachers = teachers.reduce(0) { $0 + $1.bytes }
    self.memory = memory
    notices =
      warnings + reads.notices + stage.schedule.warnings(plan) + StageRun.labelNotices(labels, data)
      + StageRun.monitorNotices(stage, data, heldOut)
  }

  /// The labels that a stage's method may see. All stages of a run choose alike.
  private static func labels(_ stage: Stage, _ data: DataSet, seed: UInt64) throws(RecipeError) -> LabelSelection? {
    let method = stage.method.value
    let name = type(of: method).name
    if method.labels == .none {
      for (key, isGiven) in [("labels", stage.data.labels != nil), ("validation", stage.data.validation != nil)]
      where isGiven {
        throw RecipeError("data.\(key) is given, but \(name) learns without labels: \(method.labelRemedy)")
      }
      return nil
    }
    let selection = try LabelSelection(
      data, stage.data.labels ?? .all, validation: stage.data.validation, seed: seed)
    try method.check(selection, classes: data.classNames)
    return selection
  }

  private static func images(_ stage: Stage, _ data: DataSet, _ labels: LabelSelection?) -> TrainingImages {
    labels.map { TrainingImages(data, $0, only: stage.method.value.labels == .only) } ?? TrainingImages(data)
  }

  /// What a stage draws from: of a run's seed.
  package static func seed(_ seed: UInt64, stage index: Int) -> UInt64 { seed &+ UInt64(index) << 32 }

  private static func makeMethod(
    _ stage: Stage, _ data: DataSet, images: Int, _ labels: LabelSelection?, seed: UInt64, _ teachers: [Teacher],
    _ plan: RunPlan, _ optimizer: any Optimizer, _ context: Context
  ) -> any Method {
    let channels = stage.views.map { $0.channels(of: data.channels) }
    return stage.method.value.make(
      MethodSetting(
        encoder: stage.encoder.options(channels: channels[0]), channels: channels,
        normalisation: stage.batchNorm.groups, seed: seed, accumulate: stage.accumulate, images: images,
        classes: data.classNames.count, classCounts: labels?.counts ?? [], teachers: teachers, plan: plan,
        optimizer: optimizer,
        rules: stage.parameters.map(\.rule), context: context))
  }

  /// The dry run of the largest step, which plans the arena.
  /// - Returns: candidates of each anchor, and the loss that guessing gives.
  private static func planStep(
    _ method: any Method, _ stage: Stage, shares: [Int], channels: Int, _ extractor: FeatureExtractor,
    _ work: Profile, _ context: Context
  ) -> (candidates: Int?, chance: Double?) {
    let communicator = context.communicator
    context.arena.unseal { bytes in
      if !communicator.isRoot { Thread.sleep(forTimeInterval: 2) }  // all ranks know; the root says it
      communicator.abort(
        "error: a step's activations need more than the \(megabytes(bytes)) MiB that the system gives a process: "
          + "take a smaller batch, smaller views or more ranks", code: 1)
    }
    let rank = communicator.rank
    let outcome = context.dry {
      let nowhere = UnsafeMutablePointer<Float>(bitPattern: 64)!
      let views = stage.views.map {
        Tensor(nowhere, n: $0.count * shares[rank], h: $0.size, w: $0.size, c: $0.channels(of: channels))
      }
      let samples = Array(repeating: 0, count: shares[rank])
      context.profile = work
      let outcome = method.step(
        MethodInput(step: 0, batch: stage.batch, shares: shares, rank: rank, samples: samples, views: views))
      context.profile = nil
      extractor.plan()
      return outcome
    }
    for trained in method.trained { context.dry { trained.reducer.finish() } }
    context.arena.seal()
    return (outcome.figures[.candidates].map { Int($0) }, outcome.chance)
  }

  private static func memory(
    _ method: any Method, _ stage: Stage, _ data: DataSet, _ heldOut: DataSet?, _ labels: LabelSelection?,
    _ reads: ReadPlan, _ extractor: FeatureExtractor, _ context: Context
  ) -> StageMemory {
    let rank = context.communicator.rank
    let ranks = context.communicator.size
    var memory = StageMemory()
    memory.activations = context.arena.peak
    memory.state = method.stateBytes
    memory.gradients = method.gradientBytes
    memory.kept = method.unsavedBytes
    memory.batches = Loader.batchBytes(
      data, order: reads.order, views: stage.views, rank: rank, ranks: ranks, ahead: stage.data.ahead)
    memory.cache = min(reads.cacheBytes(rank: rank, ranks: ranks), data.count * reads.meanLength)
    memory.index = data.indexBytes + (heldOut?.indexBytes ?? 0)
    if heldOut != nil || labels?.validation.isEmpty == false {
      let validation = labels?.validation.count ?? 0
      let rows = min(stage.monitor.train, data.count) + max(validation, min(stage.monitor.test, heldOut?.count ?? 0))
      memory.monitor = 2 * rows * extractor.dimension * MemoryLayout<Float>.stride
    }
    return memory
  }

  // MARK: A step

  /// Gradients of a step's global batch, summed over ranks.
  package func gradients(_ input: MethodInput) -> Outcome { method.gradients(input) }

  /// Moves the parameters by their gradients, and then what follows them.
  /// - Parameter step: of this stage.
  /// - Returns: the rate.
  @discardableResult
  package func update(step: Int) -> Double {
    let rate = rate(step: step)
    context.part(.update) { method.update(optimizer, step: step, rate: rate, context) }
    return rate
  }

  /// Norm of all gradients.
  package var gradientNorm: Double {
    method.trained.reduce(0) { $0 + pow(norm($1.gradients.data, $1.gradients.count), 2) }.squareRoot()
  }

  /// What the monitor judges images by: features, or the scores of classes of a method that tells them.
  package var extractor: FeatureExtractor {
    StageRun.extractor(method, stage, inputs, context)
  }

  private static func extractor(
    _ method: any Method, _ stage: Stage, _ inputs: [EncoderInput], _ context: Context
  ) -> FeatureExtractor {
    let tap = stage.method.value.classScores ?? .features
    let sources = zip(method.results, inputs).map { trained, input in
      FeatureSource(trained.name, trained.network, trained.state, input: input, tap: tap)
    }
    return FeatureExtractor(sources, context: context)
  }

  /// Goes on with the statistics that the stage began with, though the data may be others by now.
  /// - Parameter began: what each encoder was fed then; nil where it is not known.
  package func keep(_ began: [EncoderInput?]) {
    for (index, input) in began.enumerated() where inputs.indices.contains(index) {
      let isOfData = stage.views[index].normalise == .dataset
      guard let input, isOfData, input.channels == inputs[index].channels else { continue }
      inputs[index].mean = input.mean
      inputs[index].deviation = input.deviation
    }
  }

  /// The views with the statistics that they are normalised by: those of an encoder that takes the same channels.
  private var resolvedViews: [ViewRecipe] {
    stage.views.map { view in
      let same = inputs.indices.first {
        stage.views[$0].normalise == .dataset && inputs[$0].selections == view.selections
      }
      return same.map { view.normalised(by: inputs[$0]) } ?? view
    }
  }

  /// Batches of this rank from a step on.
  package func loader(from step: Int, threads: Int) throws -> Loader {
    try Loader(
      images, order: order, views: resolvedViews, rank: context.communicator.rank, ranks: context.communicator.size,
      seed: seed, threads: threads, ahead: stage.data.ahead, from: step, until: plan.totalSteps,
      decode: stage.data.decode)
  }

  /// A batch as the method takes it; its pixels stay the loader's.
  package func input(_ batch: Batch) -> MethodInput {
    views.removeAll(keepingCapacity: true)
    targets.removeAll(keepingCapacity: true)
    for group in batch.groups {
      let size = group.recipe.size
      views.append(Tensor(group.pixels, n: group.recipe.count * batch.count, h: size, w: size, c: group.channels))
      targets.append(group.targets.map { UnsafePointer($0) })
    }
    return MethodInput(
      step: batch.step, epoch: batch.epoch, batch: batch.globalCount, shares: shares(step: batch.step),
      rank: context.communicator.rank, samples: batch.samples, labels: batch.labels, views: views,
      targets: targets)
  }

  /// Images of every rank in a step.
  package func shares(step: Int) -> [Int] {
    let size = order.size(ofStep: step)
    let ranks = shares.count
    for rank in 0..<ranks { shares[rank] = share(of: size, rank: rank, ranks: ranks).count }
    return shares
  }

  /// - step: of this stage.
  package func rate(step: Int) -> Double { stage.schedule.rate(step: step, base: rate, scale: rateScale, plan) }

  /// A checkpoint on disk: what every rank has once, and the rows of all ranks.
  package var checkpointBytes: Int { method.saved.reduce(1 << 20) { $0 + $1.totalBytes } }
}

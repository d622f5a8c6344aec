import Engine
import Limits
import Shards

/// What is refused before step 0, and what the user is told.
extension StageRun {
  /// What keeps the monitor from judging, in words.
  static func monitorNotices(_ stage: Stage, _ data: DataSet, _ heldOut: DataSet?) -> [String] {
    let classes = data.classNames
    if stage.method.value.classScores != nil {
      let isJudged = heldOut.map { !LabelledImages($0, classes: classes, limit: 1).isEmpty } ?? false
      return isJudged ? [] : ["no accuracy on held-out images: it needs labelled images in --test"]
    }
    guard let heldOut, !LabelledImages(data, classes: classes, limit: 1).isEmpty else {
      return ["no kNN while training: it needs labelled images in --data and in --test"]
    }
    let test = LabelledImages(heldOut, classes: classes, limit: 1)
    if test.labelledCount == 0 { return ["no kNN while training: it needs labelled images in --data and in --test"] }
    if test.isEmpty {
      return ["no kNN while training: \(heldOut.path) has none of the classes of \(data.path), \(listed(classes))"]
    }
    return test.unknown.isEmpty
      ? [] : ["kNN while training leaves out the classes \(listed(test.unknown)), which \(data.path) has not"]
  }

  /// Classes that a classifier cannot learn, in words.
  static func labelNotices(_ labels: LabelSelection?, _ data: DataSet) -> [String] {
    guard let labels else { return [] }
    let without = zip(data.classNames, labels.counts).filter { $0.1 == 0 }.map(\.0)
    return without.isEmpty ? [] : ["no image with a label of the classes \(listed(without)): they cannot be learned"]
  }

  /// Recipe against data and ranks.
  /// - Returns: warnings in words.
  static func check(
    _ stage: Stage, _ data: DataSet, images: Int, _ heldOut: DataSet?, ranks: Int
  ) throws -> [String] {
    guard stage.batch >= ranks else {
      throw RecipeError(
        "batch is \(stage.batch), but there are \(ranks) ranks: every rank needs an image; "
          + "take a larger batch or fewer ranks")
    }
    guard stage.batch <= images else {
      let which = images < data.count ? "\(images) images to train on" : "\(images) images"
      throw RecipeError("batch is \(stage.batch), but \(data.path) has \(which): take a smaller batch")
    }
    var notices = try stage.method.value.validate(stage, images: images)
    for view in stage.views { notices += try view.validate(channels: data.channels) }
    try checkParts(stage, ranks: ranks)
    try checkClasses(stage, data, heldOut)
    if let heldOut, heldOut.channels != data.channels {
      throw RunError(
        "held-out data \(heldOut.path) has \(heldOut.channels) channels, the training data \(data.channels)")
    }
    return notices
  }

  /// Teachers against what the student is fed and learns to tell; held-out images against the classes.
  static func check(
    _ teachers: [Teacher], of stage: Stage, input: EncoderInput, _ data: DataSet
  ) throws(RecipeError) {
    let method = stage.method.value
    for (teacher, source) in zip(teachers, method.teachers) {
      try method.check(teacher, from: source, input: input, classes: data.classNames)
    }
  }

  /// Refuses held-out images of classes that a classifier cannot tell.
  private static func checkClasses(_ stage: Stage, _ data: DataSet, _ heldOut: DataSet?) throws(RecipeError) {
    guard stage.method.value.classScores != nil, let heldOut else { return }
    let test = LabelledImages(heldOut, classes: data.classNames, limit: 1)
    guard test.unknown.isEmpty else {
      throw RecipeError(
        "\(heldOut.path) has images of the classes \(listed(test.unknown)), which \(data.path) has not (it has "
          + "\(listed(data.classNames))): name classes alike, or give other images with --test")
    }
  }

  /// One encoder sees all kinds of view unless the method has several.
  static func checkChannels(_ stage: Stage, _ data: DataSet, results: Int) throws(RecipeError) {
    let channels = stage.views.map { $0.channels(of: data.channels) }
    guard results == 1, let other = channels.firstIndex(where: { $0 != channels[0] }) else { return }
    throw RecipeError(
      "views: kind \(other + 1) has \(channels[other]) channels, kind 1 has \(channels[0]), and "
        + "\(type(of: stage.method.value).name) has one encoder for all; give all kinds the same channels")
  }

  /// A batch may be computed in parts where no BN group spans two of them.
  private static func checkParts(_ stage: Stage, ranks: Int) throws {
    guard stage.accumulate > 1 else { return }
    let images: Int
    switch stage.batchNorm.groups {
    case .global: return  // refused by the method where it matters
    case .group(let size), .shuffle(let size): images = size
    }
    let unit = ranks * stage.accumulate * images
    guard stage.batch % unit == 0, stage.data.last == .drop else {
      let part = stage.batch / ranks / stage.accumulate
      throw RecipeError(
        "accumulate is \(stage.accumulate): a rank's \(Double(stage.batch) / Double(ranks)) images would be computed "
          + "\(part) at a time, but BN groups have \(images) images and must not be cut; take a batch that is a "
          + "multiple of \(unit) images, and data.last: drop")
    }
  }

  /// Refuses what does not fit into memory or on the disk.
  /// - Parameters:
  ///   - ofNode: memory for all ranks of the node; nil where unknown.
  ///   - ofProcess: memory for this rank alone; nil where it is not limited.
  ///   - diskFree: bytes; nil where unknown.
  package func checkRoom(
    _ folder: RunFolder, ofNode: MemoryRoom?, ofProcess: MemoryRoom?, diskFree: Int64?
  ) throws {
    let ranks = context.communicator.ranksOnNode
    let needed = Int64(memory.total)
    let host = context.communicator.host
    let who = ranks == 1 ? "1 rank on \(host) needs" : "\(ranks) ranks on \(host) need"
    try checkMemory(needed * Int64(ranks), who, ofNode)
    // Activations, state and gradients have their addresses by now.
    let others = needed - Int64(memory.activations + memory.state + memory.gradients)
    let threads = Int64(context.team.count) * Launch.bytesOfThread
    try checkMemory(others + threads, "besides activations and state, a rank needs", ofProcess)
    if let limit = ProcessLimits.current.fileSize, Int64(checkpointBytes) > limit {
      throw RunError(
        "a checkpoint takes up to \(megabytes(checkpointBytes)) MiB, but ulimit -f allows \(megabytes(Int(limit))) "
          + "in a file: raise it (ulimit -f unlimited)")
    }
    let disk = Int64(checkpointBytes * (stage.checkpoint.keep + 1))
    if let diskFree, diskFree < disk {
      throw RunError(
        "checkpoints need \(megabytes(Int(disk))) MiB at \(folder.path), but \(megabytes(Int(diskFree))) are free: "
          + "make room or give another --run")
    }
  }

  private func checkMemory(_ needed: Int64, _ who: String, _ room: MemoryRoom?) throws {
    guard let room, needed > room.bytes else { return }
    throw RunError(
      "\(who) \(megabytes(Int(needed))) MiB, but \(megabytes(Int(room.bytes))) are free\(room.bound): "
        + "\(room.advice)take a smaller batch, fewer ranks on a node, or accumulate (\(memory))")
  }
}

import Randomness

/// What to do with the samples at the end of an epoch that do not fill a batch.
package enum LastBatch: String, Codable, CaseIterable, Sendable {
  /// Leaves them out of this epoch. Every epoch leaves out other samples.
  case drop
  /// The epoch's last batch is smaller.
  case keep
}

/// The order in which a run visits its samples: a pure function of (seed, epoch), in O(1) memory, and the same for any
/// number of ranks.
///
/// The data set, starting at a keyed offset, is cut into blocks of consecutive samples. A keyed permutation arranges
/// the blocks in a *row* of N samples. Each position of the global batch is a *lane*: it owns a contiguous piece of the
/// row and takes one sample per step, so a rank that owns lanes reads whole blocks. Inside a lane, windows of whole
/// blocks are shuffled by keyed permutations. Lanes change windows at different steps, which spreads the reads over
/// time.
///
/// Every sample appears once in an epoch (`keep`) or at most once (`drop`, which leaves out the N mod B samples at the
/// end of the row).
package struct Order: Sendable, Equatable {
  /// Samples in the data set (N), and in a global batch (B).
  package let count: Int, batch: Int
  /// The run's seed.
  package let seed: UInt64
  /// Samples in a block, as adapted to the length of a lane and to `held`. With 1 the order is a full shuffle, and each
  /// sample is read by itself.
  package let block: Int
  /// Blocks of a lane that are shuffled together, as adapted to `held`.
  package let window: Int
  /// What to do with the end of an epoch.
  package let last: LastBatch
  /// Steps in an epoch; 0 if `drop` leaves nothing, which `Loader` refuses.
  package let stepsPerEpoch: Int

  /// Fewest blocks of a window when `held` is small; to keep so many, blocks are made smaller.
  private static let leastWindow = 4

  /// Block and window follow from the arguments alone, so they are the same for any number of ranks. A block has at
  /// most 1/window of a lane's samples (at least 1), so that a lane shuffles `window` blocks in an epoch. If such a
  /// window has more than two thirds of `held` samples, fewer blocks are shuffled: as many as fit into two thirds of
  /// `held`, of the largest size up to `block` at which four of them (or `window`, if that is less) fit and a lane has
  /// that many.
  /// - Parameters:
  ///   - count: samples in the data set, at least 1.
  ///   - batch: samples in a global batch, at least 1.
  ///   - seed: the run's seed.
  ///   - block: largest number of consecutive samples that are read at once.
  ///   - window: largest number of blocks that are shuffled together.
  ///   - held: encoded samples that a lane may keep in memory: up to one and a half windows at the ends of an epoch.
  ///   - last: what to do with the end of an epoch.
  package init(
    count: Int, batch: Int, seed: UInt64, block: Int = 16, window: Int = 4, held: Int = .max, last: LastBatch = .drop
  ) {
    precondition(
      count > 0 && batch > 0 && block > 0 && window > 0,
      "order of \(count) samples in batches of \(batch), blocks of \(block), windows of \(window)")
    self.count = count
    self.batch = batch
    self.seed = seed
    self.last = last
    stepsPerEpoch = last == .drop ? count / batch : (count + batch - 1) / batch
    let piece = count / batch
    let span = max(1, held / 3 * 2)
    let usual = max(1, min(block, piece / window))
    if usual * window <= span {
      self.block = usual
      self.window = window
    } else {
      let least = min(window, Self.leastWindow)
      self.block = max(1, min(block, span / least, piece / least))
      self.window = max(1, min(window, span / self.block))
    }
  }

  /// Number of samples in the global batch of a step. Steps count over the whole run.
  package func size(ofStep step: Int) -> Int {
    let rest = count % batch
    return last == .keep && rest > 0 && step % stepsPerEpoch == stepsPerEpoch - 1 ? rest : batch
  }

  /// The epoch that a step of the run belongs to.
  package func epoch(ofStep step: Int) -> Int { step / stepsPerEpoch }

  /// The samples at some positions of a step's global batch.
  package func samples(step: Int, positions: Range<Int>) -> [Int] {
    precondition(
      step >= 0 && stepsPerEpoch > 0 && positions.lowerBound >= 0 && positions.upperBound <= size(ofStep: step),
      "positions \(positions) of step \(step), \(stepsPerEpoch) steps an epoch, batch \(batch)")
    let epoch = Epoch(self, step / stepsPerEpoch)
    let within = step % stepsPerEpoch
    return positions.map { epoch.place(lane: $0, step: within).sample }
  }

  /// A lane's sample at a step, and what to read for it.
  package struct Place: Equatable, Sendable {
    /// The sample of this step.
    package let sample: Int
    /// Consecutive samples, including this one, that the lane needs in the same window. Read them at once.
    package let run: Range<Int>
    /// The window's last step, in steps of the whole run. After it the samples of `run` are no longer needed.
    package let windowEnd: Int
  }

  /// A lane's place at a step of the run.
  package func place(step: Int, position: Int) -> Place {
    let epoch = Epoch(self, step / stepsPerEpoch)
    return epoch.place(lane: position, step: step % stepsPerEpoch)
  }
}

/// One epoch's permutation and offset.
private struct Epoch {
  let order: Order, epoch: Int
  let blocks: Permutation
  let offset: Int

  init(_ order: Order, _ epoch: Int) {
    self.order = order
    self.epoch = epoch
    // An incomplete last block stays at the end of the row. Because of the offset it has other samples in each epoch.
    blocks = Permutation(count: max(1, order.count / order.block), seed: order.seed, .order, UInt64(epoch))
    var draws = Draws(seed: order.seed, .order, UInt64(epoch), 0)
    offset = draws.integer(below: order.count)
  }

  /// The part of the row that a lane owns.
  private func piece(_ lane: Int) -> Range<Int> {
    let (each, rest) = order.count.quotientAndRemainder(dividingBy: order.batch)
    if order.last == .drop { return lane * each..<(lane + 1) * each }
    let start = lane * each + min(lane, rest)
    return start..<start + each + (lane < rest ? 1 : 0)
  }

  func place(lane: Int, step: Int) -> Order.Place {
    let piece = piece(lane)
    let now = piece.lowerBound + step
    let block = order.block
    precondition(piece.contains(now), "lane \(lane) has no step \(step) in its piece \(piece)")
    let (start, end) = window(around: now, in: piece, lane)
    let mix = Permutation(
      count: end - start, seed: order.seed, .order, UInt64(epoch), UInt64(lane), UInt64(start))
    let drawn = start + mix[now - start]
    let drawnBlock = drawn / block
    let rowStart = max(start, drawnBlock * block)
    let rowEnd = min(end, (drawnBlock + 1) * block)
    let first = sample(atRow: rowStart)
    let sample = sample(atRow: drawn)
    let length = rowEnd - rowStart
    // A block that wraps around the end of the data set consists of two runs.
    let run =
      first + length <= order.count
      ? first..<first + length : (sample >= first ? first..<order.count : 0..<first + length - order.count)
    return Order.Place(
      sample: sample, run: run, windowEnd: epoch * order.stepsPerEpoch + (end - 1 - piece.lowerBound))
  }

  /// The window that contains `now`, a range of the row. Windows begin at block boundaries, with a phase that depends
  /// on the lane. Less than half a window at either end of a piece is joined to the neighbouring window.
  private func window(around now: Int, in piece: Range<Int>, _ lane: Int) -> (start: Int, end: Int) {
    let span = order.window * order.block
    let half = max(1, span / 2)
    let phase = lane % order.window * order.block
    func holds(_ row: Int) -> Bool { row - piece.lowerBound >= half && piece.upperBound - row >= half }
    let start = (now + span - phase) / span * span - span + phase
    let end = start + span
    return (
      holds(start) ? start : holds(start - span) ? start - span : piece.lowerBound,
      holds(end) ? end : holds(end + span) ? end + span : piece.upperBound
    )
  }

  private func sample(atRow row: Int) -> Int {
    let (block, within) = row.quotientAndRemainder(dividingBy: order.block)
    let source = (block < blocks.count ? blocks[block] : block) * order.block + within + offset
    return source % order.count
  }
}

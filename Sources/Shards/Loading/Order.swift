import Randomness

/// What happens to the samples of an epoch that do not fill a batch.
package enum LastBatch: String, Codable, CaseIterable, Sendable {
  /// They are left out of this epoch; another epoch leaves out others.
  case drop
  /// The epoch's last batch is smaller.
  case keep
}

/// The order in which a run meets its samples: a pure function of (seed, epoch), in O(1) memory, for any number of
/// ranks.
///
/// The data set, begun at a keyed offset, is cut into blocks of consecutive samples, and a keyed permutation puts the
/// blocks in a *row* of N samples. Position ℓ of the global batch is a *lane*: it owns a consecutive piece of the row,
/// one sample a step, so a rank that owns lanes reads whole blocks. Inside a lane, windows of whole blocks are mixed by
/// keyed permutations of their own; lanes change windows at different steps, which spreads the reads.
///
/// Every sample appears once in an epoch (`keep`), or at most once (`drop`: the N mod B samples at the row's end are
/// left out).
package struct Order: Sendable, Equatable {
  /// Samples in the data set (N), and in a global batch (B).
  package let count: Int, batch: Int
  package let seed: UInt64
  /// Samples in a block, as adapted to the piece of a lane and to `held`; 1 is a full shuffle, whose reads are single
  /// samples.
  package let block: Int
  /// Blocks that are mixed together in a lane, as adapted to `held`.
  package let window: Int
  package let last: LastBatch
  /// Steps in an epoch; 0 where `drop` leaves nothing, which `Loader` refuses in words.
  package let stepsPerEpoch: Int

  /// Fewest blocks of a window that are mixed where `held` is short; below that, blocks become smaller.
  private static let leastWindow = 4

  /// Block and window follow from the arguments alone, so they are the same for any number of ranks. Blocks are small
  /// enough that a lane mixes `window` of them in an epoch: never more than 1/window of its piece, so 1 where it has
  /// fewer samples than `window`. Where such a window has more than `held` samples, blocks take their full size again,
  /// or a quarter of `held`, and as many are mixed as `held` allows.
  /// - Parameters:
  ///   - count: samples in the data set, at least 1.
  ///   - batch: samples in a global batch, at least 1.
  ///   - seed: the run's seed.
  ///   - block: the largest number of consecutive samples that are read at once.
  ///   - window: blocks that are mixed, at most.
  ///   - held: encoded samples that a lane may hold at once: a window, and half as many again at an epoch's ends.
  ///   - last: what happens to the rest of an epoch.
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

  /// Samples in the global batch of a step. Steps count over the whole run.
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

  /// Where a lane stands at a step.
  package struct Place: Equatable, Sendable {
    /// The sample that is due.
    package let sample: Int
    /// Consecutive samples, this one among them, that the lane needs in the same window: worth reading at once.
    package let run: Range<Int>
    /// The window's last step, in steps of the whole run; after it nothing of the run is needed.
    package let windowEnd: Int
  }

  /// Where a lane stands at a step of the run.
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
    // A last, incomplete block stays at the row's end; the offset lets it hold other samples in each epoch.
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
    // A block that wraps around the data set's end is two runs.
    let run =
      first + length <= order.count
      ? first..<first + length : (sample >= first ? first..<order.count : 0..<first + length - order.count)
    return Order.Place(
      sample: sample, run: run, windowEnd: epoch * order.stepsPerEpoch + (end - 1 - piece.lowerBound))
  }

  /// The rows that are mixed with this one. Windows begin at whole blocks, at another block in each lane; what is left
  /// over at a piece's ends, if less than half a window, joins its neighbour.
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

import CSystem
import Foundation
import Ranks

/// State that the loader's threads share: a ring of batches, and the next chunk of work.
final class LoaderWork: @unchecked Sendable {
  /// Memory of one batch.
  private struct Slot {
    /// The batch that the caller gets.
    let batch: Batch
    let samples: UnsafeMutablePointer<Int>
    let labels: UnsafeMutablePointer<Int32>
    /// Its step (-1 for none), its images that are not finished, and whether the caller holds it.
    var step = -1, left = 0, held = false
    /// Error of the first image in the batch that failed.
    var error: (image: Int, error: LoadError)?
  }

  let cache: LaneCache
  private let source: any ImageSource
  private let order: Order
  private let views: Views
  private let rank: Int, ranks: Int, seed: UInt64, until: Int, chunk: Int
  private let decode: DecodeMode
  /// Bytes of all batches.
  let memory: Int

  // Guarded by `state`.
  private let state = NSCondition()
  private var slots: [Slot]
  private var step: Int, image = 0
  private var stopping = false

  init(
    _ source: any ImageSource, _ order: Order, _ views: Views, _ cache: LaneCache, rank: Int, ranks: Int, seed: UInt64,
    threads: Int, ahead: Int, from step: Int, until: Int, decode: DecodeMode
  ) {
    self.source = source
    self.order = order
    self.views = views
    self.cache = cache
    self.rank = rank
    self.ranks = ranks
    self.seed = seed
    self.step = step
    self.until = until
    self.decode = decode
    // Of a smaller last batch a rank may get one image more than of a full one.
    let images = share(of: order.batch, rank: rank, ranks: ranks).count + 1
    chunk = min(16, max(1, images / (4 * threads)))
    memory =
      ahead * images * 4
      * views.kinds.reduce(0) {
        $0 + $1.recipe.count * ($1.recipe.size * $1.recipe.size * $1.channels + ($1.hasTargets ? 1 : 0))
      }
    slots = (0..<ahead).map { _ in
      Slot(
        batch: Batch(groups: views.kinds.map { ViewGroup($0, images: images) }), samples: .allocate(capacity: images),
        labels: .allocate(capacity: images))
    }
  }

  deinit {
    for slot in slots {
      for group in slot.batch.groups { group.deallocate() }
      slot.samples.deallocate()
      slot.labels.deallocate()
    }
  }

  // MARK: The caller's side

  func start() -> pthread_t {
    var handle = pthread_t()
    let status = pthread_create(
      &handle, nil,
      { argument in
        Unmanaged<LoaderWork>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    precondition(status == 0, "could not start a loader thread: \(String(cString: strerror(status)))")
    return handle
  }

  func stop() {
    state.lock()
    stopping = true
    state.broadcast()
    state.unlock()
  }

  func take(_ step: Int) throws -> Batch {
    state.lock()
    defer { state.unlock() }
    let index = step % slots.count
    precondition(!slots[index].held, "step \(step) waits for step \(slots[index].step), which was not released")
    while !(slots[index].step == step && slots[index].left == 0) { state.wait() }
    if let failed = slots[index].error { throw failed.error }
    slots[index].held = true
    let slot = slots[index]
    let positions = positions(step)
    slot.batch.show(
      step: step, epoch: order.epoch(ofStep: step), globalCount: order.size(ofStep: step), positions: positions,
      samples: slot.samples, labels: slot.labels)
    return slot.batch
  }

  func release(_ step: Int) {
    state.lock()
    defer { state.unlock() }
    let index = step % slots.count
    precondition(slots[index].held && slots[index].step == step, "step \(step) is not out, or was released before")
    slots[index].held = false
    slots[index].step = -1
    state.broadcast()
  }

  private func positions(_ step: Int) -> Range<Int> {
    share(of: order.size(ofStep: step), rank: rank, ranks: ranks)
  }

  // MARK: The threads' side

  private func run() {
    csystem_use_processors()  // the creator may be bound to fewer; see ProcessorTurns
    let maker = ViewMaker(views)
    let spare = RunBytes()
    state.lock()
    while let (step, images) = nextChunk() {
      let slot = slots[step % slots.count]
      state.unlock()
      let error = load(step, images, into: slot, maker, spare)
      state.lock()
      let index = step % slots.count
      // Of several errors keep the first image's, independent of the threads' timing.
      if let error, error.image < slots[index].error?.image ?? .max { slots[index].error = error }
      slots[index].left -= images.count
      if slots[index].left == 0 { state.broadcast() }
    }
    state.unlock()
  }

  /// The next images to load. Waits for room in the ring. Nil when all is done.
  private func nextChunk() -> (step: Int, images: Range<Int>)? {
    while true {
      if stopping || step >= until { return nil }
      let index = step % slots.count
      let count = positions(step).count
      if image == 0 {
        guard slots[index].step == -1 else {
          state.wait()
          continue
        }
        slots[index].step = step
        slots[index].left = count
        slots[index].error = nil
      }
      let images = image..<min(image + chunk, count)
      image = images.upperBound
      let taken = step
      if image == count { (step, image) = (step + 1, 0) }
      if count == 0 {
        state.broadcast()
        continue
      }
      return (taken, images)
    }
  }

  private func load(
    _ step: Int, _ images: Range<Int>, into slot: Slot, _ maker: ViewMaker, _ spare: RunBytes
  ) -> (image: Int, error: LoadError)? {
    let positions = positions(step)
    let epoch = order.epoch(ofStep: step)
    for i in images {
      let position = positions.lowerBound + i
      let place = order.place(step: step, position: position)
      let sample = place.sample
      do {
        let bytes = try cache.bytes(step: step, position: position, place, spare: spare)
        let record = try source.record(sample)
        slot.samples[i] = sample
        slot.labels[i] = record.label
        let key = ViewKey(seed: seed, epoch: epoch, step: step, sample: sample, view: 0)
        try bytes.with(record) { bytes in
          try maker.make(bytes, record, key, decode) { kind, index in
            let group = slot.batch.groups[kind]
            return group.pixels + (index * positions.count + i) * group.length
          }
        }
        for (kind, group) in zip(views.kinds, slot.batch.groups) {
          guard let targets = group.targets else { continue }
          for index in 0..<kind.recipe.count {
            targets[index * positions.count + i] = Int32(kind.target(index: index, key))
          }
        }
      } catch {
        return (i, LoadError(sample: sample, source.name(sample), error))
      }
    }
    return nil
  }
}

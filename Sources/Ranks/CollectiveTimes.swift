import Threading

/// How long this rank's computing thread stood in collectives: waits for other ranks, and the polls that advance sums
/// which run beside the arithmetic.
package final class CollectiveTimes {
  private var byChannel = [0.0, 0.0, 0.0]
  /// Where set, gets the seconds of every collective but the sums of gradients: the same collectives, in the same
  /// order, on every rank.
  package var waits: [Double]?

  package init() {}

  /// Seconds since the start, over all channels.
  package var seconds: Double { byChannel.reduce(0, +) }
  package func seconds(on channel: Channel) -> Double { byChannel[Int(channel.rawValue)] }

  func measure(_ channel: Channel, _ body: () -> Void) {
    let start = ContinuousClock.now
    body()
    let seconds = (ContinuousClock.now - start).seconds
    byChannel[Int(channel.rawValue)] += seconds
    if channel != .gradients { waits?.append(seconds) }
  }
}

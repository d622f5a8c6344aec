import Threading

/// Time that this rank's computing thread spent in collectives: waits for other ranks, and the polls that advance
/// overlapped sums.
package final class CollectiveTimes {
  private var byChannel = [0.0, 0.0, 0.0]
  /// If set, the seconds of every collective except the sums of gradients are appended. The collectives and their order
  /// are the same on every rank.
  package var waits: [Double]?

  /// All times are 0.
  package init() {}

  /// Seconds since the start, over all channels.
  package var seconds: Double { byChannel.reduce(0, +) }
  /// Seconds since the start, on one channel.
  package func seconds(on channel: Channel) -> Double { byChannel[Int(channel.rawValue)] }

  func measure(_ channel: Channel, _ body: () -> Void) {
    let start = ContinuousClock.now
    body()
    let seconds = (ContinuousClock.now - start).seconds
    byChannel[Int(channel.rawValue)] += seconds
    if channel != .gradients { waits?.append(seconds) }
  }
}

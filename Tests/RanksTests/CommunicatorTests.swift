import Ranks
import TestSupport
import Testing

@Suite struct CommunicatorTests {
  /// Messages of any length, including empty ones and lengths that are not multiples of a float.
  @Test(arguments: [1, 2, 5]) func everyRankGetsAllMessages(ranks: Int) {
    @Sendable func message(_ rank: Int) -> [UInt8] {
      (0..<rank * 3 % 7).map { UInt8(truncatingIfNeeded: 250 + rank + $0) }
    }
    let expected = (0..<ranks).map(message)
    #expect(Ranks.run(ranks) { $0.gather(message($0.rank)) }.allSatisfy { $0 == expected })
    #expect(SingleProcess().gather([7, 8, 9, 10, 11]) == [[7, 8, 9, 10, 11]])
  }

  /// A purpose names its layer, but the layer does not matter for equality, so a control selects it on every layer.
  @Test func purposesSayTheirLayer() {
    let purpose = CollectivePurpose.batchStatistics.of("encoder.layer3.1.bn2")
    #expect(purpose.description == "batch statistics of encoder.layer3.1.bn2")
    #expect(purpose == .batchStatistics && purpose != .gatheredGradient)
    #expect("gradients" as CollectivePurpose == "gradients" && "gradients" as CollectivePurpose != "gradient")
  }

  @Test func pretendedRanksAreOnPaper() {
    let rank = PretendedRanks(3, of: 8)
    #expect(rank.rank == 3 && rank.size == 8 && rank.ranksOnNode == 8 && rank.times == nil)
  }
}

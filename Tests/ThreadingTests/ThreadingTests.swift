import Synchronization
import Testing
import Threading

@Suite struct ThreadTeamTests {
  @Test(arguments: [1, 2, 3, 8]) func everyBlockRunsOnce(count: Int) {
    let team = ThreadTeam(count: count)
    for blocks in [0, 1, 2, 7, 1000] {
      let runs = UnsafeMutablePointer<Int>.allocate(capacity: blocks + 1)
      runs.initialize(repeating: 0, count: blocks + 1)
      defer { runs.deallocate() }
      let strangers = Atomic<Int>(0)
      team.run(blocks) { block, thread in
        runs[block] += 1
        if !(0..<count).contains(thread) { strangers.wrappingAdd(1, ordering: .relaxed) }
      }
      #expect((0..<blocks).allSatisfy { runs[$0] == 1 })
      #expect(strangers.load(ordering: .relaxed) == 0)
    }
  }

  @Test func someProcessorIsBound() { #expect(!boundProcessors().isEmpty) }
}

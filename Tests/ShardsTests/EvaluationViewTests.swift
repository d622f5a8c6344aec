import Foundation
import Randomness
import Shards
import Testing
import Threading

@Suite struct ScaledDecodeTests {
  /// A picture of 320 x 240 whose red is x/319 and whose green is y/239: a view shows which part it really shows.
  @Test func viewsOfAScaledDecodeShowTheSamePlace() throws {
    let file = Bundle.module.resourceURL!.appendingPathComponent("Fixtures/augmentation/place.jpg")
    let bytes = [UInt8](try Data(contentsOf: file))
    let record = ImageRecord(length: bytes.count, width: 320, height: 240, channels: 3, encoding: .jpeg, colour: 3)
    let recipes = [
      ViewRecipe(count: 2, size: 24, operations: [Crop(scale: Bounds(0.3, 1), interpolation: .bicubic)]),
      ViewRecipe(count: 2, size: 10, operations: [Crop(scale: Bounds(0.05, 0.2))]),
    ]
    let views = try Views(recipes, channels: 3, mean: [], deviation: [])
    let maker = ViewMaker(views)
    let sizes = recipes.map { $0.count * $0.size * $0.size * 3 }
    let starts = [0, sizes[0]]
    func make(_ mode: DecodeMode, _ sample: Int) throws -> [Float] {
      var out = [Float](repeating: .nan, count: sizes.reduce(0, +))
      try out.withUnsafeMutableBufferPointer { out in
        try bytes.withUnsafeBytes {
          try maker.make($0, record, ViewKey(seed: 1, epoch: 0, step: 0, sample: sample, view: 0), mode) {
            out.baseAddress! + starts[$0] + $1 * recipes[$0].size * recipes[$0].size * 3
          }
        }
      }
      return out
    }
    var differ = false
    for sample in 0..<40 {
      let full = try make(.full, sample)
      let scaled = try make(.scaled, sample)
      let off = zip(full, scaled).map { abs($0 - $1) }.max()!
      // Smooth colours are the same at M/8 but for JPEG's own rounding; a place wrong by one pixel of 8/M would be
      // up to 8/239.
      #expect(off < 4.0 / 255, "sample \(sample): \(off * 255)/255")
      differ = differ || off > 0
    }
    #expect(differ, "nothing was decoded at a smaller scale")
    // The views of an image are different crops.
    let crops = try make(.full, 1)
    #expect(crops[..<(sizes[0] / 2)] != crops[(sizes[0] / 2)..<sizes[0]])
  }
}

@Suite struct EvaluationViewTests {
  @Test func sameOnAnyTeamAndInRange() throws {
    let source = MemorySource(count: 60)
    let samples = [3, 59, 3] + Array(10..<50)
    func views(_ threads: Int, _ view: EvaluationView) throws -> [Float] {
      var out = [Float](repeating: .nan, count: samples.count * 100 * 3)
      try out.withUnsafeMutableBufferPointer {
        try view.fill(source, samples: samples, into: $0.baseAddress!, ThreadTeam(count: threads))
      }
      return out
    }
    for margin in [nil, 8.0 / 7] {
      let view = EvaluationView(size: 10, margin: margin, normalise: .none)
      let one = try views(1, view)
      let three = try views(3, view)
      #expect(one == three)
      #expect(one.allSatisfy { 0 <= $0 && $0 <= 1 })
      #expect(one[..<300] == one[600..<900] && one[..<300] != one[300..<600])
    }
  }

  @Test func namesADamagedSample() throws {
    let source = MemorySource(count: 60, damaged: [41, 20])
    var out = [Float](repeating: 0, count: 60 * 300)
    let error = #expect(throws: LoadError.self) {
      try out.withUnsafeMutableBufferPointer {
        try EvaluationView(size: 10).fill(source, samples: Array(0..<60), into: $0.baseAddress!, ThreadTeam(count: 2))
      }
    }
    #expect(error?.sample == 20)
  }
}

import Foundation
import Randomness
import Shards
import Testing
import Threading

@Suite struct ScaledDecodeTests {
  /// The image has 320 x 240 pixels with red x/319 and green y/239, so that a view's colours show its place.
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
      // Smooth colours are the same at M/8 up to JPEG's rounding; an error of one pixel of 8/M would be up to
      // 8/239.
      #expect(off < 4.0 / 255, "sample \(sample): \(off * 255)/255")
      differ = differ || off > 0
    }
    #expect(differ, "nothing was decoded at a smaller scale")
    // The views of an image are different crops.
    let crops = try make(.full, 1)
    #expect(crops[..<(sizes[0] / 2)] != crops[(sizes[0] / 2)..<sizes[0]])
  }
}

@Suite struct EncoderInputTests {
  private func fill(
    _ input: EncoderInput, _ source: MemorySource, _ samples: [Int], threads: Int = 1
  ) throws -> [Float] {
    var out = [Float](repeating: .nan, count: samples.count * input.size * input.size * input.channels)
    try out.withUnsafeMutableBufferPointer {
      try input.fill(source, samples: samples, into: $0.baseAddress!, ThreadTeam(count: threads))
    }
    return out
  }

  @Test func sameOnAnyTeamAndInRange() throws {
    let source = MemorySource(count: 60)
    let samples = [3, 59, 3] + Array(10..<50)
    for margin in [nil, 8.0 / 7] {
      let input = EncoderInput(size: 10, margin: margin, channels: 3)
      let one = try fill(input, source, samples)
      let three = try fill(input, source, samples, threads: 3)
      #expect(one == three)
      #expect(one.allSatisfy { 0 <= $0 && $0 <= 1 })
      #expect(one[..<300] == one[600..<900] && one[..<300] != one[300..<600])
    }
  }

  @Test func namesADamagedSample() throws {
    let source = MemorySource(count: 60, damaged: [41, 20])
    let error = #expect(throws: LoadError.self) {
      _ = try fill(EncoderInput(size: 10, channels: 3), source, Array(0..<60), threads: 2)
    }
    #expect(error?.sample == 20)
  }

  /// The statistics of the set that is read are not used for normalisation.
  @Test func theSetThatIsReadHasNoSay() throws {
    let plain = MemorySource(count: 20)
    let other = MemorySource(count: 20, mean: 0.9, deviation: 0.01)
    let view = ViewRecipe(size: 10, operations: [Crop(), Normalise.dataset])
    let input = EncoderInput(view, mean: plain.mean, deviation: plain.deviation)
    #expect(input.mean == [0.4, 0.4, 0.4] && input.deviation == [0.2, 0.2, 0.2])
    let first = try fill(input, plain, [1, 2, 3])
    #expect(try fill(input, other, [1, 2, 3]) == first)
    let raw = try fill(EncoderInput(size: 10, channels: 3), plain, [1, 2, 3])
    for (value, normalised) in zip(raw, first) { #expect((value - 0.4) * Float(1 / 0.2) == normalised) }
  }

  /// Every kind of normalisation is resolved to numbers, and the view uses the same numbers.
  @Test(arguments: [
    (Normalise.dataset, [0.1, 0.2, 0.3], [0.5, 1, 0.25]),
    (.imagenet, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    (.explicit(mean: [1, 2, 3], deviation: [4, 5, 6]), [1, 2, 3], [4, 5, 6]),
    (.none, [0, 0, 0], [1, 1, 1]),
  ]) func normalisationBecomesNumbers(_ normalise: Normalise, _ mean: [Double], _ deviation: [Double]) throws {
    let view = ViewRecipe(size: 96, operations: [Crop(), Flip(), normalise])
    // The second channel is constant.
    let set = (mean: [0.1, 0.2, 0.3], deviation: [0.5, 0, 0.25])
    let input = EncoderInput(view, mean: set.mean, deviation: set.deviation)
    #expect(input == EncoderInput(size: 96, margin: 8.0 / 7, mean: mean, deviation: deviation))
    #expect(try EncoderInput(json: input.json) == input)
    let resolved = view.resolved(mean: set.mean, deviation: set.deviation)
    #expect(resolved.operations.dropLast() == view.operations.dropLast())
    #expect(normalise == .none || resolved.normalise == .explicit(mean: mean, deviation: deviation))
  }

  @Test(arguments: [
    #"{"size":0,"margin":0,"interpolation":"bilinear","mean":[0],"deviation":[1]}"#,
    #"{"size":8,"margin":0.5,"interpolation":"bilinear","mean":[0],"deviation":[1]}"#,
    #"{"size":8,"margin":0,"interpolation":"bilinear","mean":[0,0],"deviation":[1]}"#,
    #"{"size":8,"margin":0,"interpolation":"bilinear","mean":[0],"deviation":[0]}"#,
    #"{"size":8,"margin":0,"interpolation":"bilinear","mean":[],"deviation":[]}"#,
  ]) func senselessNumbersAreRefused(_ json: String) {
    #expect(throws: DecodingError.self) { _ = try EncoderInput(json: json) }
  }
}

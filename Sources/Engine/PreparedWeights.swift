import Foundation

/// Weights in the forms that kernels want; owned by a `NetworkState`. A form is made anew when a pass first asks for it
/// after the parameters have changed, by the calling thread's team, before that pass's blocks.
package final class PreparedWeights {
  private struct Form {
    let data: UnsafeMutablePointer<Float>, count: Int
    /// Of the parameters that it was made from; none at first.
    var version: Int?
  }

  /// By place in the slab.
  private var forms: [Int: Form] = [:]
  /// How many forms were made so far.
  package private(set) var refreshed = 0

  package init() {}

  deinit { for form in forms.values { UnsafeMutableRawPointer(form.data).deallocate() } }

  /// Memory held, in bytes. Known after a dry run, which allocates without making.
  package var bytes: Int { forms.values.reduce(0) { $0 + $1.count * MemoryLayout<Float>.stride } }

  /// G g Gᵀ of a 3×3 weight (3, 3, C, K): 36 matrices (C, K), `WinogradConvolution.step` apart.
  func winograd(_ weight: Slice, of parameters: ParameterSlab, _ context: Context) -> UnsafePointer<Float> {
    let count = weight.count / 9, step = WinogradConvolution.step(count)
    var form = forms[weight.offset] ?? Self.allocate(Winograd.points * step)
    if form.version != parameters.version {
      let part = 1 << 12, w = parameters[weight], data = form.data
      context.scratch { arena in
        let work = arena.array(of: Winograd.Lanes.self, count: context.team.count * 2 * Winograd.points).baseAddress!
        context.run(pieces(count, of: part)) { index, thread in
          let range = piece(index, of: part, in: 0..<count)
          Winograd.transformWeights(
            w, range, count: count, into: data, step: step, work + thread * 2 * Winograd.points)
        }
      }
      if !context.isDry { (form.version, refreshed) = (parameters.version, refreshed + 1) }
      forms[weight.offset] = form
    }
    return UnsafePointer(form.data)
  }

  private static func allocate(_ count: Int) -> Form {
    let bytes = count * MemoryLayout<Float>.stride
    let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    return Form(data: memory.bindMemory(to: Float.self, capacity: count), count: count)
  }
}

/// Checks every layer's output and remembers the first layer whose output is not finite. A bad step is replayed with
/// it, to name the layer.
package final class Watch {
  /// The layer, and the number of layers before it.
  package private(set) var found: (layer: String, position: Int)?
  private var position = 0

  package init() {}

  package func look(at tensor: Tensor, _ layer: @autoclosure () -> String) {
    defer { position += 1 }
    guard found == nil else { return }
    if tensor.buffer.contains(where: { !$0.isFinite }) { found = (layer(), position) }
  }
}

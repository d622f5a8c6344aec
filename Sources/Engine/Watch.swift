/// Looks at every layer's output and keeps the first that is not finite. Used to replay a bad step and name the layer.
package final class Watch {
  /// The layer, and how many layers came before it.
  package private(set) var found: (layer: String, position: Int)?
  private var position = 0

  package init() {}

  package func look(at tensor: Tensor, _ layer: @autoclosure () -> String) {
    defer { position += 1 }
    guard found == nil else { return }
    if tensor.buffer.contains(where: { !$0.isFinite }) { found = (layer(), position) }
  }
}

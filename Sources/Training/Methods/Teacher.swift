import Engine
import Shards

/// A network that a method asks and does not train: its state never changes, and no gradient reaches it.
///
/// Run it with `network.forward(x, tap: …, Pass(context, state, .inference, groups))`.
package final class Teacher {
  /// Encoder and heads, as the stage that trained them had them.
  package let network: Network
  /// Its weights, once `StageRun.loadTeachers` has read them.
  package let state: NetworkState
  /// What its encoder was fed.
  package let input: EncoderInput
  /// Where the scores of classes come out of it, and the classes' names; nil and empty where it tells none.
  package let classScores: Network.Tap?, classNames: [String]

  package init(
    _ network: Network, input: EncoderInput, classScores: Network.Tap? = nil, classNames: [String] = []
  ) {
    self.network = network
    self.input = input
    self.classScores = classScores
    self.classNames = classNames
    state = network.makeState()
  }

  /// Bytes of its weights on a rank.
  package var bytes: Int { state.bytes }
}

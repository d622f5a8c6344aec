/// What of a network trains, and how fast. Of several rules that cover a parameter, the last one that says something
/// holds. Examples: `Rule(.encoder, trains: false)` freezes the encoder; `Rule("classifier", rate: 100)` lets the
/// classifier learn a hundred times as fast; `Rule(kinds: [.mean, .variance], trains: false)` keeps the running
/// statistics, which every normalisation then runs by.
package struct Rule: Hashable, Sendable {
  /// The part that it is for; nil for the whole network.
  package var part: PartName?
  /// The kinds of parameters that it is for; nil for all, the running statistics among them.
  package var kinds: Set<ParameterKind>?
  /// Whether they are changed by training.
  package var trains: Bool?
  /// Factor on the learning rate.
  package var rate: Float?
  /// Factor on the weight decay.
  package var decay: Float?
  /// Whether an optimizer that adapts its rate layer by layer (LARS) does so here.
  package var adapts: Bool?

  package init(
    _ part: PartName? = nil, kinds: Set<ParameterKind>? = nil, trains: Bool? = nil, rate: Float? = nil,
    decay: Float? = nil, adapts: Bool? = nil
  ) {
    for (factor, what) in [(rate, "learning rate"), (decay, "weight decay")] {
      precondition(factor.map { $0 >= 0 && $0.isFinite } ?? true, "a factor of \(factor!) on the \(what)")
    }
    self.part = part
    self.kinds = kinds
    self.trains = trains
    self.rate = rate
    self.decay = decay
    self.adapts = adapts
  }

  package func covers(_ parameter: String, _ kind: ParameterKind) -> Bool {
    (part?.covers(parameter) ?? true) && (kinds?.contains(kind) ?? true)
  }
}

/// How long a stage is, once the data set and the batch are known.
package struct RunPlan: Sendable, Equatable {
  package let stepsPerEpoch: Int, batch: Int, totalSteps: Int

  package init(stepsPerEpoch: Int, batch: Int, length: Length) {
    self.stepsPerEpoch = stepsPerEpoch
    self.batch = batch
    totalSteps = length.steps(stepsPerEpoch: stepsPerEpoch, batch: batch, total: 0)
  }

  package func steps(_ length: Length) -> Int {
    length.steps(stepsPerEpoch: stepsPerEpoch, batch: batch, total: totalSteps)
  }
}

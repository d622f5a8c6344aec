import Engine
import Shards
import Training

extension Teacher {
  /// Teachers of a stage, each a classifier with the stage's encoder and drawn weights; none where its method has none.
  static func drawn(for stage: Stage, _ input: EncoderInput, classes: Int, names: [String] = []) -> [Teacher] {
    var supervised = Supervised()
    supervised.classifier.deviation = .of(0.3)
    let options = stage.encoder.options(channels: input.channels)
    return stage.method.value.teachers.map { _ in
      let network = Network(options, heads: supervised.heads(features: options.features, classes: classes))
      let teacher = Teacher(network, input: input, classScores: supervised.classScores, classNames: names)
      teacher.state.initialise(seed: 77)
      return teacher
    }
  }

  /// Those that tell the classes of a data set and see the stage's views.
  static func drawn(for stage: Stage, _ data: DataSet) -> [Teacher] {
    let input = EncoderInput(stage.views[0], mean: data.mean, deviation: data.deviation)
    return drawn(for: stage, input, classes: data.classNames.count, names: data.classNames)
  }
}

import ArgumentParser
import Engine
import Foundation
import Training

struct ReplicasCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replicas",
    abstract: "Show that results do not depend on the number of ranks; Scripts/check-ranks uses it.",
    subcommands: [Make.self, Compare.self])

  struct Make: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run a few steps and write what they computed.")
    @Argument(help: "A recipe's name or file.") var recipe: String
    @Option(help: "A packed data set.") var data: String
    @Option(help: "The file to write.") var out: String
    @Option(help: "Of a recipe of several stages: the one to run, from other runs or files (default: the first).")
    var stage: String?
    @Option(help: "Steps.") var steps = 20
    @Option(help: "Move every initial weight by one ulp, up or down as drawn with this seed.") var perturb: UInt64?
    @Option(
      help: "Compute wrongly on purpose: \(ReplicaCheck.Control.allCases.map(\.rawValue).joined(separator: ", ")).")
    var control: String?
    @Option(name: .customLong("set"), help: "Override a field of the recipe. Can be repeated.") var overrides:
      [String] = []
    @Option(help: "Compute threads of each rank.") var threads: Int?

    func validate() throws {
      guard (1...1_000_000).contains(steps) else {
        throw ValidationError("--steps is \(steps); it must be 1 to 1000000")
      }
      if let control, ReplicaCheck.Control(rawValue: control) == nil {
        throw ValidationError("there is no control `\(control)`")
      }
    }

    func run() throws {
      try Job.run(threads: threads) { context in
        let control = control.flatMap(ReplicaCheck.Control.init)
        var used = context
        if control == .unsummedGather {
          used = Context(threads: context.team.count, communicator: UnsummedGather(context.communicator))
        }
        let recipe = try Recipe(recipe, overrides: overrides)
        let check = try ReplicaCheck.make(
          recipe, stage: stage, data: data, steps: steps, perturbation: perturb, control: control, used)
        if context.communicator.isRoot { try check.write(out) }
      }
    }
  }

  struct Compare: PrintsResults {
    static let configuration = CommandConfiguration(
      abstract: "Hold results against the first, in multiples of what one ulp in the initial weights does.")
    @Argument(help: "The results to compare with, of one rank.") var base: String
    @Argument(help: "Results that must agree with it.") var others: [String]
    @Option(help: "Perturbed results of one rank. Can be repeated.") var ulp: [String] = []
    @Option(help: "Results that must not agree: they must miss the bound tenfold. Can be repeated.") var control:
      [String] = []
    @Option(help: "Multiples of the drift of one ulp that are allowed.") var bound = 4.0
    @Option(help: "Share of their norm that the weights must have moved by.") var move = 0.01

    func validate() throws {
      guard bound > 0, bound.isFinite else { throw ValidationError("--bound is \(bound); it must be above 0") }
      guard move >= 0, move.isFinite else { throw ValidationError("--move is \(move); it must be 0 or more") }
    }

    func run() throws {
      let base = try ReplicaCheck(base)
      let ulps = try ulp.map { try ReplicaCheck($0).drift(from: base) }
      var failed = base.moved < move
      print(
        "weights moved by \((base.moved * 100).formatted(2)) % (at least \((move * 100).formatted(2)) %)"
          + (failed ? ": too little to mean something" : "")
      )
      print("in multiples of one ulp's drift:      gradients    losses   weights   bound \(bound.formatted(1))")
      for (paths, isControl) in [(others, false), (control, true)] {
        for path in paths {
          let r = try ReplicaCheck(path).drift(from: base).ratios(to: ulps, base)
          let worst = max(r.gradients, r.losses, r.weights)
          let isRight = isControl ? worst >= 10 * bound : worst <= bound
          if !isRight { failed = true }
          let name = String(path.split(separator: "/").last ?? "")
          print(
            name.padding(toLength: 34, withPad: " ", startingAt: 0)
              + [r.gradients, r.losses, r.weights].map {
                String(repeating: " ", count: max(0, 10 - $0.formatted(2).count)) + $0.formatted(2)
              }.joined()
              + (isControl ? (isRight ? "   misses, as it must" : "   NOT NOTICED") : (isRight ? "" : "   TOO FAR")))
        }
      }
      if failed { throw ExitCode.failure }
    }
  }
}

extension Double {
  fileprivate func formatted(_ digits: Int) -> String { String(format: "%.\(digits)f", self) }
}

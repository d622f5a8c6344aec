import ArgumentParser
import Shards

struct ShardCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shard",
    abstract: "Spread a data set over other shards or split it, without encoding anything again.")

  @Argument(help: "Data set.") var input: String
  @Argument(help: "Folder to write; must not exist.") var out: String
  @Option(help: "Image bytes of a shard at most.") var shardSize = ByteSize(argument: "1GiB")!
  @Option(help: "Hold out this share of the images (10% or 0.1), by a hash of each key: writes OUT/train and OUT/test.")
  var split: Share?
  @Flag(help: "Replace OUT where it holds a data set and nothing else.") var force = false

  func run() throws {
    try interruptible {
      let set = try DataSet(at: input)
      let line = ProgressLine("copying")
      let sets = try Resharder(set).write(
        to: out, shardSize: shardSize.bytes, split: split?.fraction, force: force
      ) { line.show(done: $0.done, total: $0.total, note: byteText($0.bytes)) }
      for set in sets { print("wrote " + summary(set)) }
      if sets.count > 1 { try tellDuplicates(sets) }
    }
  }
}

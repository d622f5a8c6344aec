import Foundation

/// Something that a test needs is missing on this machine.
struct Missing: Error, CustomStringConvertible { let description: String }

/// A running command. Its output goes to a file, so that it never waits for a reader.
final class Job {
  private let process = Process()
  private let log: String
  private let start = ContinuousClock.now
  /// A text in the command line of all its processes.
  private let mark: String

  /// Path of the program, next to the tests.
  static let apus: String = {
    let tests =
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    return (tests as NSString).deletingLastPathComponent + "/apus"
  }()

  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  private static func find(_ program: String) throws -> String {
    if program.hasPrefix("/") { return program }
    for folder in (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":") {
      let path = "\(folder)/\(program)"
      if FileManager.default.isExecutableFile(atPath: path) { return path }
    }
    throw Missing(description: "\(program) is not there: Scripts/install --tests installs what the tests need")
  }

  /// Starts `apus`.
  /// - Parameters:
  ///   - ranks: number of ranks under `mpirun`; nil to run without it.
  ///   - wrapper: a program and its arguments through which the command is started.
  ///   - folder: the test's folder, which identifies the processes of this job.
  init(_ arguments: [String], ranks: Int? = nil, wrapper: [String] = [], in folder: String) throws {
    guard FileManager.default.isExecutableFile(atPath: Self.apus) else {
      throw Missing(description: "\(Self.apus) is not there: swift build -c release --build-tests builds it")
    }
    var words = [Self.apus] + arguments
    if let ranks { words = ["mpirun", "-n", "\(ranks)"] + words }
    words = wrapper + words
    mark = folder
    log = folder + "/job-\(UUID().uuidString).log"
    _ = FileManager.default.createFile(atPath: log, contents: nil)
    process.executableURL = URL(fileURLWithPath: try Self.find(words[0]))
    process.arguments = Array(words.dropFirst())
    process.environment = ProcessInfo.processInfo.environment.merging([
      "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
      "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_hwloc_base_binding_policy": "none", "TERM": "dumb",
    ]) { $1 }
    process.standardInput = FileHandle.nullDevice
    let sink = FileHandle(forWritingAtPath: log)
    process.standardOutput = sink
    process.standardError = sink
    try Self.withoutBlockedSignals(process.run)
  }

  /// Unblocks all signals while `body` starts a process. Threads of tests block signals, which the process would
  /// inherit and `mpirun` does not reset.
  private static func withoutBlockedSignals(_ body: () throws -> Void) rethrows {
    var none = sigset_t()
    var before = sigset_t()
    sigemptyset(&none)
    pthread_sigmask(SIG_SETMASK, &none, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
    try body()
  }

  deinit { end() }

  var output: String { String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self) }
  var isRunning: Bool { process.isRunning }
  var launcher: Int32 { process.processIdentifier }

  /// The processes that the launcher started.
  var ranks: [Int32] { Job.processes.filter { parent(of: $0) == launcher } }

  private static var processes: [Int32] {
    ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap(Int32.init)
  }

  private func parent(of process: Int32) -> Int32? {
    guard let data = FileManager.default.contents(atPath: "/proc/\(process)/stat") else { return nil }
    // pid (name) state ppid …; the name may contain any characters.
    let fields = String(decoding: data, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
    return fields.count > 1 ? Int32(fields[1]) : nil
  }

  /// Processes of the job that still exist.
  private var remains: [Int32] {
    Job.processes.filter {
      $0 != getpid()
        && String(decoding: FileManager.default.contents(atPath: "/proc/\($0)/cmdline") ?? Data(), as: UTF8.self)
          .contains(mark)
    }
  }

  private func end() { for process in remains { kill(process, SIGKILL) } }

  /// Waits until a condition holds or the job ends.
  /// - Returns: whether it holds.
  func wait(until condition: () -> Bool) -> Bool {
    while process.isRunning {
      if condition() { return true }
      usleep(2000)
    }
    return condition()
  }

  struct Outcome { let status: Int32, output: String, seconds: Double }

  /// Waits until all processes of the job have ended. After the time limit they are killed, and the status is a
  /// failure.
  /// - Parameter origin: start of the time limit (default: the start of the job).
  func outcome(from origin: ContinuousClock.Instant? = nil, within seconds: Double = 120) -> Outcome {
    let origin = origin ?? start
    while process.isRunning || !remains.isEmpty, ContinuousClock.now - origin < .seconds(seconds) { usleep(5000) }
    let parts = (ContinuousClock.now - origin).components
    let hangs = process.isRunning
    end()
    process.waitUntilExit()
    return Outcome(
      status: hangs ? -1 : process.terminationStatus,
      output: output + (hangs ? "\n(killed by the test after \(seconds) s)" : ""),
      seconds: Double(parts.seconds) + Double(parts.attoseconds) * 1e-18)
  }
}

/// A test's folder, and helpers that run the program in it.
final class Workplace {
  let path: String
  /// Time limit in seconds for a failing job to end. It takes two seconds on an idle machine.
  static let soon = 20.0

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("apus-command-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func callAsFunction(_ arguments: String..., ranks: Int? = nil, wrapper: [String] = []) throws -> Job.Outcome {
    try Job(arguments, ranks: ranks, wrapper: wrapper, in: path).outcome()
  }

  /// Images of Fashion-MNIST.
  static let fashion =
    (ProcessInfo.processInfo.environment["FASHION"] ?? "/usr/share/datasets/fashion-mnist")
    + "/t10k-images-idx3-ubyte.gz"

  /// 290 + 110 images of Fashion-MNIST: the folder that holds `train` and `test`.
  func data(_ options: String...) throws -> String {
    let source = Self.fashion
    guard FileManager.default.fileExists(atPath: source) else {
      throw Missing(
        description:
          "\(source) is not there: install Debian's dataset-fashion-mnist, or set FASHION to the folder of its files")
    }
    let out = path + "/data"
    if FileManager.default.fileExists(atPath: out) { return out }
    let packed = try Job(["pack", source, out, "--limit", "400", "--split", "25%"] + options, in: path).outcome()
    guard packed.status == 0 else { throw Missing(description: "no data: \(packed.output)") }
    return out
  }

  static func recipe(_ method: String) -> String { Job.root + "/Scripts/recipes/tiny-\(method).yaml" }

  /// Starts `apus pretrain` on the tiny recipe of a method.
  /// - Parameter changes: overrides of the recipe.
  func pretrain(
    _ method: String = "simclr", ranks: Int? = 2, run: String, _ changes: [String] = [], _ options: [String] = []
  ) throws -> Job {
    try Job(
      ["pretrain", Self.recipe(method), "--data", data(), "--run", run, "--threads", "1"]
        + changes.flatMap { ["--set", $0] } + options,
      ranks: ranks, in: path)
  }

  /// Steps of a run's checkpoints.
  func checkpoints(_ run: String) -> [Int] {
    ((try? FileManager.default.contentsOfDirectory(atPath: run + "/checkpoints")) ?? [])
      .filter { $0.hasPrefix("step-") }.compactMap { Int($0.dropFirst(5)) }.sorted()
  }

  func isComplete(_ run: String) -> Bool { FileManager.default.fileExists(atPath: run + "/complete") }

  /// Losses by step, in the order of `metrics.jsonl`.
  func losses(_ run: String) throws -> [(step: Int, loss: Double)] {
    let text = try String(contentsOfFile: run + "/metrics.jsonl", encoding: .utf8)
    return try text.split(separator: "\n").compactMap {
      guard let line = try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any],
        let step = line["step"] as? Int
      else {
        throw Missing(description: "no line of metrics: \($0)")
      }
      return (line["loss"] as? Double).map { (step, $0) }
    }
  }
}

import Foundation
import Limits
import Testing

/// A machine as described by files in a temporary root.
private final class Machine {
  let root = NSTemporaryDirectory() + "apus-limits-\(UUID().uuidString)"
  deinit { try? FileManager.default.removeItem(atPath: root) }

  func write(_ path: String, _ text: String) throws {
    let file = URL(fileURLWithPath: root + path)
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try text.write(to: file, atomically: true, encoding: .utf8)
  }

  /// Creates a control group of version 2.
  func group(_ path: String, max: String, current: Int, inactive: Int) throws {
    try write(path + "/memory.max", max + "\n")
    try write(path + "/memory.current", "\(current)\n")
    try write(path + "/memory.stat", "anon 7\nfile 9\nactive_file 1\ninactive_file \(inactive)\nslab 3\n")
  }
}

@Suite struct LimitsTests {
  private static let gigabyte = 1 << 30

  /// Slurm's limit is on the job's group, above the task's; limits of sibling groups do not count. Page cache does not
  /// count as used.
  @Test func nestedGroupsOfTheSecondVersion() throws {
    let machine = Machine()
    let job = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"
    try machine.write("/proc/self/cgroup", "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n")
    try machine.write("/proc/meminfo", "MemTotal: 99999999 kB\nMemAvailable:   67108864 kB\n")
    try machine.group(job, max: "\(4 * Self.gigabyte)", current: 3 * Self.gigabyte, inactive: 2 * Self.gigabyte)
    try machine.group(job + "/step_0", max: "max", current: 3 * Self.gigabyte, inactive: 0)
    try machine.group(job + "/step_1", max: "1", current: 0, inactive: 0)
    let room = try #require(MemoryRoom.ofNode(root: machine.root))
    #expect(room.bytes == Int64(3 * Self.gigabyte))
    #expect(room.bound == " of the 4096 MiB that \(job)/memory.max allows" && room.advice.contains("--mem"))
  }

  @Test func groupsOfTheFirstVersion() throws {
    let machine = Machine()
    let folder = "/sys/fs/cgroup/memory/slurm/uid_0/job_7"
    try machine.write("/proc/self/cgroup", "11:cpuset:/slurm/uid_0\n4:memory,hugetlb:/slurm/uid_0/job_7/step_0\n")
    try machine.write("/proc/meminfo", "MemAvailable: 67108864 kB\n")
    for (path, limit) in [(folder, "2147483648"), (folder + "/step_0", "9223372036854771712")] {
      try machine.write(path + "/memory.limit_in_bytes", limit + "\n")
      try machine.write(path + "/memory.usage_in_bytes", "1610612736\n")
      try machine.write(path + "/memory.stat", "inactive_file 1\ntotal_inactive_file 536870912\n")
    }
    let room = try #require(MemoryRoom.ofNode(root: machine.root))
    #expect(room.bytes == 1 << 30 && room.bound == " of the 2048 MiB that \(folder)/memory.limit_in_bytes allows")
  }

  /// A container sees its own group as the root, while /proc may name the group by the host's path.
  @Test func aContainerSeesItsRoot() throws {
    let machine = Machine()
    try machine.write("/proc/self/cgroup", "0::/../docker/abc\n")
    try machine.write("/proc/meminfo", "MemAvailable: 67108864 kB\n")
    try machine.group("/sys/fs/cgroup", max: "\(Self.gigabyte)", current: 1 << 20, inactive: 0)
    #expect(MemoryRoom.ofNode(root: machine.root)?.bytes == Int64(Self.gigabyte - 1 << 20))
  }

  @Test func withoutGroupsTheMachineCounts() throws {
    let machine = Machine()
    #expect(MemoryRoom.ofNode(root: machine.root) == nil)
    try machine.write("/proc/meminfo", "MemAvailable: 1024 kB\n")
    #expect(MemoryRoom.ofNode(root: machine.root) == MemoryRoom(bytes: 1 << 20, bound: "", advice: ""))
    #expect(MemoryRoom.ofNode() != nil)
  }

  /// The smaller limit counts, minus what the process already uses.
  @Test func addressesAreLimitedToo() throws {
    let machine = Machine()
    try machine.write("/proc/self/status", "VmPeak: 9 kB\nVmSize:   512000 kB\nVmData:  1024 kB\n")
    let limits = ProcessLimits(addressSpace: 1 << 30, data: 1 << 34)
    let room = try #require(MemoryRoom.ofProcess(limits, root: machine.root))
    #expect(room.bytes == 1 << 30 - 512_000 << 10 && room.bound == " of the 1024 MiB of ulimit -v")
    #expect(MemoryRoom.ofProcess(ProcessLimits(), root: machine.root) == nil)
    let data = MemoryRoom.ofProcess(ProcessLimits(addressSpace: 1 << 40, data: 2 << 20), root: machine.root)
    #expect(data?.bytes == 1 << 20 && data?.bound == " of the 2 MiB of ulimit -d")
  }

  @Test func openFilesAreRaisedToTheHardLimit() {
    ProcessLimits.raiseOpenFiles(to: 1 << 16)
    var limit = rlimit()
    getrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit)
    #expect(limit.rlim_cur >= min(limit.rlim_max, 1 << 16))
  }
}

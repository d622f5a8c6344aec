// swift-tools-version: 6.1
import Foundation
import PackageDescription

// MARK: Foreign libraries

/// Compiler and linker flags of a C library, asked of `pkg-config` and then of a compiler wrapper.
/// - Parameters:
///   - names: pkg-config's names for the library, the first that exists is taken.
///   - wrapper: a compiler wrapper whose `-show` prints the flags (MPI's `mpicc`), for clusters without `.pc` files.
///   - fallback: what to link where neither is there; the linker then says what is missing.
func foreign(_ names: [String], wrapper: String? = nil, fallback: String) -> (compile: [String], link: [String]) {
  func output(_ arguments: [String]) -> [String]? {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { return nil }
    return text.split(whereSeparator: \.isWhitespace).map(String.init)
  }
  for name in names {
    if let compile = output(["pkg-config", "--cflags", name]), let link = output(["pkg-config", "--libs", name]) {
      // A distribution's hardening flags are for its own packages; Swift's driver does not know them.
      return (compile, link.filter { !$0.hasPrefix("-Wl,") })
    }
  }
  if let wrapper, let flags = output([wrapper, "-show"]) {
    return (flags.filter { $0.hasPrefix("-I") }, flags.filter { $0.hasPrefix("-L") || $0.hasPrefix("-l") })
  }
  return ([], ["-l" + fallback])
}

func target(_ name: String, wraps flags: (compile: [String], link: [String])) -> Target {
  .target(
    name: name,
    cSettings: [.unsafeFlags(["-O2"] + flags.compile)],
    linkerSettings: [.unsafeFlags(flags.link)])
}

let environment = ProcessInfo.processInfo.environment
let mpi = foreign(
  environment["APUS_MPI"].map { [$0] } ?? ["mpi-c", "ompi-c", "mpich"], wrapper: "mpicc", fallback: "mpi")

// MARK: Instruction set

// The instruction set of Swift's SIMD types, and of the check of the processor. `APUS_CPU=native` is for a build that
// stays on one machine.
#if arch(x86_64)
  let baseline = environment["APUS_CPU"] ?? "x86-64-v3"
  let instructions = ["-march=\(baseline)"]
#else
  let baseline = environment["APUS_CPU"] ?? "generic"
  let instructions = environment["APUS_CPU"].map { ["-mcpu=\($0)"] } ?? []
#endif

let swift: [SwiftSetting] = [.unsafeFlags(instructions.flatMap { ["-Xcc", $0] })]
/// Kernels are optimised in debug builds too, so that tests stay fast.
let kernels: [SwiftSetting] = swift + [.unsafeFlags(["-O"], .when(configuration: .debug))]

// MARK: Static runtime

// `APUS_STATIC=1` links Swift's runtime and Foundation into the program, so that compute nodes need no toolchain.
// Unlike `--static-swift-stdlib` it recompiles nothing. Test bundles cannot have it: Swift Testing is dynamic.
let foundation = [
  "Foundation", "CoreFoundation", "FoundationEssentials", "FoundationInternationalization", "_FoundationCShims",
  "_FoundationCollections", "_FoundationICU", "dispatch", "BlocksRuntime",
]
let runtime: [LinkerSetting] =
  environment["APUS_STATIC"] == nil ? [] : [.unsafeFlags(["-static-stdlib"] + foundation.map { "-l" + $0 })]

let package = Package(
  name: "apus",
  products: [.executable(name: "apus", targets: ["apus"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // C waists: one foreign library each, no foreign type in the header.
    .target(
      name: "CSystem", cSettings: [.define("APUS_BASELINE", to: "\"\(baseline)\""), .unsafeFlags(instructions)]),
    .target(name: "CKernels", cSettings: [.unsafeFlags(["-O2"])]),
    target("CMPI", wraps: mpi),
    target("CHDF5", wraps: foreign(["hdf5", "hdf5-serial"], wrapper: "h5cc", fallback: "hdf5")),
    target("CJPEG", wraps: foreign(["libjpeg"], fallback: "jpeg")),
    target("CPNG", wraps: foreign(["libpng"], fallback: "png")),
    target("CZlib", wraps: foreign(["zlib"], fallback: "z")),
    target("COpenBLAS", wraps: foreign(["openblas"], fallback: "openblas")),

    .target(name: "Randomness", swiftSettings: kernels),
    .target(name: "Files", dependencies: ["CSystem"], swiftSettings: kernels),
    .target(name: "Limits", swiftSettings: kernels),
    .target(name: "Threading", dependencies: ["CSystem"], swiftSettings: kernels),
    .target(name: "Ranks", dependencies: ["Files", "Threading", "CMPI", "CSystem"], swiftSettings: kernels),
    .target(name: "HDF5", dependencies: ["CHDF5", "Files"], swiftSettings: kernels),
    .target(
      name: "Shards",
      dependencies: [
        "Randomness", "Files", "Threading", "Limits", "Ranks", "HDF5", "CJPEG", "CPNG", "CZlib", "CSystem",
      ],
      swiftSettings: kernels),
    .target(
      name: "Engine", dependencies: ["Randomness", "Threading", "Limits", "Ranks", "COpenBLAS", "CKernels", "CSystem"],
      swiftSettings: kernels),
    .target(
      name: "Training",
      dependencies: [
        "Shards", "Engine", "Files", "Limits", "HDF5", "CPNG", "CZlib", "CSystem", "COpenBLAS", "Yams",
      ],
      resources: [.embedInCode("Recipes")], swiftSettings: kernels),
    .executableTarget(
      name: "apus",
      dependencies: [
        "Training", "Files", "Limits", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swift, linkerSettings: runtime),

    // Counts allocations; linked into the tests alone.
    .target(name: "CAllocations", path: "Tests/CAllocations"),
    // What several tests stand on, such as ranks that are threads.
    .target(name: "TestSupport", dependencies: ["Ranks"], path: "Tests/TestSupport", swiftSettings: swift),
    .testTarget(name: "RandomnessTests", dependencies: ["Randomness"], swiftSettings: swift),
    .testTarget(name: "FilesTests", dependencies: ["Files"], swiftSettings: swift),
    .testTarget(name: "LimitsTests", dependencies: ["Limits"], swiftSettings: swift),
    .testTarget(name: "ThreadingTests", dependencies: ["Threading", "CSystem"], swiftSettings: swift),
    .testTarget(name: "RanksTests", dependencies: ["Ranks", "Randomness", "TestSupport"], swiftSettings: swift),
    .testTarget(name: "HDF5Tests", dependencies: ["Files", "HDF5"], swiftSettings: swift),
    .testTarget(
      name: "ShardsTests", dependencies: ["Files", "Shards"], resources: [.copy("Fixtures")], swiftSettings: swift),
    .testTarget(name: "EngineTests", dependencies: ["Engine", "TestSupport"], swiftSettings: swift),
    .testTarget(
      name: "TrainingTests", dependencies: ["Training", "CAllocations", "CPNG", "CZlib", "TestSupport"],
      resources: [.copy("Fixtures")],
      swiftSettings: swift),
    .testTarget(name: "CommandTests", dependencies: ["apus", "Threading"], swiftSettings: swift),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11
)

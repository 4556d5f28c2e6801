// swift-tools-version: 6.2
import PackageDescription

// The C core is held to the same bar everywhere: a warning is an error.
let cSettings: [CSetting] = [
    .treatAllWarnings(as: .error),
    .enableWarning("all"), .enableWarning("extra"), .enableWarning("conversion"),
    .enableWarning("shadow"), .enableWarning("strict-prototypes"),
    .enableWarning("missing-prototypes"), .enableWarning("vla"),
    .disableWarning("nullability-extension"),
    .disableWarning("nullability-completeness"),
]

let swiftSettings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .strictMemorySafety(),
]

let testSettings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
]

func core(_ name: String, _ dependencies: [Target.Dependency] = [], libraries: [String] = [])
    -> Target
{
    .target(
        name: name, dependencies: dependencies, path: "CSources/\(name)", cSettings: cSettings,
        linkerSettings: libraries.map { .linkedLibrary($0) })
}

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: swiftSettings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.target(name: name)] + dependencies,
        swiftSettings: testSettings)
}

let targets: [Target] = [
    core("CStreamBase"),
    core("CStreamWebSocket", ["CStreamBase"]),
    core("CStreamJSON", ["CStreamBase"]),
    core("CStreamProtocol", ["CStreamWebSocket", "CStreamJSON", "CStreamBase"]),
    core("CStreamLoop", ["CStreamBase"], libraries: ["uring"]),
    core("CStreamTransport", ["CStreamBase", "CStreamWebSocket", "CStreamTLS", "CStreamLoop"]),
    core("CStreamTLS", ["CStreamBase"], libraries: ["ssl", "crypto"]),
    core("CStreamStore", ["CStreamBase"]),
    core("CStreamProcess"),
    core(
        "CStreamCore",
        [
            "CStreamProtocol", "CStreamTransport", "CStreamWebSocket", "CStreamJSON", "CStreamLoop",
            "CStreamTLS", "CStreamStore",
        ]),
    core("CStreamLoad", ["CStreamWebSocket", "CStreamJSON", "CStreamLoop", "CStreamTLS"]),
    module("StreamModel"),
    module("StreamConfig", ["StreamModel"]),
    module("StreamTriggers", ["StreamModel"]),
    module("StreamFunctions", ["StreamModel"]),
    module(
        "StreamWorkers", ["StreamConfig", "StreamFunctions", "StreamModel", "StreamTriggers"]),
    module("StreamCore", ["CStreamCore", "CStreamProcess", "StreamModel"]),
    module("StreamAdapters", ["StreamConfig", "StreamCore", "StreamModel"]),
    module(
        "IIIStream",
        [
            "StreamAdapters", "StreamConfig", "StreamCore", "StreamFunctions", "StreamModel",
            "StreamTriggers", "StreamWorkers",
        ]),
    .executableTarget(
        name: "StreamServer", dependencies: ["IIIStream", "StreamConfig", "StreamCore"],
        swiftSettings: swiftSettings),
    .executableTarget(
        name: "LoadGenerator", dependencies: ["CStreamLoad", "StreamConfig"],
        path: "Benchmarks/LoadGenerator", swiftSettings: swiftSettings),
    .target(name: "SeededRandom", path: "Tests/Support/SeededRandom", swiftSettings: testSettings),
    tests("CStreamBase", ["SeededRandom"]),
    tests("CStreamLoad"),
    .target(
        name: "CStoreSimulator", dependencies: ["CStreamStore"],
        path: "Tests/Support/CStoreSimulator",
        cSettings: cSettings),
    .testTarget(
        name: "CStreamStoreTests",
        dependencies: ["CStreamStore", "CStreamBase", "CStoreSimulator", "SeededRandom"],
        swiftSettings: testSettings),
    .target(
        name: "CNodeSimulator", dependencies: ["CStreamCore", "CStreamLoop", "CStoreSimulator"],
        path: "Tests/Support/CNodeSimulator",
        cSettings: cSettings + [.headerSearchPath("../CStoreSimulator")]),
    .testTarget(
        name: "CStreamCoreTests", dependencies: ["CNodeSimulator"], swiftSettings: testSettings),
    tests("CStreamWebSocket"),
    .target(
        name: "CTransportProbe", dependencies: ["CStreamTransport"],
        path: "Tests/Support/CTransportProbe",
        cSettings: cSettings),
    .testTarget(
        name: "CStreamTransportTests",
        dependencies: [
            "CStreamTransport", "CTransportProbe", "CStreamLoop", "CStreamWebSocket", "CStreamTLS",
            "CStreamBase",
        ],
        swiftSettings: testSettings),
    tests("CStreamProtocol"),
    tests("CStreamTLS"),
    tests("CStreamJSON", ["SeededRandom"]),
    tests("CStreamLoop", ["SeededRandom"]),
    tests("IIIStream"),
    tests("StreamModel"),
    tests("StreamConfig"),
    tests("StreamTriggers", ["StreamModel"]),
    tests("StreamFunctions", ["StreamModel"]),
    tests("StreamWorkers", ["StreamConfig", "StreamFunctions", "StreamModel", "StreamTriggers"]),
]

let package = Package(
    name: "iii-stream",
    products: [
        .library(name: "IIIStream", targets: ["IIIStream"]),
        .executable(name: "iii-stream", targets: ["StreamServer"]),
        .executable(name: "iii-stream-bench", targets: ["LoadGenerator"]),
    ],
    targets: targets,
    cLanguageStandard: .gnu17
)

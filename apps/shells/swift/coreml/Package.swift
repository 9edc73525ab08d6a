// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "ondevice-coreml",
    platforms: [.macOS("15.0"), .iOS("18.0")], // the first with states and several functions
    products: [
        .library(name: "OndeviceCoreML", targets: ["OndeviceCoreML"]),
        .executable(name: "ondevice-coreml", targets: ["OndeviceCoreMLCommand"]),
    ],
    dependencies: [
        .package(url: "https://github.com/huggingface/swift-transformers", from: "1.1.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    ],
    targets: [
        .target(
            name: "OndeviceCoreML",
            dependencies: [.product(name: "Transformers", package: "swift-transformers")],
            resources: [.copy("conversation.json")]
        ),
        .executableTarget(
            name: "OndeviceCoreMLCommand",
            dependencies: [
                "OndeviceCoreML",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]
        ),
        .testTarget(
            name: "OndeviceCoreMLTests", dependencies: ["OndeviceCoreML"], resources: [.copy("calls.json")]
        ),
    ]
)

// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "ondevice-shell",
    platforms: [.macOS(.v12)],
    targets: [.executableTarget(name: "ondevice-shell", path: "Sources/OndeviceShell")]
)

// Token ids in, logits out: the program of a package with its KV cache.

import CoreML

/// One sequence. Not to be used by several threads at once.
public final class Engine {
    public let package: ModelPackage
    /// Tokens in the KV cache.
    public private(set) var position = 0
    private let functions: [String: MLModel]
    private let state: MLState

    /// Compiles the program the first time, which takes seconds, and keeps what Core ML made of it.
    public static func load(_ package: ModelPackage, units: MLComputeUnits? = nil) async throws -> Engine {
        let compiled = try await compiledProgram(package)
        var functions: [String: MLModel] = [:]
        for name in package.isStatic ? ["main", "decode"] : ["main"] {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = units ?? (package.isStatic ? .cpuAndNeuralEngine : .cpuAndGPU)
            configuration.functionName = name
            functions[name] = try await MLModel.load(contentsOf: compiled, configuration: configuration)
        }
        return Engine(package, functions)
    }

    private init(_ package: ModelPackage, _ functions: [String: MLModel]) {
        self.package = package
        self.functions = functions
        // Both functions declare the same states, and one's serves the other.
        state = functions["main"]!.makeState()
    }

    /// Append tokens; logits (vocabulary) after the last.
    public func run(_ tokens: [Int]) throws -> [Float] {
        let room = package.contextLength - position
        guard tokens.count <= room else { throw OndeviceError.tooLong(tokens: tokens.count, room: room) }
        var logits: MLMultiArray?
        for call in calls(tokens, at: position, context: package.contextLength, isStatic: package.isStatic) {
            let features = try call.features(isStatic: package.isStatic)
            let output = try functions[call.function]!.prediction(from: features, using: state)
            logits = output.featureValue(for: "logits")?.multiArrayValue
            position = call.position + call.tokens
        }
        guard let logits else { throw OndeviceError.noOutput("logits") }
        return MLShapedArray<Float>(converting: logits).scalars
    }

    /// Forget what comes after a position: the next mask leaves it out.
    public func rewind(to position: Int) {
        precondition(0 ... self.position ~= position)
        self.position = position
    }
}

/// Kept by the hashes of the program's files, so that another export is compiled anew.
private func compiledProgram(_ package: ModelPackage) async throws -> URL {
    let files = FileManager.default
    let caches = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
    let folder = caches.appendingPathComponent("ondevice-coreml", isDirectory: true)
    let parts = package.hashes.filter { $0.key.hasPrefix("model.mlpackage/") }.sorted { $0.key < $1.key }
    let key = parts.map { $0.value.prefix(16) }.joined(separator: "-")
    let kept = folder.appendingPathComponent("\(key).mlmodelc", isDirectory: true)
    if files.fileExists(atPath: kept.path) { return kept }
    let compiled = try await MLModel.compileModel(at: package.program)
    try files.createDirectory(at: folder, withIntermediateDirectories: true)
    do {
        try files.moveItem(at: compiled, to: kept)
    } catch {
        guard files.fileExists(atPath: kept.path) else { throw error }
        try? files.removeItem(at: compiled) // another process was faster
    }
    return kept
}

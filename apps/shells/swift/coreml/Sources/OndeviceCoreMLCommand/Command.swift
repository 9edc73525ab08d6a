// ondevice-coreml PKG "question": stream an answer, say how fast it was. --bench: JSON as `ondevice bench`.

import ArgumentParser
import CoreML
import Foundation
import OndeviceCoreML

enum Units: String, ExpressibleByArgument, CaseIterable {
    case cpu, gpu, ane, all

    var value: MLComputeUnits {
        switch self {
        case .cpu: return .cpuOnly
        case .gpu: return .cpuAndGPU
        case .ane: return .cpuAndNeuralEngine
        case .all: return .all
        }
    }
}

@main
struct Command: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ondevice-coreml",
        abstract: "Run a Core ML package of ondevice."
    )

    @Argument(help: "The folder that 'ondevice export --target coreml-...' made.")
    var package: String

    @Argument(help: "The question. Without it, questions are read line by line.")
    var question: String?

    @Option(help: "Compute units beside the CPU; the target's unless given.")
    var units: Units?

    @Option(help: "The most tokens of an answer.")
    var maxTokens = 512

    @Flag(help: "Measure, and print the JSON of 'ondevice bench'.")
    var bench = false

    func run() async throws {
        let opened = try ModelPackage(folder: URL(fileURLWithPath: package, isDirectory: true))
        if bench {
            let json = try await OndeviceCoreML.bench(opened, units: units?.value, settings: BenchSettings())
            FileHandle.standardOutput.write(json + Data("\n".utf8))
            return
        }
        let assistant = try await Assistant(Engine.load(opened, units: units?.value))
        if let question {
            try answer(question, assistant)
            return
        }
        while let line = readLine() {
            if !line.isEmpty { try answer(line, assistant) }
        }
    }

    private func answer(_ question: String, _ assistant: Assistant) throws {
        let timing = try assistant.answer([["role": "user", "content": question]], most: maxTokens) { piece in
            FileHandle.standardOutput.write(Data(piece.utf8))
            return true
        }
        let speed = timing.tokensPerSecond.map { String(format: ", %.1f tokens/s", $0) } ?? ""
        let first = String(format: "%.0f", timing.timeToFirstToken * 1e3)
        FileHandle.standardError.write(
            Data("\n\(timing.promptTokens) tokens of prompt, first token after \(first) ms\(speed)\n".utf8)
        )
    }
}

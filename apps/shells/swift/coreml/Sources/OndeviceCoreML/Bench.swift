// The workloads of `ondevice bench` and its JSON (docs/measurement.md, ondevice/schemas/bench.schema.json).

import CoreML
import Foundation

public struct BenchSettings {
    public var promptTokens = 512
    public var generatedTokens = 128
    public var chatTokens = 64
    public var warmups = 1
    public var repetitions = 5

    public init() {}
}

/// Measure a package; the first sample of `load` compiles the program where that was not done yet.
public func bench(_ package: ModelPackage, units: MLComputeUnits?, settings: BenchSettings) async throws -> Data {
    var loads: [Double] = []
    var opened: Engine?
    for _ in 0 ..< settings.repetitions {
        opened = nil // closed before it is opened again, outside the time
        let start = now()
        opened = try await Engine.load(package, units: units)
        loads.append(now() - start)
    }
    guard let engine = opened else { return Data() }
    let speeds = try Speeds(engine, settings)
    let chats = try await chat(engine, settings)
    let prompt = "pp\(settings.promptTokens)", generated = "tg\(settings.generatedTokens)"
    var metrics = [metric("load", "ms", loads.map { $0 * 1e3 })]
    metrics.append(metric(prompt, "tokens/s", speeds.prefills.map { Double(settings.promptTokens) / $0 }))
    metrics.append(metric(generated, "tokens/s", speeds.decodes.map { Double($0.count) / $0.reduce(0, +) }))
    metrics += [
        metric("chat.ttft", "ms", chats.map { $0.timeToFirstToken * 1e3 }),
        metric("chat.tokenize", "ms", chats.map { $0.tokenize * 1e3 }),
        metric("chat.prefill", "ms", chats.map { $0.prefill * 1e3 }),
        metric("chat.first_sample", "ms", chats.map { $0.firstSample * 1e3 }),
        metric("chat.prefill_speed", "tokens/s", chats.map { Double($0.promptTokens) / $0.prefill }),
        metric("chat.decode_speed", "tokens/s", chats.compactMap(\.tokensPerSecond)),
    ]
    let gaps: [[String: Any]] = [
        ["workload": generated, "gaps": percentiles(speeds.decodes.flatMap { $0 })],
        ["workload": "chat", "gaps": percentiles(chats.flatMap(\.gaps))],
    ]
    let measured: [String: Any] = [
        "label": "coreml-swift", "engine": "coreml", "engine_version": systemVersion(),
        "model": model(package), "threads": NSNull(), "context_length": package.contextLength,
        "peak_memory": peakMemory(), "metrics": metrics, "inter_token": gaps,
    ]
    return try JSONSerialization.data(
        withJSONObject: result(measured, settings), options: [.prettyPrinted, .sortedKeys]
    )
}

/// Seconds of the workloads on random tokens.
private struct Speeds {
    var prefills: [Double] = []
    var decodes: [[Double]] = []

    init(_ engine: Engine, _ settings: BenchSettings) throws {
        let vocabulary = engine.package.vocabularySize
        let prompt = randomTokens(settings.promptTokens, below: vocabulary)
        let steps = randomTokens(settings.generatedTokens, below: vocabulary)
        for round in 0 ..< settings.warmups + settings.repetitions {
            engine.rewind(to: 0)
            let start = now()
            _ = try engine.run(prompt)
            let prefill = now() - start
            engine.rewind(to: 0)
            _ = try engine.run([prompt[0]]) // not timed
            var gaps: [Double] = []
            for token in steps {
                let begin = now()
                _ = try engine.run([token])
                gaps.append(now() - begin)
            }
            if round >= settings.warmups {
                prefills.append(prefill)
                decodes.append(gaps)
            }
        }
    }
}

private func chat(_ engine: Engine, _ settings: BenchSettings) async throws -> [Timing] {
    let assistant = try await Assistant(engine)
    let messages = try conversation()
    var timings: [Timing] = []
    for round in 0 ..< settings.warmups + settings.repetitions {
        let timing = try assistant.answer(messages, most: settings.chatTokens, endless: true)
        if round >= settings.warmups { timings.append(timing) }
    }
    return timings
}

/// The conversation that `ondevice bench` has too.
func conversation() throws -> [[String: String]] {
    let file = Bundle.module.url(forResource: "conversation", withExtension: "json")!
    return try JSONDecoder().decode([[String: String]].self, from: Data(contentsOf: file))
}

private func randomTokens(_ count: Int, below vocabulary: Int) -> [Int] {
    (0 ..< count).map { _ in Int.random(in: 0 ..< vocabulary) }
}

private func metric(_ name: String, _ unit: String, _ samples: [Double]) -> [String: Any] {
    ["name": name, "unit": unit, "higher_is_better": unit == "tokens/s", "samples": samples]
}

/// In ms, between the order statistics (Hyndman and Fan's type 7).
func percentiles(_ seconds: [Double]) -> [String: Any] {
    let ordered = seconds.map { $0 * 1e3 }.sorted()
    func at(_ share: Double) -> Double {
        let place = share * Double(ordered.count - 1)
        let below = Int(place)
        let above = min(below + 1, ordered.count - 1)
        return ordered[below] + (place - Double(below)) * (ordered[above] - ordered[below])
    }
    return ["n": ordered.count, "p50": at(0.5), "p95": at(0.95), "p99": at(0.99)]
}

private func model(_ package: ModelPackage) -> [String: Any] {
    [
        "name": package.name, "format": "package", "target": package.target, "bytes": package.bytes,
        "sha256": NSNull(), "source_sha256": package.sourceHashes,
    ]
}

private func result(_ engine: [String: Any], _ settings: BenchSettings) -> [String: Any] {
    let process = ProcessInfo.processInfo
    return [
        "format_version": 1,
        "tool": "ondevice-coreml (Swift)",
        "created": ISO8601DateFormatter().string(from: Date()),
        "device": [
            "cpu": systemText("machdep.cpu.brand_string") as Any? ?? NSNull(),
            "architecture": systemText("hw.machine") as Any? ?? NSNull(),
            "logical_cores": process.processorCount,
            "physical_cores": NSNull(),
            "usable_cpus": process.activeProcessorCount,
            "cpu_quota": NSNull(),
            "instruction_sets": [String](),
            "memory_gib": Double(process.physicalMemory) / 1_073_741_824,
            "system": "Darwin",
            "system_version": systemVersion(),
            "python": NSNull(),
            "onnxruntime": NSNull(),
        ] as [String: Any],
        "protocol": [
            "prompt_tokens": settings.promptTokens, "generated_tokens": settings.generatedTokens,
            "chat_tokens": settings.chatTokens, "warmups": settings.warmups,
            "repetitions": settings.repetitions, "seed": NSNull(), "interleaved": false,
        ] as [String: Any],
        "load": [
            "load_average_before": NSNull(), "cpu_percent_before": NSNull(), "busy": false,
            "other_cpu_percent_during": NSNull(),
        ] as [String: Any],
        "engines": [engine],
        "ratios": [Any](),
        "agreement": [Any](),
        "notes": ["The load of the machine was not watched; thermal state at the end: \(thermalState())."],
    ]
}

private func systemVersion() -> String {
    let version = ProcessInfo.processInfo.operatingSystemVersion
    return "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
}

private func thermalState() -> String {
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: return "nominal"
    case .fair: return "fair"
    case .serious: return "serious"
    case .critical: return "critical"
    @unknown default: return "unknown"
    }
}

private func systemText(_ name: String) -> String? {
    var size = 0
    guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
    var letters = [CChar](repeating: 0, count: size)
    guard sysctlbyname(name, &letters, &size, nil, 0) == 0 else { return nil }
    return String(cString: letters)
}

/// High-water mark of this process, memory-mapped weights included.
private func peakMemory() -> Any {
    var usage = rusage()
    guard getrusage(RUSAGE_SELF, &usage) == 0 else { return NSNull() }
    return ["bytes": Int(usage.ru_maxrss), "kind": "ru_maxrss"] as [String: Any] // bytes on Apple's systems
}

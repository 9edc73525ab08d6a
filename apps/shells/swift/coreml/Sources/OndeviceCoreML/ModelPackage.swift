// The folder that `ondevice export --target coreml-...` makes, as far as an app needs it.

import Foundation

public enum OndeviceError: LocalizedError {
    case notAPackage(URL, String)
    case tooLong(tokens: Int, room: Int)
    case noOutput(String)

    public var errorDescription: String? {
        switch self {
        case let .notAPackage(folder, reason):
            return "\(folder.path) is no Core ML package of ondevice: \(reason)"
        case let .tooLong(tokens, room):
            return "\(tokens) tokens do not fit into the KV cache, which has room for \(room) more; "
                + "shorten the prompt, or export with a larger --context"
        case let .noOutput(name):
            return "the program gave no \(name); export the package again"
        }
    }
}

/// What `ondevice.json` says.
public struct ModelPackage {
    public let folder: URL
    public let name: String
    public let target: String
    public let contextLength: Int
    public let vocabularySize: Int
    public let endTokens: Set<Int>
    /// SHA-256 by file.
    public let hashes: [String: String]
    public let bytes: Int
    public let sourceHashes: [String]

    public var program: URL { folder.appendingPathComponent("model.mlpackage") }

    /// Whether every shape of the program is fixed: see docs/coreml.md.
    public var isStatic: Bool { target == "coreml-ane" }

    public init(folder: URL) throws {
        let manifest: Manifest
        do {
            let data = try Data(contentsOf: folder.appendingPathComponent("ondevice.json"))
            manifest = try JSONDecoder().decode(Manifest.self, from: data)
        } catch {
            throw OndeviceError.notAPackage(folder, error.localizedDescription)
        }
        guard manifest.format_version == 1 else {
            throw OndeviceError.notAPackage(folder, "its format has version \(manifest.format_version), known is 1")
        }
        guard manifest.recipe.target.hasPrefix("coreml-") else {
            throw OndeviceError.notAPackage(folder, "its target is \(manifest.recipe.target)")
        }
        self.folder = folder
        name = manifest.name
        target = manifest.recipe.target
        contextLength = manifest.shape.context_length
        vocabularySize = manifest.shape.vocab_size
        endTokens = Set(manifest.text.eos_ids)
        hashes = manifest.files.mapValues(\.sha256)
        bytes = manifest.files.values.reduce(0) { $0 + $1.bytes }
        sourceHashes = manifest.source.files.values.sorted()
    }
}

// Names are those of the file.
private struct Manifest: Decodable {
    struct Recipe: Decodable { let target: String }
    struct Shape: Decodable {
        let context_length: Int
        let vocab_size: Int
    }
    struct Text: Decodable { let eos_ids: [Int] }
    struct Source: Decodable { let files: [String: String] }
    struct File: Decodable {
        let bytes: Int
        let sha256: String
    }

    let format_version: Int
    let name: String
    let recipe: Recipe
    let shape: Shape
    let text: Text
    let source: Source
    let files: [String: File]
}

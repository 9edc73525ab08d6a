// Text in, text out: tokenizer and template of swift-transformers around the engine.

import Foundation
import Tokenizers

/// How long the parts of an answer took, in seconds.
public struct Timing {
    public var promptTokens = 0
    public var tokenize = 0.0
    public var prefill = 0.0
    public var firstSample = 0.0
    /// From one token to the next.
    public var gaps: [Double] = []

    /// Time to first token.
    public var timeToFirstToken: Double { tokenize + prefill + firstSample }
    /// Tokens after the first over the time they took; nil for a single one.
    public var tokensPerSecond: Double? {
        let total = gaps.reduce(0, +)
        return total > 0 ? Double(gaps.count) / total : nil
    }
}

public final class Assistant {
    public let engine: Engine
    private let tokenizer: any Tokenizer

    /// Opens no network connection: everything is in the folder.
    public init(_ engine: Engine) async throws {
        self.engine = engine
        tokenizer = try await AutoTokenizer.from(modelFolder: engine.package.folder)
    }

    /// The ids of a conversation, ready for an answer.
    public func encode(_ messages: [[String: String]]) throws -> [Int] {
        if tokenizer.hasChatTemplate {
            return try tokenizer.applyChatTemplate(messages: messages)
        }
        return tokenizer.encode(text: messages.last?["content"] ?? "", addSpecialTokens: true)
    }

    /// Answer by the most probable tokens. `show` gets the text piece by piece and may stop it
    /// with `false`. `endless` goes on at the end of the text, as measuring does.
    @discardableResult
    public func answer(
        _ messages: [[String: String]], most: Int = 512, endless: Bool = false,
        show: (String) -> Bool = { _ in true }
    ) throws -> Timing {
        var timing = Timing()
        let start = now()
        let prompt = try encode(messages)
        let encoded = now()
        engine.rewind(to: 0)
        var logits = try engine.run(prompt)
        let filled = now()
        var token = mostProbable(logits)
        var last = now()
        timing.promptTokens = prompt.count
        timing.tokenize = encoded - start
        timing.prefill = filled - encoded
        timing.firstSample = last - filled
        var text = GrowingText(tokenizer)
        let room = min(most, engine.package.contextLength - prompt.count)
        for index in 0 ..< max(0, room) {
            if !endless, engine.package.endTokens.contains(token) { return timing }
            if let piece = text.append(token), !show(piece) { return timing }
            if index + 1 == room { break }
            logits = try engine.run([token])
            token = mostProbable(logits)
            let moment = now()
            timing.gaps.append(moment - last)
            last = moment
        }
        if let piece = text.finish() { _ = show(piece) }
        return timing
    }
}

/// Text of tokens, given as soon as no further token can change it.
private struct GrowingText {
    private let tokenizer: any Tokenizer
    private var tokens: [Int] = []
    private var shown = ""

    init(_ tokenizer: any Tokenizer) { self.tokenizer = tokenizer }

    mutating func append(_ token: Int) -> String? {
        tokens.append(token)
        let text = tokenizer.decode(tokens: tokens, skipSpecialTokens: true)
        return text.hasSuffix("\u{FFFD}") ? nil : rest(of: text) // a letter of which bytes are missing
    }

    mutating func finish() -> String? {
        rest(of: tokenizer.decode(tokens: tokens, skipSpecialTokens: true))
    }

    private mutating func rest(of text: String) -> String? {
        guard text.count > shown.count, text.hasPrefix(shown) else { return nil }
        defer { shown = text }
        return String(text.dropFirst(shown.count))
    }
}

/// The first of the largest logits.
func mostProbable(_ logits: [Float]) -> Int {
    var best = 0
    for (index, value) in logits.enumerated() where value > logits[best] { best = index }
    return best
}

/// Seconds of a clock that never goes back.
func now() -> Double {
    Double(DispatchTime.now().uptimeNanoseconds) / 1e9
}

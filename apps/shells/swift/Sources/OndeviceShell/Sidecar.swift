import Foundation

typealias JSON = [String: Any]

/// What the sidecar says is wrong with a request; the code as in docs/stdio.md.
struct RequestError: Error {
    let code: Int
    let message: String
}

/// The sidecar ended, or sent what is no message.
struct LostError: Error {
    let message: String
}

/// What comes of a request: stages and tokens, then one result.
enum Update {
    case stage(JSON)
    case token(String, provisional: Bool)
    case result(Any)
}

/// A request on its way. `updates` ends after the result, or throws a `RequestError` or a `LostError`.
struct Request {
    let id: Int
    let updates: AsyncThrowingStream<Update, Error>

    /// The result, for requests of which nothing else is wanted.
    func result() async throws -> Any {
        for try await case .result(let result) in updates { return result }
        throw LostError(message: "a request ended without a result")
    }
}

/// The client of `ondevice stdio`: starts it, sends requests, hands out what comes back.
/// Knows nothing of terminals. Usable from any thread.
final class Sidecar {
    private static let goodbye = 3.0 // seconds
    private static let mostHeaderBytes = 4096

    private let process = Process()
    private let input = Pipe()
    private let output = Pipe()
    private let lock = NSLock()
    private var pending: [Int: AsyncThrowingStream<Update, Error>.Continuation] = [:]
    private var lastID = 0
    private var lost: LostError?
    private var unread = Data()

    /// `command` is found through PATH.
    init(_ command: [String]) throws {
        signal(SIGPIPE, SIG_IGN) // a write to an ended sidecar is an error, not our end
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        Thread.detachNewThread { self.readAll() }
    }

    var pid: Int32 { process.processIdentifier }

    /// The first request: {server, models, default}.
    func initialize(client: String) async throws -> JSON {
        let parameters: JSON = [
            "protocol": 1,
            "client": ["name": client, "version": "1"],
            "capabilities": ["consent": false],
        ]
        return try await request("initialize", parameters).result() as? JSON ?? [:]
    }

    func request(_ method: String, _ parameters: Any? = nil) -> Request {
        let (updates, continuation) = AsyncThrowingStream<Update, Error>.makeStream()
        lock.lock()
        lastID += 1
        let id = lastID
        let gone = lost
        if gone == nil { pending[id] = continuation }
        lock.unlock()
        if let gone { continuation.finish(throwing: gone) }
        var message: JSON = ["id": id, "method": method]
        message["params"] = parameters
        send(message)
        return Request(id: id, updates: updates)
    }

    /// Asks for the end of a request; its result or an error comes all the same.
    func cancel(_ request: Request) {
        send(["method": "$/cancel", "params": ["id": request.id]])
    }

    /// Ends every answer and the sidecar; its exit code, or 128 and the signal's number.
    func stop() async -> Int32 {
        _ = try? await request("shutdown").result() // or it has ended already
        send(["method": "exit"])
        try? input.fileHandleForWriting.close()
        let end = Date(timeIntervalSinceNow: Sidecar.goodbye)
        while process.isRunning && Date() < end { try? await Task.sleep(nanoseconds: 10_000_000) }
        if process.isRunning { kill(pid, SIGKILL) }
        process.waitUntilExit()
        return process.terminationStatus + (process.terminationReason == .uncaughtSignal ? 128 : 0)
    }

    private func send(_ message: JSON) {
        var whole = message
        whole["jsonrpc"] = "2.0"
        guard let body = try? JSONSerialization.data(withJSONObject: whole) else { return }
        lock.lock()
        defer { lock.unlock() }
        // An error here means that it has ended; the reader learns that too.
        try? input.fileHandleForWriting.write(contentsOf: Data("Content-Length: \(body.count)\r\n\r\n".utf8) + body)
    }

    private func readAll() {
        do {
            while let body = try read() {
                guard let message = try JSONSerialization.jsonObject(with: body) as? JSON else { throw Nonsense() }
                take(message)
            }
            process.waitUntilExit()
            let why = process.terminationReason == .uncaughtSignal ? "killed by signal" : "exit code"
            fail("the sidecar ended: \(why) \(process.terminationStatus)")
        } catch {
            kill(pid, SIGKILL)
            fail("the sidecar sent something that is no message; it was ended")
        }
    }

    private struct Nonsense: Error {}

    /// The body of the next message; nil where the sidecar has ended.
    private func read() throws -> Data? {
        let blank = Data("\r\n\r\n".utf8)
        while true {
            if let end = unread.range(of: blank) {
                let header = String(decoding: unread[..<end.lowerBound], as: UTF8.self)
                let next = try end.upperBound + length(header)
                if unread.endIndex >= next {
                    defer { unread = Data(unread[next...]) }
                    return Data(unread[end.upperBound..<next])
                }
            } else if unread.count > Sidecar.mostHeaderBytes {
                throw Nonsense()
            }
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { return nil }
            unread.append(more)
        }
    }

    private func length(_ header: String) throws -> Int {
        for line in header.components(separatedBy: "\r\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "content-length" else { continue }
            guard let length = Int(parts[1].trimmingCharacters(in: .whitespaces)), length >= 0 else { break }
            return length
        }
        throw Nonsense()
    }

    private func take(_ message: JSON) {
        guard let method = message["method"] as? String else { return settle(message) }
        if let id = message["id"] {
            send(["id": id, "error": ["code": -32601, "message": "this client answers no requests"] as JSON])
            return
        }
        guard let parameters = message["params"] as? JSON, let id = parameters["id"] as? Int else { return }
        lock.lock()
        let continuation = pending[id]
        lock.unlock()
        if method == "$/stage" {
            continuation?.yield(.stage(parameters))
        } else if method == "$/token", let text = parameters["text"] as? String {
            continuation?.yield(.token(text, provisional: parameters["provisional"] as? Bool ?? false))
        }
    }

    private func settle(_ message: JSON) {
        guard let id = message["id"] as? Int else { return }
        lock.lock()
        let continuation = pending.removeValue(forKey: id)
        lock.unlock()
        if let error = message["error"] as? JSON {
            let code = error["code"] as? Int ?? 0
            continuation?.finish(throwing: RequestError(code: code, message: error["message"] as? String ?? ""))
        } else {
            continuation?.yield(.result(message["result"] ?? NSNull()))
            continuation?.finish()
        }
    }

    private func fail(_ why: String) {
        let error = LostError(message: why)
        lock.lock()
        lost = error
        let left = pending.values
        pending = [:]
        lock.unlock()
        for continuation in left { continuation.finish(throwing: error) }
    }
}

/// The line under an answer: where it came from and how fast.
func statusLine(_ result: JSON) -> String {
    let timings = result["timings"] as? JSON ?? [:]
    let usage = result["usage"] as? JSON ?? [:]
    func text(_ name: String) -> String { result[name] as? String ?? "" }
    func number(_ name: String) -> Double { (timings[name] as? NSNumber)?.doubleValue ?? 0 }
    var parts = [
        "\(text("source")): \(text("model"))",
        String(format: "TTFT %.0f ms", number("ttft_ms")),
        String(format: "%.1f tokens/s", number("decode_tps")),
        "\(usage["output_tokens"] as? Int ?? 0) tokens",
        text("finish_reason"),
    ]
    if !text("reason").isEmpty { parts.append(text("reason")) }
    return "[\(parts.joined(separator: " | "))]"
}

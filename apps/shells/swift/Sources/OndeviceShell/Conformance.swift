import Foundation

/// The mode that apps/shells/conformance.py talks with; see "Conformance mode" in docs/shells.md.
final class Conformance {
    private let sidecar: Sidecar
    private let lock = NSLock()
    private var over: [String: Task<Void, Error>] = [:]

    init(_ sidecar: Sidecar) {
        self.sidecar = sidecar
    }

    /// Does what each line of stdin says. Throws `LostError` where the sidecar ends before.
    func run() async throws {
        do {
            print("started", ["pid": sidecar.pid])
            let server = try await sidecar.initialize(client: "ondevice-shell-swift")
            print("ready", ["result": server])
            while let line = readLine() { try await obey(line) }
            let code = await sidecar.stop()
            for task in over.values { try await task.value }
            print("closed", ["code": code])
        } catch let error as LostError {
            print("lost", ["message": error.message])
            throw error
        }
    }

    private func obey(_ line: String) async throws {
        let command = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? JSON ?? [:]
        let tag = command["tag"] as? String ?? ""
        switch command["do"] as? String {
        case "request": over[tag] = follow(tag, command)
        case "wait": try await over[tag]?.value
        default: fatalError("not a command of a transcript")
        }
    }

    /// Sends a request and prints what comes of it.
    private func follow(_ tag: String, _ command: JSON) -> Task<Void, Error> {
        let request = sidecar.request(command["method"] as? String ?? "", command["params"])
        let cancelAfter = command["cancel_after"] as? Int
        if cancelAfter == 0 { sidecar.cancel(request) }
        return Task.detached {
            var tokens = 0
            do {
                for try await update in request.updates {
                    self.show(tag, update)
                    guard case .token = update else { continue }
                    tokens += 1
                    if tokens == cancelAfter { self.sidecar.cancel(request) }
                }
            } catch let error as RequestError {
                self.print("error", ["tag": tag, "code": error.code, "message": error.message])
            }
        }
    }

    private func show(_ tag: String, _ update: Update) {
        switch update {
        case .stage(let stage):
            let fields = stage.filter { ["stage", "model", "ahead"].contains($0.key) }
            print("stage", fields.merging(["tag": tag]) { $1 })
        case .token(let text, let provisional):
            print("token", ["tag": tag, "text": text, "provisional": provisional])
        case .result(let result):
            var fields: JSON = ["tag": tag, "result": result]
            if let answer = result as? JSON, answer["timings"] != nil { fields["line"] = statusLine(answer) }
            print("result", fields)
        }
    }

    private func print(_ event: String, _ fields: JSON) {
        let whole = fields.merging(["event": event]) { $1 }
        guard let line = try? JSONSerialization.data(withJSONObject: whole) else { return }
        lock.lock()
        defer { lock.unlock() }
        FileHandle.standardOutput.write(line + Data("\n".utf8))
    }
}

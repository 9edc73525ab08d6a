// A conversation in the terminal.

import Dispatch
import Foundation

private let clear = "\r\u{1B}[K"

func show(_ text: String) {
    FileHandle.standardOutput.write(Data(text.utf8))
}

func complain(_ text: String) {
    FileHandle.standardError.write(Data(text.utf8))
}

/// The answer that is being made, for whoever presses Ctrl-C.
final class Current {
    private let lock = NSLock()
    private var request: Request?

    func set(_ request: Request?) {
        lock.lock()
        self.request = request
        lock.unlock()
    }

    func get() -> Request? {
        lock.lock()
        defer { lock.unlock() }
        return request
    }
}

func converse(_ sidecar: Sidecar) async throws {
    let current = Current()
    signal(SIGINT, SIG_IGN) // the source below hears of it instead
    let interrupts = DispatchSource.makeSignalSource(signal: SIGINT, queue: .global())
    interrupts.setEventHandler {
        if let request = current.get() { sidecar.cancel(request) } else { show("\n(Ctrl-D ends the program)\n> ") }
    }
    interrupts.resume()
    let server = try await sidecar.initialize(client: "ondevice-shell-swift")
    show("\(server["default"] as? String ?? "") is ready. Ctrl-C ends an answer, Ctrl-D the program.\n> ")
    var messages: [JSON] = []
    while let line = readLine() {
        if !line.isEmpty {
            messages.append(["role": "user", "content": line])
            let request = sidecar.request("chat", ["messages": messages, "options": ["truncate": true]] as JSON)
            current.set(request)
            if let text = try await stream(request) {
                messages.append(["role": "assistant", "content": text])
            } else {
                messages.removeLast()
            }
            current.set(nil)
        }
        show("> ")
    }
    interrupts.cancel()
    show("\n")
}

/// Shows an answer as it is made. Returns its text; nil where the request was refused.
func stream(_ request: Request) async throws -> String? {
    var streamed = ""
    do {
        for try await update in request.updates {
            switch update {
            case .stage(let stage):
                let name = stage["stage"] as? String ?? ""
                let seconds = ((stage["elapsed_ms"] as? NSNumber)?.doubleValue ?? 0) / 1000
                let text = "\(name) \(stage["model"] as? String ?? ""), " + String(format: "%.1f s", seconds)
                complain(clear + (name == "ready" ? "" : text))
            case .token(let text, _):
                streamed += text
                show(text)
            case .result(let result):
                let answer = result as? JSON ?? [:]
                let text = answer["text"] as? String ?? ""
                // The result's text is the answer: shown anew where it is not what was streamed.
                if text != streamed { show("\n[in place of the draft above:]\n\(text)") }
                show("\n\(statusLine(answer))\n")
                return text
            }
        }
    } catch let error as RequestError {
        complain("\(clear)\(error.message)\n")
    }
    return nil
}

func run(_ arguments: [String]) async -> Int32 {
    let scripted = arguments.first == "--conformance"
    let command = Array(scripted ? arguments.dropFirst() : arguments[...])
    if command.first?.hasPrefix("-") == true {
        complain("usage: ondevice-shell [--conformance] [SIDECAR COMMAND: ondevice stdio]\n")
        return 2
    }
    guard let sidecar = try? Sidecar(command.isEmpty ? ["ondevice", "stdio"] : command) else {
        complain("the sidecar cannot be started\n")
        return 1
    }
    do {
        if scripted {
            try await Conformance(sidecar).run()
            return 0
        }
        try await converse(sidecar)
        return await sidecar.stop()
    } catch {
        complain("\((error as? LostError)?.message ?? (error as? RequestError)?.message ?? "\(error)")\n")
        _ = await sidecar.stop()
        return 1
    }
}

// @ts-check
// The client of `ondevice stdio`: starts it, sends requests, hands out what comes back.
// Knows nothing of terminals or windows; the terminal's shell and Electron's both use it.

import { spawn } from 'node:child_process'
import { EventEmitter } from 'node:events'

const GOODBYE_MS = 3000
const MOST_HEADER_BYTES = 4096

/** What the sidecar says is wrong with a request; `code` as in docs/stdio.md. */
export class RequestError extends Error {
  /** @param {number} code @param {string} message */
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

/** The sidecar ended, or could not be started. */
export class LostError extends Error {}

/**
 * @typedef {{stage: 'queued' | 'loading' | 'ready', model: string, ahead: number, elapsed_ms: number}} Stage
 * @typedef {{text: string, provisional: boolean}} Token
 */

/**
 * A request on its way. Emits 'stage' with a {@link Stage} and 'token' with a {@link Token};
 * `result` resolves to the result, or rejects with a RequestError or a LostError.
 */
export class Pending extends EventEmitter {
  /** @type {Promise<any>} */ result
  /** @param {() => void} cancel ends the request; its result or error comes all the same */
  constructor(cancel) {
    super()
    this.cancel = cancel
    this.result = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }))
    this.result.catch(() => {}) // whoever awaits it hears of it; nobody has to
  }

  /** @param {any} _value */ resolve(_value) {}
  /** @param {Error} _error */ reject(_error) {}
}

export class Sidecar {
  /** @type {Map<number, Pending>} */ #pending = new Map()
  #lastId = 0
  #input = Buffer.alloc(0)
  #process
  #lost = ''

  /** @param {string[]} command */
  constructor(command = ['ondevice', 'stdio']) {
    this.#process = spawn(command[0], command.slice(1), {
      stdio: ['pipe', 'pipe', 'inherit'],
      windowsHide: true,
    })
    this.#process.stdin.on('error', () => {}) // 'close' tells of it
    this.#process.stdout.on('data', (chunk) => this.#read(chunk))
    /** Resolves to the sidecar's exit code, null where a signal ended it. @type {Promise<number | null>} */
    this.ended = new Promise((resolve) => {
      this.#process.on('error', (error) => {
        this.#fail(`${command[0]} cannot be started: ${error.message}`)
        resolve(null)
      })
      this.#process.on('close', (code, signal) => {
        this.#fail(`the sidecar ended: ${signal ? `killed by ${signal}` : `exit code ${code}`}`)
        resolve(code)
      })
    })
  }

  get pid() {
    return this.#process.pid
  }

  /** Why the sidecar is gone; "" while it is there. */
  get lost() {
    return this.#lost
  }

  /**
   * The first request. Resolves to {server, models, default}.
   * @param {string} client the program's name
   */
  initialize(client) {
    return this.request('initialize', {
      protocol: 1,
      client: { name: client, version: '1' },
      capabilities: { consent: false },
    }).result
  }

  /** @param {string} method @param {object} [params] */
  request(method, params) {
    const id = ++this.#lastId
    const pending = new Pending(() => this.#send({ method: '$/cancel', params: { id } }))
    if (this.#lost) {
      pending.reject(new LostError(this.#lost))
      return pending
    }
    this.#pending.set(id, pending)
    this.#send({ id, method, params })
    return pending
  }

  /** Ends every answer and the sidecar. Resolves to its exit code. */
  async stop() {
    await this.request('shutdown').result.catch(() => {})
    this.#send({ method: 'exit' })
    this.#process.stdin.end()
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), GOODBYE_MS)
    const code = await this.ended
    clearTimeout(timer)
    return code
  }

  /** @param {object} message */
  #send(message) {
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...message }))
    this.#process.stdin.write(`Content-Length: ${body.length}\r\n\r\n`)
    this.#process.stdin.write(body)
  }

  // Bytes, not text: a character may be cut in two by the pipe.
  /** @param {Buffer} chunk */
  #read(chunk) {
    this.#input = Buffer.concat([this.#input, chunk])
    for (;;) {
      const end = this.#input.indexOf('\r\n\r\n')
      if (end < 0 && this.#input.length < MOST_HEADER_BYTES) return
      const length = /^content-length: *(\d+)/im.exec(this.#input.toString('latin1', 0, end))
      if (end < 0 || !length) return this.#nonsense()
      const begin = end + 4
      const next = begin + Number(length[1])
      if (this.#input.length < next) return
      const body = this.#input.toString('utf8', begin, next)
      this.#input = this.#input.subarray(next)
      try {
        this.#take(JSON.parse(body))
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error
        return this.#nonsense()
      }
    }
  }

  #nonsense() {
    this.#process.stdout.destroy()
    this.#fail('the sidecar sent something that is no message; it was ended')
    this.#process.kill('SIGKILL')
  }

  /** @param {any} message */
  #take({ id, method, params, result, error }) {
    if (method === '$/stage' || method === '$/token') {
      this.#pending.get(params.id)?.emit(method.slice(2), params)
    } else if (method !== undefined) {
      if (id === undefined) return
      this.#send({ id, error: { code: -32601, message: 'this client answers no requests' } })
    } else {
      const pending = this.#pending.get(id)
      this.#pending.delete(id)
      if (error) pending?.reject(new RequestError(error.code, error.message))
      else pending?.resolve(result)
    }
  }

  /** @param {string} why */
  #fail(why) {
    this.#lost ||= why
    for (const pending of this.#pending.values()) pending.reject(new LostError(this.#lost))
    this.#pending.clear()
  }
}

/**
 * The line under an answer: where it came from and how fast.
 * @param {any} result of `chat`
 */
export function statusLine({ source, model, reason, finish_reason, usage, timings }) {
  const parts = [
    `${source}: ${model}`,
    `TTFT ${timings.ttft_ms.toFixed()} ms`,
    `${timings.decode_tps.toFixed(1)} tokens/s`,
    `${usage.output_tokens} tokens`,
    finish_reason,
  ]
  if (reason) parts.push(reason)
  return `[${parts.join(' | ')}]`
}

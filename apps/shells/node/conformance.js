// @ts-check
// The mode that apps/shells/conformance.py talks with; see "Conformance mode" in docs/shells.md.

import process from 'node:process'
import readline from 'node:readline'
import { LostError, RequestError, statusLine } from './sidecar.js'

/** @param {string} event @param {object} fields */
function print(event, fields) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
}

/**
 * Does what stdin says, line by line; throws LostError where the sidecar ends before.
 * @param {import('./sidecar.js').Sidecar} sidecar
 */
export async function conformance(sidecar) {
  try {
    print('started', { pid: sidecar.pid })
    print('ready', { result: await sidecar.initialize('ondevice-shell-node') })
    /** @type {Map<string, Promise<void>>} */
    const over = new Map()
    for await (const line of readline.createInterface({ input: process.stdin })) {
      const command = JSON.parse(line)
      if (command.do === 'request') over.set(command.tag, follow(sidecar, command))
      else if (command.do === 'wait' && over.has(command.tag)) await over.get(command.tag)
      else throw new Error(`not a command of a transcript: ${line}`)
    }
    const code = await sidecar.stop()
    await Promise.all(over.values())
    print('closed', { code })
  } catch (error) {
    if (error instanceof LostError) print('lost', { message: error.message })
    throw error
  }
}

/**
 * Sends a request and prints what comes of it.
 * @param {import('./sidecar.js').Sidecar} sidecar
 * @param {{tag: string, method: string, params?: object, cancel_after?: number}} command
 */
function follow(sidecar, { tag, method, params, cancel_after }) {
  const pending = sidecar.request(method, params)
  let tokens = 0
  pending.on('stage', ({ stage, model, ahead }) => print('stage', { tag, stage, model, ahead }))
  pending.on('token', ({ text, provisional }) => {
    print('token', { tag, text, provisional })
    if (++tokens === cancel_after) pending.cancel()
  })
  if (cancel_after === 0) pending.cancel()
  const printed = pending.result.then(
    (result) => print('result', { tag, result, line: result?.timings && statusLine(result) }),
    (error) => {
      if (!(error instanceof RequestError)) throw error
      print('error', { tag, code: error.code, message: error.message })
    },
  )
  printed.catch(() => {}) // that the sidecar ended is heard where it is waited for
  return printed
}

#!/usr/bin/env node
// @ts-check
// A conversation in the terminal: Ctrl-C ends an answer, Ctrl-D the program.

import process from 'node:process'
import readline from 'node:readline'
import { conformance } from './conformance.js'
import { LostError, RequestError, Sidecar, statusLine } from './sidecar.js'

const CLEAR = '\r\x1b[K'

/** @typedef {{role: string, content: string}} Message */

/** @param {Sidecar} sidecar */
async function converse(sidecar) {
  const server = await sidecar.initialize('ondevice-shell-node')
  console.log(`${server.default} is ready. Ctrl-C ends an answer, Ctrl-D the program.`)
  /** @type {Message[]} */
  const messages = []
  /** @type {import('./sidecar.js').Pending | null} */
  let answering = null
  const lines = readline.createInterface({ input: process.stdin, output: process.stdout })
  lines.on('SIGINT', () => {
    if (answering) return answering.cancel()
    console.log('\n(Ctrl-D ends the program)')
    lines.prompt()
  })
  sidecar.ended.then(() => lines.close())
  lines.prompt()
  for await (const line of lines) {
    if (line.trim()) {
      messages.push({ role: 'user', content: line })
      answering = sidecar.request('chat', { messages, options: { truncate: true } })
      await show(answering, messages)
      answering = null
    }
    lines.prompt()
  }
  console.log()
  if (sidecar.lost) throw new LostError(sidecar.lost)
}

/**
 * Streams the answer to the last message, and adds it.
 * @param {import('./sidecar.js').Pending} pending
 * @param {Message[]} messages
 */
async function show(pending, messages) {
  let streamed = ''
  pending.on('stage', ({ stage, model, elapsed_ms }) => {
    const text = stage === 'ready' ? '' : `${stage} ${model}, ${(elapsed_ms / 1000).toFixed(1)} s`
    process.stderr.write(CLEAR + text)
  })
  pending.on('token', ({ text }) => {
    streamed += text
    process.stdout.write(text)
  })
  try {
    const result = await pending.result
    // The result's text is the answer: shown anew where it is not what was streamed.
    if (result.text !== streamed) console.log(`\n[in place of the draft above:]\n${result.text}`)
    console.log(`\n${statusLine(result)}`)
    messages.push({ role: 'assistant', content: result.text })
  } catch (error) {
    if (!(error instanceof RequestError)) throw error
    console.error(CLEAR + error.message)
    messages.pop()
  }
}

const scripted = process.argv[2] === '--conformance'
const command = process.argv.slice(scripted ? 3 : 2)
if (command[0]?.startsWith('-')) {
  console.error('usage: shell.js [--conformance] [SIDECAR COMMAND: ondevice stdio]')
  process.exit(2)
}
const sidecar = new Sidecar(command.length ? command : undefined)
try {
  await (scripted ? conformance(sidecar) : converse(sidecar))
  if (!scripted) process.exitCode = (await sidecar.stop()) ?? 1
} catch (error) {
  if (!(error instanceof LostError || error instanceof RequestError)) throw error
  console.error(error.message)
  process.exitCode = 1
  await sidecar.stop()
}
process.stdin.destroy() // an open one would keep the program alive

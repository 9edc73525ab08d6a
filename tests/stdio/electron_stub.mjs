// Stands in for Electron, whose binary is not to be had everywhere: runs main.js in plain Node,
// does what a page would, and prints what it saw. Loaded with `node --import`.

import { EventEmitter } from 'node:events'
import { register } from 'node:module'

const seen = { stages: [], streamed: '' }
const handlers = new Map()
const app = Object.assign(new EventEmitter(), {
  whenReady: async () => {},
  quit() {
    const event = { prevented: false, preventDefault: () => (event.prevented = true) }
    app.emit('before-quit', event)
    if (event.prevented) return
    process.stdout.write(JSON.stringify(seen))
    process.exitCode = 0
  },
})
const ipcMain = Object.assign(new EventEmitter(), {
  handle: (channel, handler) => handlers.set(channel, handler),
})

class BrowserWindow {
  webContents = Object.assign(new EventEmitter(), { setWindowOpenHandler() {} })
  constructor({ webPreferences }) {
    seen.preload = webPreferences.preload
  }
  async loadFile(page) {
    seen.page = page
    setImmediate(useThePage)
  }
}

const sender = {
  isDestroyed: () => false,
  send(channel, value) {
    if (channel === 'stage') seen.stages.push(value.stage)
    if (channel !== 'token') return
    seen.streamed += value.text
    ipcMain.emit('cancel')
  },
}

async function useThePage() {
  seen.default = (await handlers.get('initialize')({ sender })).default
  const messages = [{ role: 'user', content: 'Tell me a story.' }]
  Object.assign(seen, await handlers.get('chat')({ sender }, messages))
  seen.refused = (await handlers.get('chat')({ sender }, 'no list')).error
  app.emit('window-all-closed')
}

globalThis.electronStub = { app, BrowserWindow, ipcMain }
const source = 'export const { app, BrowserWindow, ipcMain } = globalThis.electronStub'
const hooks = `
export const resolve = (name, context, next) =>
  name === 'electron' ? { url: 'stub:electron', shortCircuit: true } : next(name, context)
export const load = (url, context, next) =>
  url === 'stub:electron'
    ? { format: 'module', source: ${JSON.stringify(source)}, shortCircuit: true }
    : next(url, context)
`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)

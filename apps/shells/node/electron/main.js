// @ts-check
// The window's process: owns the sidecar, and tells the page what comes of its questions.

import { fileURLToPath } from 'node:url'
import { app, BrowserWindow, ipcMain } from 'electron'
import { Sidecar, statusLine } from '../sidecar.js'

const path = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url))

// `electron . -- COMMAND...` starts another sidecar than the one on the PATH.
const dashes = process.argv.indexOf('--')
const sidecar = new Sidecar(dashes < 0 ? undefined : process.argv.slice(dashes + 1))

/** @type {import('../sidecar.js').Pending | null} */
let answering = null

ipcMain.handle('initialize', () => sidecar.initialize('ondevice-shell-electron'))

// Errors come back as values: what a page is told of an exception is not the message alone.
ipcMain.handle('chat', async (event, messages) => {
  const tell = (/** @type {string} */ channel, /** @type {any} */ value) => {
    if (!event.sender.isDestroyed()) event.sender.send(channel, value)
  }
  answering = sidecar.request('chat', { messages, options: { truncate: true } })
  answering.on('stage', (stage) => tell('stage', stage))
  answering.on('token', (token) => tell('token', token))
  try {
    const result = await answering.result
    return { text: result.text, line: statusLine(result) }
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) }
  } finally {
    answering = null
  }
})

ipcMain.on('cancel', () => answering?.cancel())

let stopped = false
app.on('before-quit', async (event) => {
  if (stopped) return
  event.preventDefault()
  await sidecar.stop()
  stopped = true
  app.quit()
})
app.on('window-all-closed', () => app.quit())

// Not `await`: Electron may hold `ready` back until this module is evaluated.
app.whenReady().then(async () => {
  const window = new BrowserWindow({
    width: 720,
    height: 640,
    webPreferences: { preload: path('preload.cjs') },
  })
  window.webContents.setWindowOpenHandler(() => ({ action: 'deny' }))
  window.webContents.on('will-navigate', (event) => event.preventDefault())
  await window.loadFile(path('index.html'))
})

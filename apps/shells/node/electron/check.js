// @ts-check
// `electron electron/check.js`: opens the window, asks a question in it as a person would, quits.
// Exit code 1 where no answer came.

import { app } from 'electron'
import './main.js'

// Runs in the page.
const askAndWait = `(async () => {
  const wait = async (find) => {
    for (let tries = 0; tries < 1200; tries++) {
      const found = find()
      if (found) return found
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    return null
  }
  const find = (selector) => document.querySelector(selector)
  await wait(() => !find('#send').disabled)
  find('#question').value = 'Say hello.'
  find('#ask').requestSubmit()
  return (await wait(() => find('.line')))?.textContent ?? find('#state').textContent
})()`

app.on('browser-window-created', (_, window) => {
  window.webContents.once('did-finish-load', async () => {
    const line = await window.webContents.executeJavaScript(askAndWait)
    console.log(line)
    if (line.includes(' tokens/s | ')) app.quit()
    else app.exit(1)
  })
})

// The few things that the page may do. A sandboxed preload is CommonJS.
const { contextBridge, ipcRenderer } = require('electron')

contextBridge.exposeInMainWorld('ondevice', {
  initialize: () => ipcRenderer.invoke('initialize'),
  chat: (messages) => ipcRenderer.invoke('chat', messages),
  cancel: () => ipcRenderer.send('cancel'),
  onStage: (listener) => ipcRenderer.on('stage', (_, stage) => listener(stage)),
  onToken: (listener) => ipcRenderer.on('token', (_, token) => listener(token)),
})

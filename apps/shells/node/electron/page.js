// The page: shows the conversation; everything else is behind `window.ondevice` (preload.cjs).

const element = (id) => document.getElementById(id)
const [conversation, state, question] = ['conversation', 'state', 'question'].map(element)
const [form, send, stop] = ['ask', 'send', 'stop'].map(element)

const messages = []
let current = null // the paragraph that the answer goes into

function add(kind, text) {
  const paragraph = document.createElement('p')
  paragraph.className = kind
  paragraph.textContent = text
  conversation.append(paragraph)
  paragraph.scrollIntoView()
  return paragraph
}

window.ondevice.onStage(({ stage, model, elapsed_ms }) => {
  state.textContent = stage === 'ready' ? '' : `${stage} ${model}, ${(elapsed_ms / 1000).toFixed(1)} s`
})

window.ondevice.onToken(({ text }) => {
  current?.append(text)
  current?.scrollIntoView({ block: 'end' })
})

async function ask(content) {
  messages.push({ role: 'user', content })
  add('user', content)
  current = add('assistant', '')
  send.disabled = true
  stop.disabled = false
  const answer = await window.ondevice.chat(messages)
  if (answer.error) {
    messages.pop()
    state.textContent = answer.error
  } else {
    messages.push({ role: 'assistant', content: answer.text })
    current.textContent = answer.text // the result is the answer, whatever was streamed
    add('line', answer.line)
  }
  current = null
  send.disabled = false
  stop.disabled = true
  question.focus()
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const content = question.value.trim()
  if (!content || send.disabled) return
  question.value = ''
  ask(content)
})

question.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
  event.preventDefault()
  form.requestSubmit()
})

stop.addEventListener('click', () => window.ondevice.cancel())
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') window.ondevice.cancel()
})

async function start() {
  try {
    const { default: model } = await window.ondevice.initialize()
    state.textContent = `${model} is ready. Escape ends an answer.`
    send.disabled = false
  } catch (error) {
    state.textContent = error.message
  }
}

start()

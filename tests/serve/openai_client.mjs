// The server as the `openai` package of npm sees it; prints what it saw as JSON.
// node openai_client.mjs FOLDER_OF_THE_PACKAGE BASE_URL TOKEN

import { createRequire } from "node:module";

const [folder, baseURL, apiKey] = process.argv.slice(2);
const { OpenAI } = createRequire(`${folder}/`)("openai");
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const model = "one";
const asking = (content) => [{ role: "user", content }];
const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
      },
    },
  },
];

async function failed(work) {
  try {
    await work();
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
}

async function streamed(messages, more = {}) {
  const said = [];
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true, ...more })) {
    if (chunk.choices[0]?.delta.content) said.push(chunk.choices[0].delta.content);
  }
  return said;
}

async function left() {
  const messages = asking(`«${"so on, ".repeat(700)}»`);
  const stream = await client.chat.completions.create({ model, messages, stream: true, max_tokens: 5000 });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) break; // leaving the loop ends the request
  }
  return stream.controller.signal.aborted;
}

const whole = await client.chat.completions.create({ model, messages: asking("«Grüße 🙂»") });
const called = await client.chat.completions.create({
  model,
  messages: asking('«{"tool":"weather","arguments":{"city":"Köln"}}»'),
  tools,
});
const shaped = await client.chat.completions.create({
  model,
  messages: asking('«{"age":36}»'),
  response_format: {
    type: "json_schema",
    json_schema: { name: "person", schema: { type: "object", properties: { age: { type: "integer" } } } },
  },
});
const probable = await client.chat.completions.create({ model, messages: asking("«yes»"), logprobs: true });
const continued = await client.completions.create({ model, prompt: "Once «upon a time»" });
const response = await client.responses.create({ model, input: "«Grüße»" });
const events = [];
for await (const event of await client.responses.create({ model, input: "«yes»", stream: true })) {
  events.push(event.type);
}

console.log(
  JSON.stringify({
    models: (await client.models.list()).data.map((one) => one.id),
    whole: whole.choices[0].message.content,
    usage: whole.usage.total_tokens,
    source: whole.ondevice.source,
    streamed: await streamed(asking("«naïve café»")),
    beside_tools: await streamed(asking('«{"answer":"warm"}»'), { tools }),
    call: called.choices[0].message.tool_calls[0].function,
    shaped: JSON.parse(shaped.choices[0].message.content),
    logprobs: probable.choices[0].logprobs.content.map((one) => one.token).join(""),
    continued: continued.choices[0].text,
    response: response.output_text,
    events,
    left: await left(),
    unknown: await failed(() => client.chat.completions.create({ model: "onne", messages: asking("x") })),
    wrong: await failed(() => client.chat.completions.create({ model, messages: [] })),
    stranger: await failed(() => new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list()),
  }),
);

// The assistant's HTTP interface on this device: calls, event streams, errors as one class.

import { sentence } from "./format.js";

const GONE =
  "The assistant does not answer; it may have been closed. Start it again: what you wrote is kept.";

/** What went wrong, in words to show. `status` 0: nobody answered. */
export class ApiError extends Error {
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The JSON of an answer, null for one without a body. Raises `ApiError`. */
export async function call(method, path, body = undefined, more = {}) {
  const answer = await request(method, path, body, more);
  return answer.status === 204 ? null : answer.json();
}

/** Hand each event of a stream to `tell(name, data)`. Raises `ApiError`; an end by `signal` is none. */
export async function stream(method, path, body, tell, signal = undefined) {
  const answer = await request(method, path, body, { signal });
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await read(reader, signal);
    if (done) return;
    const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) dispatch(block, tell);
  }
}

/** Send a file as a form's field; `progress` is told the share that has gone, 0 to 1. */
export function upload(path, file, progress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("file", file, file.name);
    const sending = new XMLHttpRequest(); // fetch tells nothing of how far a body is
    sending.open("POST", path);
    sending.responseType = "json";
    sending.upload.onprogress = (event) =>
      event.lengthComputable && progress(event.loaded / event.total);
    sending.onerror = () => reject(new ApiError(GONE, 0));
    sending.onload = () => {
      if (sending.status < 300) resolve(sending.response);
      else reject(new ApiError(worded(sending.response, sending.status), sending.status));
    };
    sending.send(form);
  });
}

async function request(method, path, body, { signal, keepalive } = {}) {
  const options = { method, signal, keepalive, headers: {} };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw signal?.aborted ? error : new ApiError(GONE, 0);
  }
  if (answer.ok) return answer;
  const data = await answer.json().catch(() => null);
  const wait = Number(answer.headers.get("Retry-After")) || null;
  throw new ApiError(worded(data, answer.status), answer.status, wait);
}

function worded(data, status) {
  if (status === 401) return "This page has lost its token; open the assistant's address again.";
  const message = data?.error?.message;
  if (!message) return `The assistant answered with an error (${status}).`;
  return sentence(message);
}

async function read(reader, signal) {
  try {
    return await reader.read();
  } catch (error) {
    if (signal?.aborted) return { done: true };
    throw new ApiError(GONE, 0);
  }
}

function dispatch(block, tell) {
  let name = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data) tell(name, JSON.parse(data));
}

// The line under an answer: how fast, how sure, where it was made, what it cost; more on opening.

import { el, icon } from "./dom.js";
import { count, duration, percent, rate, usd } from "./format.js";

const ENDS = {
  stop: "finished",
  length: "the limit of tokens was reached",
  cancelled: "stopped",
  context: "the context was full",
  failed: "failed",
};
const ESCALATIONS = {
  "not-needed": "not needed",
  "not-allowed": "not allowed",
  declined: "you kept the local answer",
  failed: "asked, but it failed",
  answered: "asked, and it answered",
};

/** The line, closed; null for an answer that nothing is known of. */
export function detailsLine(message) {
  const { details } = message;
  if (!details) return null;
  const dl = el(
    "dl",
    {},
    rows(message).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
  );
  const summary = el(
    "summary",
    {},
    el("span", { class: "unseen" }, "How this answer was made: "),
    place(details),
    tags(details),
    numbers(details),
    icon("chevron"),
  );
  const node = el("details", { class: "how" }, summary, dl);
  node.addEventListener("toggle", () => node.open && dl.scrollIntoView({ block: "nearest" }));
  return node;
}

function place(details) {
  const cloud = details.source === "cloud";
  return el("span", { class: `tag ${cloud ? "cloud" : ""}` }, cloud ? "Cloud" : "On device");
}

function tags(details) {
  const made = [];
  if (details.escalation === "failed")
    made.push(el("span", { class: "tag warn" }, "Cloud failed: local answer"));
  if (details.escalation === "declined")
    made.push(el("span", { class: "tag" }, "Local answer kept"));
  if (details.finish_reason === "length")
    made.push(el("span", { class: "tag warn" }, "Cut at the token limit"));
  return made;
}

function numbers(details) {
  return short(details)
    .slice(1)
    .map((text) => el("span", { class: "tabular" }, text));
}

function short(details) {
  const parts = [details.source === "cloud" ? "cloud" : "on device"];
  if (details.ttft_ms > 0) parts.push(`${duration(details.ttft_ms)} to first token`);
  if (details.decode_tps > 0) parts.push(rate(details.decode_tps));
  if (details.output_tokens > 0) parts.push(count(details.output_tokens, "token"));
  if (details.confidence !== null && details.calibrated && details.source === "device")
    parts.push(`${percent(details.confidence)} sure`);
  if (details.cost_usd > 0) parts.push(usd(details.cost_usd));
  return parts;
}

function rows(message) {
  const d = message.details;
  const made = [
    [
      "Made by",
      `${message.model || "unknown"}, ${d.source === "cloud" ? "in the cloud" : "on this device"}`,
    ],
  ];
  const add = (name, value, shown = true) => shown && made.push([name, value]);
  add("Why", d.reason, d.reason);
  add("Cloud", ESCALATIONS[d.escalation] ?? d.escalation, d.escalation);
  add("What failed", d.failure, d.failure);
  add(d.source === "cloud" ? "Local answer" : "Confidence", confidence(d));
  add("First token after", duration(d.ttft_ms), d.ttft_ms > 0);
  add("Reading the prompt", rate(d.prefill_tps), d.prefill_tps > 0);
  add("Writing", rate(d.decode_tps), d.decode_tps > 0);
  add(
    "Tokens",
    `${count(d.prompt_tokens, "token")} in, ${d.output_tokens.toLocaleString("en")} out`,
    d.prompt_tokens > 0,
  );
  add("Known from before", count(d.cached_tokens, "token"), d.cached_tokens > 0);
  add("Loading the model", duration(d.load_ms), d.load_ms > 0);
  add(
    "Left out",
    `${count(d.dropped_messages, "earlier message")} that did not fit`,
    d.dropped_messages > 0,
  );
  add("End", ENDS[d.finish_reason] ?? d.finish_reason, d.finish_reason);
  add("Cost", usd(d.cost_usd), d.source === "cloud");
  return made;
}

function confidence({ confidence: value, calibrated }) {
  if (value === null) return "not known: this model is not calibrated";
  const share = percent(value);
  return calibrated
    ? `${share} likely to be right`
    : `${share}, but calibrated for other weights or settings`;
}

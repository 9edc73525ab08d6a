// The question before anything leaves this device: exactly what, to whom, at what cost.

import { call } from "./api.js";
import { openDialog } from "./dialogs.js";
import { button, el, freshId } from "./dom.js";
import { bytes, count, percent, sentence, usd } from "./format.js";
import { failed } from "./notices.js";
import { refreshQuietly } from "./state.js";

const CLASSES = {
  email: ["e-mail address", "e-mail addresses"],
  phone: ["phone number", "phone numbers"],
  iban: ["IBAN", "IBANs"],
  card: ["card number", "card numbers"],
  key: ["secret key", "secret keys"],
};

/** Show what would be sent. Closing it in any way keeps the local answer; `done` is called then. */
export function askConsent(id, proposal, conversation, done) {
  let allow = false;
  const remember = el("input", { type: "checkbox" });
  const keep = button("Keep the local answer", { autofocus: true }, () => dialog.close());
  const send = button("Send", { kind: "primary", type: "submit" });
  const dialog = openDialog({
    title: "Send this question to the cloud?",
    name: "consent",
    body: body(proposal, conversation, remember),
    foot: [keep, send],
    submit: () => {
      allow = true;
      dialog.close();
    },
    closed: async () => {
      done();
      try {
        await call("POST", `/app/consent/${id}`, { allow, remember: allow && remember.checked });
      } catch (error) {
        if (error.status !== 404) failed(error); // 404: it was stopped, or its time is over
      }
      if (allow && remember.checked) refreshQuietly();
    },
  });
  keep.focus();
  return { close: () => dialog.open && dialog.close() };
}

function body(proposal, conversation, remember) {
  const label = freshId("sent");
  return [
    conversation && el("p", {}, `It belongs to the conversation “${conversation}”.`),
    el("p", { class: "why" }, reason(proposal)),
    el(
      "dl",
      { class: "facts" },
      facts(proposal).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
    el(
      "div",
      { class: "field" },
      el("span", { class: "label", id: label }, "Exactly this would be sent"),
      el(
        "pre",
        { class: "sent", tabindex: "0", role: "region", "aria-labelledby": label },
        proposal.sent_text,
      ),
    ),
    el("label", { class: "check" }, remember, "Don’t ask again until the assistant is closed"),
  ];
}

function reason({ reason: why, confidence, calibrated }) {
  const sure =
    confidence !== null && calibrated && !/confidence/i.test(why)
      ? ` The local answer is right with a probability of ${percent(confidence)}.`
      : "";
  return sentence(why || "The local answer may not be good enough") + sure;
}

function facts(proposal) {
  const { worst_cost_usd: cost, draft_bytes: draft } = proposal;
  return [
    ["To", `${proposal.endpoint} (${proposal.base_url})`],
    ["Model", proposal.model],
    [
      "Size",
      `${bytes(proposal.sent_bytes)}${draft ? `, ${bytes(draft)} of it the local answer` : ""}`,
    ],
    ["Taken out", redacted(proposal.redactions)],
    ["Cost at most", cost === null ? "not known: this model has no price in the table" : usd(cost)],
    ["Kind of data", proposal.data_class],
  ];
}

function redacted(found) {
  const parts = Object.entries(found)
    .filter(([, number]) => number > 0)
    .map(([name, number]) => count(number, ...(CLASSES[name] ?? [name, name])));
  return parts.length
    ? `${parts.join(", ")}, replaced by placeholders`
    : "nothing was found that had to be";
}

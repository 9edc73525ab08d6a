// Markdown to elements that cannot do anything: no markup of the model's own, no images, no scripts.
// Only the blocks that changed are made anew, so that an answer in progress does not flicker.

import { confirmOn, copy, el, iconButton } from "./dom.js";

const TAGS = [
  "p",
  "br",
  "hr",
  "h1",
  "h2",
  "h3",
  "h4",
  "h5",
  "h6",
  "ul",
  "ol",
  "li",
  "blockquote",
  "pre",
  "code",
  "strong",
  "em",
  "s",
  "a",
  "table",
  "thead",
  "tbody",
  "tr",
  "th",
  "td",
  "span",
  "div",
];
const ATTRIBUTES = ["href", "class", "start", "title", "data-language"];
const LONGEST_HIGHLIGHTED = 20_000; // characters
const LINK = /^(https?:|mailto:)/i;

const md = window.markdownit({ html: false, linkify: true, breaks: false });
md.validateLink = (url) => LINK.test(url.trim());
// A picture would have to be fetched from somewhere: its words are shown instead.
md.renderer.rules.image = (tokens, at) => md.utils.escapeHtml(tokens[at].content || "picture");
md.renderer.rules.fence = (tokens, at) => code(tokens[at].content, tokens[at].info);
md.renderer.rules.code_block = (tokens, at) => code(tokens[at].content, "");

function code(text, info) {
  const language = info.trim().split(/\s+/)[0].toLowerCase();
  const escape = md.utils.escapeHtml;
  const known = language && window.hljs.getLanguage(language) && text.length < LONGEST_HIGHLIGHTED;
  const shown = known
    ? window.hljs.highlight(text, { language, ignoreIllegals: true }).value
    : escape(text);
  return `<div class="code" data-language="${escape(language)}"><pre><code>${shown}</code></pre></div>`;
}

/** The elements of one block's markup, made safe. */
function elements(html) {
  const fragment = window.DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    link.title = link.href;
  }
  for (const block of fragment.querySelectorAll(".code")) finishCode(block);
  for (const table of fragment.querySelectorAll("table")) table.tabIndex = 0;
  return fragment;
}

function finishCode(block) {
  const pre = block.querySelector("pre");
  const language = block.dataset.language || "text";
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Code, ${language}`);
  const copying = iconButton(
    "copy",
    "Copy the code",
    async () => {
      confirmOn(copying, await copy(pre.textContent));
    },
    { kind: "small" },
  );
  block.prepend(el("div", { class: "code-head" }, el("span", {}, language), copying));
}

/** The markup of each block at the top, in order. */
function blocks(text) {
  const environment = {};
  const tokens = md.parse(text, environment);
  const made = [];
  let begin = 0;
  let depth = 0;
  tokens.forEach((token, at) => {
    depth += token.nesting;
    if (depth === 0) {
      made.push(md.renderer.render(tokens.slice(begin, at + 1), md.options, environment));
      begin = at + 1;
    }
  });
  return made;
}

/** A text that grows inside an element. */
export class MarkdownView {
  constructor(home) {
    this.home = home;
    this.shown = []; // [{html, nodes}]
  }

  show(text) {
    const wanted = blocks(text);
    let same = 0;
    while (same < wanted.length && this.shown[same]?.html === wanted[same]) same += 1;
    for (const old of this.shown.splice(same)) old.nodes.forEach((node) => node.remove());
    for (const html of wanted.slice(same)) {
      const fragment = elements(html);
      this.shown.push({ html, nodes: [...fragment.childNodes] });
      this.home.append(fragment);
    }
  }
}

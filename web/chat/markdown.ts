// Answers as elements. What a model writes is hostile until shown otherwise: HTML in it is text but for a handful of harmless
// tags, and what marked makes of the rest goes through DOMPurify with a list of what may be there. The page's
// Content-Security-Policy stands behind both.
import DOMPurify from 'dompurify';
import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import c from 'highlight.js/lib/languages/c';
import cpp from 'highlight.js/lib/languages/cpp';
import css from 'highlight.js/lib/languages/css';
import diff from 'highlight.js/lib/languages/diff';
import go from 'highlight.js/lib/languages/go';
import ini from 'highlight.js/lib/languages/ini';
import java from 'highlight.js/lib/languages/java';
import javascript from 'highlight.js/lib/languages/javascript';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import rust from 'highlight.js/lib/languages/rust';
import sql from 'highlight.js/lib/languages/sql';
import typescript from 'highlight.js/lib/languages/typescript';
import xml from 'highlight.js/lib/languages/xml';
import yaml from 'highlight.js/lib/languages/yaml';
import { Marked, type Token, type TokenizerAndRendererExtension, type Tokens } from 'marked';
import { h } from './dom';

const languages = { bash, c, cpp, css, diff, go, ini, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(languages)) hljs.registerLanguage(name, language);
hljs.registerAliases(['toml', 'cfg'], { languageName: 'ini' });
hljs.registerAliases(['shell-session', 'console'], { languageName: 'bash' });
hljs.registerAliases(['cuda', 'cu'], { languageName: 'cpp' });

/** A block longer than this is shown without colours: finding them would hold the page up. */
const HIGHLIGHT_CHARS_MAX = 60_000;

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = (s: string) => s.replace(/[&<>"']/g, (ch) => escapes[ch] ?? ch);

const HARMLESS = /^<\/?(?:br|b|i|em|strong|u|sub|sup|kbd|s|mark)\s*\/?>$/i;

/**
 * Formulas in TeX: shown as they are written, for Markdown would take their backslashes and underscores. Their length is bounded,
 * so that an answer full of openings costs no square of its length.
 */
function math(name: string, level: 'block' | 'inline', start: RegExp, whole: RegExp, tag: string): TokenizerAndRendererExtension {
  return {
    name,
    level,
    start: (src) => {
      const at = src.search(start);
      return at < 0 ? undefined : at;
    },
    tokenizer(src) {
      const found = whole.exec(src);
      return found ? { type: name, raw: found[0], text: found.slice(1).find(Boolean)?.trim() ?? '' } : undefined;
    },
    renderer: (token) => `<${tag} class="math">${escape(String(token['text']))}</${tag}>`,
  };
}

const marked = new Marked({
  gfm: true,
  breaks: true,
  extensions: [
    math('mathBlock', 'block', /\n\\\[|\n\$\$/, /^(?:\\\[([^]{1,2000}?)\\\]|\$\$([^]{1,2000}?)\$\$)[ \t]*(?:\n+|$)/, 'p'),
    math('mathInline', 'inline', /\\\(|\$\$/, /^(?:\\\(([^]{1,500}?)\\\)|\$\$([^$\n]{1,500}?)\$\$)/, 'span'),
  ],
  renderer: {
    html({ text }: Tokens.HTML | Tokens.Tag): string {
      return HARMLESS.test(text.trim()) ? text : escape(text);
    },
    // A picture would be a request to wherever the model says: it becomes a link that the reader may follow.
    image({ href, text }: Tokens.Image): string {
      return `<a href="${escape(href)}">${escape(text || href)}</a>`;
    },
    checkbox({ checked }: Tokens.Checkbox): string {
      return checked ? '☑ ' : '☐ ';
    },
  },
});

const ALLOWED = {
  ALLOWED_TAGS: [
    ...['a', 'b', 'blockquote', 'br', 'code', 'del', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'i', 'kbd', 'li'],
    ...['mark', 'ol', 'p', 'pre', 's', 'span', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'u', 'ul'],
  ],
  ALLOWED_ATTR: ['href', 'title', 'class', 'start', 'align'],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
} as const;

/** HTML -> elements of the allowed kinds. */
export function sanitize(html: string): DocumentFragment {
  return DOMPurify.sanitize(html, { ...ALLOWED, ALLOWED_TAGS: [...ALLOWED.ALLOWED_TAGS], ALLOWED_ATTR: [...ALLOWED.ALLOWED_ATTR] });
}

/** Code in colours, as far as its language is known; always the same text. */
export function highlight(code: string, language: string): DocumentFragment {
  if (code.length <= HIGHLIGHT_CHARS_MAX && hljs.getLanguage(language)) {
    const fragment = sanitize(hljs.highlight(code, { language, ignoreIllegals: true }).value);
    if (fragment.textContent === code) return fragment;
  }
  const fragment = document.createDocumentFragment();
  fragment.append(code);
  return fragment;
}

/** A block of code with its language and a button that copies it. */
function codeBlock(code: string, language: string): HTMLElement {
  const name = language || 'text';
  return h(
    'figure',
    { class: 'code' },
    h('figcaption', {}, h('span', {}, name), h('button', { type: 'button', class: 'copy-code' }, 'Copy')),
    h('pre', { tabindex: '0', 'aria-label': `Code, ${name}` }, h('code', {}, highlight(code, language))),
  );
}

function finish(fragment: DocumentFragment): DocumentFragment {
  for (const code of fragment.querySelectorAll('pre > code')) {
    const language = /(?:^|\s)language-([\w+#.-]+)/.exec(code.className)?.[1]?.toLowerCase() ?? '';
    code.parentElement?.replaceWith(codeBlock((code.textContent ?? '').replace(/\n$/, ''), language));
  }
  for (const table of fragment.querySelectorAll('table')) {
    const box = h('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' });
    table.replaceWith(box);
    box.append(table);
  }
  for (const link of fragment.querySelectorAll('a')) {
    if (link.hasAttribute('href')) {
      link.target = '_blank';
      link.rel = 'noopener noreferrer nofollow';
    }
  }
  return fragment;
}

/** Markdown -> elements; text that nests deeper than the parser's stack reaches stays text. */
export function renderMarkdown(text: string): DocumentFragment {
  try {
    return finish(sanitize(marked.parse(text, { async: false })));
  } catch {
    return plainText(text);
  }
}

function plainText(text: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  fragment.append(h('p', { class: 'plain' }, text));
  return fragment;
}

/**
 * Markdown that grows: only blocks that have changed are made anew, so that a long answer costs no more at its end than at its
 * start, and what the reader has selected above stays selected.
 */
export class GrowingMarkdown {
  private shown: { raw: string; nodes: ChildNode[] }[] = [];

  constructor(private readonly box: HTMLElement) {}

  /** Shows `text`. `whole`: nothing more comes, so that links defined further down can be resolved everywhere. */
  update(text: string, whole: boolean): void {
    try {
      const tokens = marked.lexer(text);
      if (whole && Object.keys(tokens.links).length > 0) this.replace(renderMarkdown(text));
      else this.grow(tokens);
    } catch {
      this.replace(plainText(text)); // see renderMarkdown
    }
  }

  private replace(fragment: DocumentFragment): void {
    this.shown = [];
    this.box.replaceChildren(fragment);
  }

  private grow(tokens: Token[]): void {
    let same = 0;
    while (same < tokens.length && this.shown[same]?.raw === tokens[same]?.raw) same++;
    for (const { nodes } of this.shown.splice(same)) for (const node of nodes) node.remove();
    if (same === 0) this.box.replaceChildren();
    for (const token of tokens.slice(same)) this.append(token);
  }

  private append(token: Token): void {
    const fragment = finish(sanitize(marked.parser([token])));
    this.shown.push({ raw: token.raw, nodes: [...fragment.childNodes] });
    this.box.append(fragment);
  }
}

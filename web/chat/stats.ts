// The line of figures under an answer.
import { formatCount, formatMs, formatRate } from '../shared/format';
import { h } from './dom';
import type { Message } from './types';

interface Figure {
  text: string;
  about: string;
}

/** The figures worth showing now; live ones of a running answer, all of one that is whole. */
export function figures(message: Message): Figure[] {
  const s = message.stats;
  if (!s) return [];
  const list: Figure[] = [];
  if (s.tokens_per_second !== null) {
    list.push({ text: formatRate(s.tokens_per_second), about: 'Tokens generated per second, the first one left out' });
  }
  if (s.ttft_ms > 0) list.push({ text: `${formatMs(s.ttft_ms)} to first token`, about: 'TTFT: from sending to the first text' });
  if (s.tokens > 0) {
    list.push({ text: `${formatCount(s.tokens)} ${s.tokens === 1 ? 'token' : 'tokens'}`, about: 'Tokens generated' });
  }
  if (s.prompt_tokens !== null) {
    const cached = s.cached_tokens;
    list.push(
      cached === null
        ? { text: `${formatCount(s.prompt_tokens)} prompt tokens`, about: 'Tokens of the prompt' }
        : {
            text: `${formatCount(cached)} of ${formatCount(s.prompt_tokens)} prompt tokens cached`,
            about: 'Tokens of the prompt that the server did not have to compute again',
          },
    );
  }
  if (s.drafts > 0) {
    list.push({
      text: `${formatCount(s.drafts_accepted)} of ${formatCount(s.drafts)} drafts held`,
      about: 'Tokens guessed ahead from the text so far, and how many of them were right',
    });
  }
  return list;
}

export function statsLine(message: Message): HTMLElement {
  const line = h('ul', { class: 'stats', 'aria-label': 'Figures of this answer' });
  line.append(...figures(message).map((f) => h('li', { title: f.about }, f.text)));
  return line;
}

/** How the answer ended, where that is worth a word. */
export function endNote(message: Message): string {
  if (message.finish === 'length') return 'The answer ended at its limit of tokens.';
  if (message.finish === 'stopped') return 'Stopped.';
  if (message.finish === undefined) return 'The page was closed while this was written.';
  return '';
}

/* What was found in a row, in a dialog: the verdict's reasons and every finding of the checker. */
import { h, on, replace } from './dom';
import type { Finding, FindingLevel } from './data';
import { chip } from './cells';
import { comparableAbout, findingsAgainst } from './columns';
import type { Rows } from './rows';

const FIELDS: Record<string, string> = {
  decode_tok_s: 'decode',
  client_tok_s: 'end to end',
  prefill_tok_s: 'prefill',
  ttft_ms: 'TTFT',
  tpot_ms: 'TPOT',
  latency_ms: 'latency',
  itl_ms: 'ITL',
  vram_bytes: 'memory',
  rss_bytes: 'memory',
  prompt_tokens: 'prompt tokens',
  output_tokens: 'output tokens',
  cache_state: 'cache',
};

export function fieldName(field: string | null): string {
  return field === null ? '' : (FIELDS[field] ?? field.replaceAll('_', ' '));
}

/** A finding's level as a chip: what a source printed and does not hold "deviates". */
export function levelChip(level: FindingLevel): HTMLElement {
  return level === 'legacy' ? chip('wrong', 'deviates') : chip(level);
}

/** Findings as a list; each says its level in a word. */
export function findingList(findings: readonly Finding[]): HTMLElement {
  return h(
    'ul',
    { class: 'findings' },
    ...findings.map((f) =>
      h('li', {}, levelChip(f.level), f.field === null ? null : h('b', {}, `${fieldName(f.field)}: `), f.text),
    ),
  );
}

const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'findings-title' });
on(dialog, 'click', (event) => {
  if (event.target === dialog) {
    dialog.close(); // the ground around it
  }
});

export function showFindings(rows: Rows, i: number, root: string): void {
  const close = h('button', { type: 'button', class: 'button' }, 'Close');
  on(close, 'click', () => dialog.close());
  const reasons = rows.json('verdict_reasons', i) ?? [];
  const findings = [...findingsAgainst(rows, i), ...rows.findings(i).filter((f) => f.level === 'unqualified')];
  const comparable = rows.text('comparable', i);
  replace(
    dialog,
    h(
      'h2',
      { id: 'findings-title' },
      `${rows.text('row', i) ?? 'Row'} · ${rows.text('engine', i) ?? ''} · ${rows.text('hardware', i) ?? ''}`,
    ),
    reasons.length ? h('h3', {}, 'Verdict: ', rows.text('verdict', i)) : null,
    reasons.length ? h('ul', {}, ...reasons.map((reason) => h('li', {}, reason))) : null,
    findings.length ? h('h3', {}, 'What the checker found') : null,
    findings.length ? findingList(findings) : null,
    comparable ? h('p', { class: 'soft' }, comparableAbout(comparable, rows.text('unfit', i))) : null,
    h('p', { class: 'dialog-foot' }, h('a', { href: root + rows.href(i) }, 'The record line'), close),
  );
  if (!dialog.isConnected) {
    document.body.append(dialog);
  }
  dialog.showModal();
}

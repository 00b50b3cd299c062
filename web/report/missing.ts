/* Why a cell shows a dash. A reader who is told the reason needs not ask whether the page lost the number. */
import type { IntervalMetric, MedianMetric, NumberColumn } from './data';
import type { Rows } from './rows';

const RAW_HAS: ReadonlySet<string> = new Set(['tok_s', 'prompt_tokens', 'output_tokens']);

const NEEDS: Partial<Record<string, string>> = {
  itl_ms: 'it needs the time of every token, which this target does not give',
  ttfc_ms: 'no time of the first visible content was recorded',
  queue_ms: 'only an open loop has a time at which a request was meant to be sent',
  request_rps: 'only an open loop has a request rate',
  goodput_rps: 'only an open loop with a latency target has a goodput',
  cached_tokens: 'the target does not report how much of the prompt was cached',
  server_overhead_ms: 'it needs an engine-only measurement of as many tokens beside a cold row at concurrency 1',
  limit_share: 'no measured limit stands beside the rate, or the bytes per token of the model file are not known',
  j_per_output_token: 'the energy was not measured',
  j_per_prompt_token: 'the energy was not measured',
  j_per_request: 'the energy was not measured',
  net_j_per_output_token: 'the energy was not measured, or not the idle power',
  kl_mean: 'the quality was not measured',
  rss_bytes: 'the memory of the target was not sampled',
  vram_bytes: 'the device memory of the target was not sampled',
  power_cap_w: 'no power limit is known for this hardware',
  depth: 'only raw tests have a depth',
  batch: 'only raw tests have a batch',
};

/** The reason why a row has no value in `column`, as a sentence without a full stop. */
export function whyMissing(rows: Rows, i: number, column: IntervalMetric | MedianMetric | NumberColumn): string {
  const kind = rows.text('kind', i);
  const error = rows.text('error', i);
  if (error) {
    return `not measured: ${error}`;
  }
  if (kind === 'legacy' || kind === 'imported') {
    return 'not known: the source does not state it';
  }
  if (column === 'tok_s' && kind !== 'raw') {
    return 'only raw tests have one rate for all their tokens; see decode and prefill';
  }
  const isMetric = column.endsWith('_ms') || column.endsWith('tok_s') || column.endsWith('tokens');
  if (rows.is('test', i, 'raw') && isMetric && !RAW_HAS.has(column)) {
    return 'does not apply: a raw test has one rate, tok/s';
  }
  return `not known: ${NEEDS[column] ?? 'the record holds no value'}`;
}

/** The reason why a figure has no interval. */
export function whyNoInterval({ size, printed }: { size: { n: number } | null; printed: boolean }): string {
  return printed
    ? 'as printed by its source, which gives no samples and so no interval'
    : size === null
      ? 'no interval in the data of this page'
      : size.n < 5
        ? `no interval: ${size.n} ${size.n === 1 ? 'value' : 'values'}, five are needed`
        : 'no interval was recorded';
}

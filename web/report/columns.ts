/* The columns: what a table can show of a row. */
import { chip, type Column, dash, linked, metric, milliseconds, number, percentiles, text } from './cells';
import { h } from './dom';
import type { Finding } from './data';
import { backendOf } from './filters';
import * as format from './format';
import { whyMissing } from './missing';
import type { Rows } from './rows';

const COMPARABLE: Record<string, string> = {
  hardware:
    'Another row of this site did the same work on the same stack and differs in hardware or power: these two ' +
    'say what the hardware does.',
  stack: 'Another row of this site did the same work with the same engine, build and settings.',
  workload: 'Another row of this site did the same work; engine, build, settings or hardware differ.',
  alone: 'Fit to be ranked, but no other row of this site did the same work.',
  unfit: 'May not be ranked',
};

/** What a comparability class says of a row, in words. */
export function comparableAbout(value: string, unfit: string | null): string {
  return value === 'unfit' ? `May not be ranked: ${unfit ?? 'the reason is not known'}` : (COMPARABLE[value] ?? value);
}

/** A reason in the few words that a cell has room for. */
function shortly(reason: string): string {
  return /cache/.test(reason)
    ? 'cache unverified'
    : /model/.test(reason)
      ? 'model unknown'
      : /invalid/.test(reason)
        ? 'invalid'
        : reason;
}

function powerText(rows: Rows, i: number): string {
  const cap = rows.number('power_cap_w', i);
  const max = rows.number('power_max_w', i);
  const driver = rows.text('driver', i)?.split('.')[0];
  const power =
    cap === null
      ? ''
      : max !== null && cap >= max
        ? `${format.plain(cap)}\u202fW max`
        : `cap ${format.plain(cap)}\u202fW`;
  return [power, driver ? `drv ${driver}` : ''].filter(Boolean).join(' · ');
}

/** What was asked for: of a raw test its key, which says how many tokens ("pp512", "tg128@d4096"). */
export function workloadOf(rows: Rows, i: number): string {
  const [workload, row] = [rows.text('workload', i), rows.text('row', i)];
  return (rows.is('test', i, 'raw') ? (row ?? workload) : (workload ?? row)) ?? '';
}

export function cacheText(rows: Rows, i: number): string {
  const cache = rows.text('cache', i) ?? '';
  const state = rows.text('cache_state', i);
  return cache === 'cold' || cache === 'warm' ? `${cache}${state ? `, ${state}` : ''}` : cache;
}

/** Findings that speak against a row: that nobody measured its quality stands in a column of its own. */
export function findingsAgainst(rows: Rows, i: number): Finding[] {
  return rows.findings(i).filter((f) => f.level !== 'unqualified');
}

const COLUMNS: readonly Column[] = [
  text({
    id: 'kind',
    title: 'Kind',
    about:
      'legacy and imported: figures of another source; api: through a server; raw: the engine alone; probe: the ' +
      'machine',
    width: 92,
    text: (rows, i) => rows.text('kind', i) ?? '',
    fields: ['kind', 'source', 'test'],
    cell: (rows, i) => ({
      main: [chip(rows.text('kind', i) ?? 'unknown')],
      sub: [rows.text('date', i)?.slice(0, 10) ?? 'undated'],
    }),
  }),
  text({
    id: 'comparable',
    title: 'Comparable',
    optional: true,
    about: 'The narrowest class in which another row of this site has the same key, or that the row may not be ranked',
    width: 112,
    text: (rows, i) => rows.text('comparable', i) ?? '',
    fields: ['comparable', 'unfit'],
    cell: (rows, i) => {
      const value = rows.text('comparable', i) ?? '';
      const about = comparableAbout(value, rows.text('unfit', i));
      return {
        main: [value === 'unfit' ? 'not ranked' : value || dash('not known')],
        sub: [value === 'unfit' ? shortly(rows.text('unfit', i) ?? '') : ''],
        title: about,
      };
    },
  }),
  text({
    id: 'model',
    title: 'Model',
    about: 'The name that the target reports, else the file’s; below, its quantisation',
    width: 190,
    pinned: true,
    fields: ['model', 'quantization'],
    text: (rows, i) => rows.text('model', i) ?? '',
    cell: (rows, i, root) => {
      const slug = rows.text('model_slug', i);
      const name = rows.text('model', i) ?? 'model not known';
      return {
        main: [slug ? h('a', { href: `${root}models/${encodeURIComponent(slug)}.html` }, name) : name],
        sub: [rows.text('quantization', i) ?? ''],
        title: name,
      };
    },
  }),
  text({
    id: 'hardware',
    title: 'Hardware',
    about: 'The first GPU, else the processor, with its memory; below, power cap and driver',
    width: 246,
    pinned: true,
    fields: ['hardware', 'driver'],
    text: (rows, i) => rows.text('hardware', i) ?? '',
    cell: (rows, i, root) => {
      const slug = rows.text('hardware_slug', i);
      const name = rows.text('hardware', i) ?? 'hardware not known';
      return {
        main: [slug ? h('a', { href: `${root}hardware/${encodeURIComponent(slug)}.html` }, name) : name],
        sub: [powerText(rows, i)],
        title: `${name}${powerText(rows, i) ? `, ${powerText(rows, i)}` : ''}`,
      };
    },
  }),
  text({
    id: 'backend',
    title: 'Backend',
    about: 'Engine and device interface as the engine reports them; below, its build',
    width: 138,
    fields: ['engine', 'build', 'device_api'],
    text: (rows, i) => `${backendOf(rows, i)} ${rows.text('build', i) ?? ''}`.trim(),
    cell: (rows, i) => {
      const engine = backendOf(rows, i);
      const build = rows.text('build', i) ?? '';
      return {
        main: [engine || dash('the target does not say which engine it is')],
        sub: [build],
        title: `${engine} ${build}`.trim(),
      };
    },
  }),
  text({
    id: 'label',
    title: 'Label',
    about: 'The name that the user gave the run',
    width: 128,
    text: (rows, i) => rows.text('label', i) ?? '',
  }),
  text({
    id: 'workload',
    title: 'Workload',
    about: 'What was asked for; below, whether the prompt was cached and who verified it',
    width: 124,
    fields: ['workload', 'row', 'natural_stop'],
    text: workloadOf,
    cell: (rows, i, root) => ({
      main: [h('a', { href: root + rows.href(i) }, workloadOf(rows, i) || 'row')],
      sub: [{ none: '', unknown: 'cache unknown' }[cacheText(rows, i)] ?? cacheText(rows, i)],
      title: `row ${rows.text('row', i) ?? ''}; cache ${cacheText(rows, i) || 'not known'}`,
    }),
  }),
  number({
    id: 'concurrency',
    title: 'Conc.',
    about: 'Requests at a time; below, whether the server worked on them together or one after the other',
    width: 78,
    sub: (rows, i) => {
      const how = rows.text('batching', i) ?? '';
      const offered = rows.number('rate_rps', i);
      return [offered !== null ? `${format.figure(offered, 3)}/s` : how === 'single' || how === 'unknown' ? '' : how];
    },
  }),
  metric({
    id: 'decode_tok_s',
    title: 'Decode',
    unit: 'tok/s',
    about: 'Tokens per second of one stream after the first token: 1000 / TPOT',
    bigger: true,
    first: true,
    width: 90,
  }),
  metric({
    id: 'aggregate_tok_s',
    title: 'Together',
    unit: 'tok/s',
    about: 'Output tokens of all streams of a round over the time of the round',
    bigger: true,
    optional: true,
    width: 90,
  }),
  metric({
    id: 'tok_s',
    title: 'Raw',
    unit: 'tok/s',
    about: 'Tokens of the timed part of a raw test per second: the engine alone, without server or sampling',
    bigger: true,
    optional: true,
    first: true,
    width: 122,
  }),
  metric({
    id: 'client_tok_s',
    title: 'End to end',
    unit: 'tok/s',
    about: 'Output tokens over the whole time of a request',
    bigger: true,
    width: 90,
  }),
  metric({
    id: 'prefill_tok_s',
    title: 'Prefill',
    unit: 'tok/s',
    about: 'Prompt tokens that were not cached over the time to the first token: a client’s view, queueing counts',
    bigger: true,
    width: 122,
  }),
  metric({
    id: 'ttft_ms',
    title: 'TTFT',
    unit: 'ms',
    about: 'Time to the first token',
    show: milliseconds,
    sub: percentiles('ttft_ms'),
    width: 88,
  }),
  metric({ id: 'tpot_ms', title: 'TPOT', unit: 'ms', about: 'Time per output token after the first', width: 98 }),
  metric({
    id: 'itl_ms',
    title: 'ITL',
    unit: 'ms',
    about: 'Gap between neighbouring tokens, all gaps pooled',
    show: milliseconds,
    sub: percentiles('itl_ms'),
    optional: true,
    width: 112,
  }),
  metric({
    id: 'queue_ms',
    title: 'Queue',
    unit: 'ms',
    about: 'How much later than intended a request was sent',
    show: milliseconds,
    optional: true,
    width: 88,
  }),
  number({ id: 'prompt_tokens', title: 'Prompt', unit: 'tokens', about: 'Prompt tokens of a request', width: 72 }),
  number({
    id: 'cached_tokens',
    title: 'Cached',
    unit: 'tokens',
    about: 'Prompt tokens that the server took from its cache',
    width: 72,
    optional: true,
  }),
  number({ id: 'output_tokens', title: 'Output', unit: 'tokens', about: 'Output tokens of a request', width: 72 }),
  metric({
    id: 'latency_ms',
    title: 'Latency',
    unit: 'ms',
    about: 'Time of a whole request; in an open loop from when it was meant to be sent',
    show: milliseconds,
    sub: percentiles('latency_ms'),
    width: 90,
  }),
  {
    id: 'memory',
    title: 'Memory',
    about:
      'Peak device memory while the row ran; below, resident memory of the server. Of a printed row, the change ' +
      'that its source states',
    width: 92,
    num: true,
    fields: ['vram_bytes', 'rss_bytes', 'memory'],
    key: (rows) => (i) => rows.number('vram_bytes', i) ?? rows.number('rss_bytes', i),
    cell: (rows, i, root) => {
      const vram = rows.number('vram_bytes', i);
      const rss = rows.number('rss_bytes', i);
      const printed = rows.json('printed', i)?.['vram_delta'];
      if (printed !== undefined && printed !== null) {
        return { main: [linked(rows, i, root, String(printed))], sub: ['change'] };
      }
      const main = vram ?? rss;
      return main === null
        ? { main: [dash(whyMissing(rows, i, 'vram_bytes'))] }
        : {
            main: [linked(rows, i, root, format.bytes(main))],
            sub: [vram !== null && rss !== null ? `${format.bytes(rss)} host` : vram !== null ? 'device' : 'host'],
          };
    },
  },
  text({
    id: 'cache',
    title: 'Cold / warm',
    about: 'Whether the prompt was in the server’s cache, and whether its token counts bear that out',
    width: 96,
    fields: ['cache', 'cache_state', 'cache_reason'],
    text: (rows, i) => cacheText(rows, i),
    cell: (rows, i) => {
      const cache = rows.text('cache', i) ?? 'unknown';
      const state = rows.text('cache_state', i);
      return {
        main: [cache === 'none' ? dash('does not apply: no prompt cache in this test') : cache],
        sub: [cache === 'none' ? '' : (state ?? '')],
        title: rows.text('cache_reason', i),
      };
    },
  }),
  {
    id: 'j_per_output_token',
    title: 'Energy',
    unit: 'J/token',
    about:
      'Joules per output token; below, what is left after idle power is taken off. Struck through where the ' +
      'window was not valid',
    width: 90,
    num: true,
    fields: ['j_per_output_token', 'net_j_per_output_token', 'energy_valid', 'energy_reasons'],
    key: (rows) => (i) => rows.number('j_per_output_token', i),
    cell: (rows, i, root) => {
      const j = rows.number('j_per_output_token', i);
      const net = rows.number('net_j_per_output_token', i);
      const reasons = rows.json('energy_reasons', i) ?? [];
      if (j === null) {
        return { main: [dash(reasons[0] ?? whyMissing(rows, i, 'j_per_output_token'))] };
      }
      const valid = rows.is('energy_valid', i, 'true');
      const value = linked(rows, i, root, format.figure(j, 3));
      return {
        main: [valid ? value : h('s', {}, value)],
        sub: [valid ? (net === null ? '' : `net ${format.figure(net, 3)}`) : 'not valid'],
        title: valid ? 'measured over a valid window' : `not valid: ${reasons.join('; ') || 'the window is too short'}`,
      };
    },
  },
  number({
    id: 'j_per_prompt_token',
    title: 'Energy, prompt',
    unit: 'J/token',
    about: 'Joules per prompt token',
    show: (v) => format.figure(v, 3),
    width: 90,
    optional: true,
  }),
  number({
    id: 'j_per_request',
    title: 'Energy, request',
    unit: 'J',
    about: 'Joules per request',
    show: (v) => format.figure(v, 3),
    width: 90,
    optional: true,
  }),
  {
    id: 'limit_share',
    title: 'Of the limit',
    about: 'Share of what the machine was measured to do: memory bandwidth for decoding, matrix rate for prefill',
    width: 104,
    num: true,
    bigger: true,
    fields: ['limit_share', 'limit_measured', 'limit_bytes', 'limit_ops', 'limit_kind'],
    key: (rows) => (i) => rows.number('limit_share', i),
    cell: (rows, i, root) => {
      const share = rows.number('limit_share', i);
      const measured = rows.number('limit_measured', i);
      if (share === null) {
        return { main: [dash(whyMissing(rows, i, 'limit_share'))] };
      }
      const unit = rows.text('limit_unit', i) ?? '';
      return {
        main: [linked(rows, i, root, format.percent(share))],
        sub: [measured === null ? '' : `${format.figure(measured, 3)} ${unit}`],
        title:
          `${rows.is('limit_kind', i, 'read') ? 'memory bandwidth' : 'matrix rate'}: ` +
          `${format.percent(share)} of the measured ${measured ?? ''} ${unit}. ${rows.text('limit_rule', i) ?? ''}`,
      };
    },
  },
  {
    id: 'quality',
    title: 'Quality',
    about: 'Whether the answers were held against a reference; below, the measure',
    width: 112,
    fields: ['qualified', 'quality_kind', 'quality_reason', 'kl_mean', 'kl_p999', 'top1_agreement', 'top20_agreement'],
    key: (rows) => (i) => rows.number('kl_mean', i) ?? rows.number('top1_agreement', i),
    cell: (rows, i, root) => {
      const qualified = rows.is('qualified', i, 'true');
      const kl = rows.number('kl_mean', i);
      const top1 = rows.number('top1_agreement', i);
      const reason = rows.text('quality_reason', i) ?? (qualified ? 'measured' : 'nobody measured it');
      const measure = kl !== null ? `KL ${kl.toPrecision(2)}` : top1 !== null ? `top-1 ${format.percent(top1)}` : '';
      return {
        main: [qualified ? 'qualified' : dash(reason)],
        sub: measure ? [linked(rows, i, root, measure)] : [],
        title: reason,
      };
    },
  },
  number({
    id: 'request_rps',
    title: 'Requests',
    unit: '1/s',
    about: 'Requests per second that the server completed in an open loop',
    show: (v) => format.figure(v, 3),
    bigger: true,
    optional: true,
    width: 84,
  }),
  number({
    id: 'goodput_rps',
    title: 'Goodput',
    unit: '1/s',
    about: 'Requests per second within the latency target',
    show: (v) => format.figure(v, 3),
    bigger: true,
    optional: true,
    width: 84,
  }),
  metric({
    id: 'streams_decoding',
    title: 'Streams',
    unit: 'streams',
    about: 'Streams that decoded at the same time, on average: the concurrency if the server batches, 1 if it queues',
    optional: true,
    width: 84,
  }),
  number({
    id: 'depth',
    title: 'Depth',
    unit: 'tokens',
    about: 'Tokens in the context before the timed part',
    optional: true,
    width: 78,
  }),
  number({ id: 'batch', title: 'Batch', about: 'Sequences in one batch', optional: true, width: 64 }),
  number({ id: 'failed', title: 'Failed', about: 'Requests that failed, warm-ups left out', width: 64 }),
  {
    id: 'verdict',
    title: 'Verdict',
    about: 'Whether the measurement was quiet enough to be believed, and what the checker found in the row',
    width: 116,
    fields: ['verdict', 'verdict_reasons'],
    key: (rows) => (i) => ['clean', 'noisy', 'invalid'].indexOf(rows.text('verdict', i) ?? ''),
    cell: (rows, i) => {
      const state = rows.text('verdict', i) ?? 'unknown';
      const found = findingsAgainst(rows, i).length;
      const reasons = rows.json('verdict_reasons', i) ?? [];
      const button =
        found || reasons.length
          ? h(
              'button',
              { type: 'button', class: 'reasons', 'data-findings': i, 'aria-haspopup': 'dialog' },
              found ? format.plural(found, 'finding') : format.plural(reasons.length, 'reason'),
            )
          : null;
      return { main: [chip(state)], sub: button ? [button] : [], title: reasons.join('; ') };
    },
  },
];

const BY_ID = new Map(COLUMNS.map((column) => [column.id, column]));

export function columnsOf(ids: readonly string[]): Column[] {
  return ids.map((id) => {
    const column = BY_ID.get(id);
    if (!column) {
      throw new Error(`no column ${id}`);
    }
    return column;
  });
}

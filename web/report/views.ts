/* Which columns stand together: the views of the index, and the table of a model's or a machine's page. */
import type { Column } from './cells';
import { columnsOf } from './columns';
import type { NumberColumn } from './data';
import type { Rows } from './rows';

export interface View {
  id: string;
  title: string;
  columns: readonly string[];
  /** Rows that the view is about; all where it is left out. */
  keep?: (rows: Rows, i: number) => boolean;
  /** How the rows that are kept are called. */
  kept?: string;
  /** The order that it opens with; that of the records where left out. */
  sort?: string;
}

const WHO = ['model', 'hardware', 'backend', 'workload', 'concurrency'];

/** The first is the one that the index opens with. */
export const VIEWS: readonly View[] = [
  {
    id: 'decode',
    title: 'Decode',
    columns: [
      'kind',
      ...WHO,
      'decode_tok_s',
      'tok_s',
      'limit_share',
      'client_tok_s',
      'tpot_ms',
      'prefill_tok_s',
      'ttft_ms',
      'quality',
      'verdict',
    ],
  },
  {
    id: 'latency',
    title: 'Latency',
    columns: [
      ...WHO,
      'ttft_ms',
      'tpot_ms',
      'itl_ms',
      'latency_ms',
      'prefill_tok_s',
      'prompt_tokens',
      'cached_tokens',
      'output_tokens',
      'cache',
      'verdict',
    ],
  },
  {
    id: 'raw',
    title: 'Raw',
    columns: [
      'model',
      'hardware',
      'backend',
      'workload',
      'tok_s',
      'limit_share',
      'depth',
      'batch',
      'prompt_tokens',
      'output_tokens',
      'j_per_output_token',
      'memory',
      'verdict',
    ],
    keep: (rows, i) => rows.is('test', i, 'raw'),
    kept: 'raw rows',
  },
  {
    id: 'load',
    title: 'Load',
    columns: [
      ...WHO,
      'aggregate_tok_s',
      'decode_tok_s',
      'streams_decoding',
      'ttft_ms',
      'latency_ms',
      'queue_ms',
      'request_rps',
      'goodput_rps',
      'failed',
      'verdict',
    ],
    keep: (rows, i) => (rows.number('concurrency', i) ?? 0) > 1 || rows.number('rate_rps', i) !== null,
    kept: 'rows with more than one request at a time',
  },
  {
    id: 'energy',
    title: 'Energy',
    columns: [
      ...WHO,
      'decode_tok_s',
      'tok_s',
      'j_per_output_token',
      'j_per_prompt_token',
      'j_per_request',
      'limit_share',
      'verdict',
    ],
  },
  {
    id: 'hardware',
    title: 'Hardware',
    sort: 'hardware',
    columns: [
      'hardware',
      'model',
      'backend',
      'workload',
      'concurrency',
      'decode_tok_s',
      'tok_s',
      'limit_share',
      'prefill_tok_s',
      'j_per_output_token',
      'memory',
      'verdict',
    ],
  },
];

/** The columns of a model's or a machine's page, in the order of the results pages that people know. */
export const PAGE_COLUMNS: readonly string[] = [
  'kind',
  'comparable',
  'hardware',
  'backend',
  'label',
  'workload',
  'concurrency',
  'decode_tok_s',
  'aggregate_tok_s',
  'tok_s',
  'client_tok_s',
  'prefill_tok_s',
  'ttft_ms',
  'tpot_ms',
  'prompt_tokens',
  'output_tokens',
  'latency_ms',
  'memory',
  'cache',
  'j_per_output_token',
  'limit_share',
  'quality',
  'verdict',
];

/** Columns of `ids` that have something to show for these rows. */
export function shownColumns(rows: Rows, ids: readonly string[]): Column[] {
  return columnsOf(ids).filter((c) => !c.optional || rows.has(c.id as NumberColumn));
}

/* The data that src/report writes and the pages read. docs/report.md says what each part means; the C tests hold the
 * written data against it. Types only. */

/* `sluice_report('NAME', 'JSON text')`, once per data script. */
export type Receive = (name: string, json: string) => void;

/* ---- Tables ------------------------------------------------------------------------------------------------------ */

/* Comma-separated items, each VALUE or VALUE*COUNT; the empty value is "not known". */
export type Column = string;

export type IntervalMetric =
  | "decode_tok_s"
  | "client_tok_s"
  | "prefill_tok_s"
  | "aggregate_tok_s"
  | "tok_s"
  | "tpot_ms"
  | "ttfc_ms"
  | "queue_ms"
  | "streams_decoding"
  | PercentileMetric;
export type PercentileMetric = "ttft_ms" | "itl_ms" | "latency_ms";
export type MedianMetric =
  | "prompt_tokens"
  | "cached_tokens"
  | "output_tokens"
  | "request_rps"
  | "goodput_rps"
  | "server_overhead_ms";

export type NumberColumn =
  | IntervalMetric
  | `${IntervalMetric}.${"lo" | "hi"}`
  | `${PercentileMetric}.${"p95" | "p99"}`
  | MedianMetric
  | "line"
  | "target"
  | "power_cap_w"
  | "power_max_w"
  | "concurrency"
  | "rate_rps"
  | "depth"
  | "batch"
  | "max_tokens"
  | "warmups"
  | "runs"
  | "failed"
  | "limit_share"
  | "limit_measured"
  | "limit_bytes"
  | "limit_ops"
  | "j_per_output_token"
  | "net_j_per_output_token"
  | "j_per_prompt_token"
  | "j_per_request"
  | "kl_mean"
  | "kl_p999"
  | "top1_agreement"
  | "top20_agreement"
  | "rss_bytes"
  | "vram_bytes";

export type TextColumn =
  | "run"
  | "row"
  | "kind"
  | "source"
  | "test"
  | "date"
  | "label"
  | "suite"
  | "model"
  | "model_slug"
  | "quantization"
  | "hardware"
  | "hardware_slug"
  | "driver"
  | "engine"
  | "build"
  | "device_api"
  | "target_name"
  | "workload"
  | "arrival"
  | "natural_stop"
  | "error"
  | "cache"
  | "cache_state"
  | "cache_reason"
  | "batching"
  | "batching_reason"
  | "key_workload"
  | "key_stack"
  | "key_hardware"
  | "unfit"
  | "comparable"
  | "limit_kind"
  | "limit_unit"
  | "limit_rule"
  | "energy_valid"
  | "energy_source"
  | "qualified"
  | "quality_kind"
  | "quality_reason"
  | "verdict";

export interface Size {
  n: number;
  level: number | null;
}

export type FindingLevel = "wrong" | "invalid" | "noisy" | "unqualified" | "unverified" | "interrupted" | "legacy";

export interface Finding {
  level: FindingLevel;
  /* the column that it is about */
  field: NumberColumn | TextColumn | null;
  text: string;
}

export interface JsonDictionaries {
  size: Size[];
  energy_reasons: string[][];
  verdict_reasons: string[][];
  printed: Record<string, string | number | null>[];
  findings: Finding[][];
}
export type JsonColumn = Exclude<keyof JsonDictionaries, "size">;
export type SizeColumn = `${IntervalMetric}.size`;

export interface Table {
  n: number;
  dict: Partial<Record<TextColumn, string[]>> & Partial<JsonDictionaries>;
  columns: Partial<Record<NumberColumn | TextColumn | JsonColumn | SizeColumn, Column>>;
}

/* ---- What the data files hold ------------------------------------------------------------------------------------ */

export interface Site {
  contract: 1;
  /* "sluice 0.1.0" */
  tool: string;
}

export interface RecordFile {
  /* "records/NAME.jsonl", from the site's root */
  href: string;
  sha256: string;
  bytes: number;
  runs: number;
  rows: number;
  samples: number;
  /* findings of level "wrong" */
  wrong: number;
  /* findings beyond the 10,000th, which are not listed anywhere */
  findings_left_out: number;
}

/* data/index.js */
export interface IndexData {
  site: Site;
  files: RecordFile[];
  models: { slug: string; title: string; quantization: string | null; rows: number }[];
  hardware: { slug: string; title: string; rows: number }[];
  /* in the order of the records */
  runs: RunSummary[];
  table: Table;
}

export interface RunSummary {
  id: string;
  date: string | null;
  label: string | null;
  suite: string | null;
  source: "measured" | "imported" | "legacy";
  /* index into files, and the run line in it */
  file: number;
  line: number;
  rows: number;
  /* of the end line; null: the run was interrupted */
  verdict: "clean" | "noisy" | "invalid" | null;
}

/* A distinct machine and stack, with the runs on it. Loads and free memory, which change all the time, are left out. */
export interface Block {
  runs: string[];
  hardware: string;
  hardware_slug: string;
  environment: Omit<Environment, "load1" | "memory_available">;
  targets: Target[];
  sampling: Sampling | null;
  origin: Origin;
  /* of the block's runs: the highest and lowest that an end line names */
  peak_w: number | null;
  idle_c: number | null;
  peak_c: number | null;
  warmups: number | null;
  runs_per_row: number | null;
  probes: { run: string; line: number; data: ProbeLine; findings: Finding[] }[];
}

/* data/model-SLUG.js */
export interface ModelData {
  site: Site;
  slug: string;
  title: string;
  quantization: string | null;
  /* distinct model files of the rows; empty: no record says which file it was */
  files: { runs: string[]; file: ModelFile }[];
  blocks: Block[];
  table: Table;
}

/* data/hardware-SLUG.js */
export interface HardwareData {
  site: Site;
  slug: string;
  title: string;
  blocks: Block[];
  table: Table;
}

/* data/run-ID.js: every line of the record, in order, as it is there */
export interface RunData {
  site: Site;
  id: string;
  file: RecordFile;
  model_slugs: string[];
  hardware: string;
  hardware_slug: string;
  lines: { line: number; data: RecordLine }[];
  /* all that check says of this run; row is a row's key */
  findings: (Finding & { line: number; row: string | null })[];
  /* the run's rows as on the other pages, without the column "comparable" */
  table: Table;
}

/* data/raw-ID.js: the record's lines, byte for byte */
export interface RawData {
  id: string;
  href: string;
  /* the first one's number in the file */
  first: number;
  lines: string[];
}

/* data/compare.js: the rows of data/index.js, in its order */
export interface CompareData {
  site: Site;
  fields: { name: string; classes: ("workload" | "stack" | "hardware")[] }[];
  /* [field]: dictionary column; an empty value is "not known", and equal to another one */
  values: { dict: string[]; column: Column }[];
  comparisons: (Omit<ComparisonLine, "kind"> & {
    run: string;
    line: number;
    /* row ids; null where the record has no such row */
    a: string | null;
    b: string | null;
  })[];
}

/* ---- Lines of records (docs/records.md) -------------------------------------------------------------------------- */

type N = number | null;
type T = string | null;
type B = boolean | null;

export interface Origin {
  source: "measured" | "imported" | "legacy";
  format: T;
  url: T;
  sha256: T;
  note: T;
}

export interface Target {
  name: T;
  url: T;
  own_server: B;
  engine: T;
  build: T;
  device_api: T;
  model: T;
  context: N;
  slots: N;
  command_line: T;
  endpoint: T;
  streaming: B;
  reports_cached_tokens: B;
  memory_before_bytes: N;
  memory_after_bytes: N;
  spilled: B;
}

export interface ModelFile {
  name: T;
  sha256: T;
  bytes: N;
  architecture: T;
  quantization: T;
  n_params: N;
  n_params_active: N;
  context_length: N;
  repository: T;
  commit: T;
  synthetic: B;
  decode_bytes: N;
  kv_bytes_per_token: N;
  prefill_ops_per_token: N;
}

export interface Gpu {
  name: T;
  uuid_hash: T;
  memory_bytes: N;
  driver: T;
  cuda: T;
  compute_capability: T;
  sms: N;
  power_limit_w: N;
  power_limit_max_w: N;
  power_limit_default_w: N;
  clock_sm_mhz: N;
  clock_sm_max_mhz: N;
  clock_mem_mhz: N;
  clock_mem_max_mhz: N;
  bus_width_bits: N;
  pcie_gen: N;
  pcie_gen_max: N;
  pcie_width: N;
  pcie_width_max: N;
  ecc: B;
  mig: B;
  unified_memory: B;
}

export interface Environment {
  cpu: T;
  cores_online: N;
  cores_allowed: N;
  cpu_limit: N;
  memory_total: N;
  memory_available: N;
  memory_limit: N;
  governor: T;
  microcode: T;
  kernel: T;
  os: T;
  architecture: T;
  libc: T;
  compiler: T;
  load1: N;
  virtualised: B;
  gpus: Gpu[];
}

export interface Sampling {
  temperature: N;
  top_p: N;
  top_k: N;
  min_p: N;
  repeat_penalty: N;
  presence_penalty: N;
  frequency_penalty: N;
  seed: N;
  ignore_eos: B;
  cache_prompt: B;
}

export interface RunLine {
  kind: "run";
  schema: "sluice-record";
  version: number;
  id: string;
  tool: string;
  date: T;
  label: T;
  suite: T;
  suite_about: T;
  command: T;
  origin: Origin;
  target?: Target;
  targets?: [Target, Target];
  model_file: ModelFile | null;
  environment: Environment;
  sampling: Sampling | null;
  statistic: T;
}

export interface ProbeItem {
  name: "read" | "copy" | "int8" | "bf16" | "fp16" | "fp8" | "f32" | "barrier" | "launch" | "pcie_up" | "pcie_down";
  unit: string;
  threads: N;
  median: N;
  min: N;
  max: N;
  n: N;
  samples: number[] | null;
  theory: N;
  share: N;
  how: T;
}

export interface ProbeLine {
  kind: "probe";
  device: string;
  power_cap_w: N;
  seconds: N;
  items: ProbeItem[];
}

export interface SampleLine {
  kind: "sample";
  row: string;
  target: 0 | 1;
  run: number;
  stream: number;
  warmup: boolean;
  ok: boolean;
  refused: boolean;
  error: T;
  prompt_sha256: T;
  prompt_tokens_wanted: N;
  intended_ms: N;
  send_ms: N;
  first_byte_ms: N;
  first_token_ms: N;
  first_content_ms: N;
  last_token_ms: N;
  end_ms: N;
  token_ms: number[] | null;
  chunks: N;
  prompt_tokens: N;
  cached_tokens: N;
  output_tokens: N;
  reasoning_tokens: N;
  finish: T;
  server_prompt_ms: N;
  server_predicted_ms: N;
}

export interface Metric {
  median: number;
  interval: [number, number] | null;
  level: N;
  mean: number;
  sd: N;
  min: number;
  max: number;
  n: number;
  p50: N;
  p90: N;
  p95: N;
  p99: N;
}

export interface Verdict {
  state: "clean" | "noisy" | "invalid";
  reasons: string[];
}

export interface RowLine {
  kind: "row";
  row: string;
  target: 0 | 1;
  test: "api" | "raw" | "probe";
  workload: T;
  cache: "cold" | "warm" | "none" | "unknown";
  cache_state: "verified" | "unverified" | "invalid" | null;
  cache_reason: T;
  concurrency: N;
  arrival: "closed" | "poisson" | "none";
  rate_rps: N;
  depth: N;
  batch: N;
  max_tokens: N;
  natural_stop: B;
  template_tokens?: N;
  power_cap_w: N;
  warmups: N;
  runs: N;
  cut_for_time: boolean;
  failed: number;
  error: T;
  metrics: Partial<Record<IntervalMetric | MedianMetric, Metric | null>>;
  batching: "single" | "batched" | "queued" | "mixed" | "unknown";
  batching_reason: T;
  limit: {
    kind: "read" | "matrix";
    bytes_per_token: N;
    ops_per_token: N;
    measured: N;
    unit: T;
    share: N;
    rule: T;
  } | null;
  energy: {
    valid: boolean;
    reasons: string[];
    source: T;
    window_s: N;
    idle_w: N;
    j_per_prompt_token: N;
    j_per_output_token: N;
    j_per_request: N;
    net_j_per_output_token: N;
    windows?: { what: "prompt_token" | "output_token" | "request"; joules: number; seconds: number; count: number }[];
  } | null;
  quality: {
    qualified: boolean;
    reason: T;
    kind: "kl" | "greedy" | "top20" | null;
    reference_sha256: T;
    tokens: N;
    kl_mean: N;
    kl_p999: N;
    top1_agreement: N;
    top20_agreement?: N;
  };
  memory: { rss_bytes: N; vram_bytes: N } | null;
  verdict: Verdict;
  printed?: Record<string, string | number | null>;
  deviations?: string[];
}

export interface PairLine {
  kind: "pair";
  block: number;
  order: "ABBA" | "BAAB";
  row: string;
  metric: string;
  a: N[];
  b: N[];
  ratio: N;
  valid: boolean;
  reason: T;
}

export interface ComparisonLine {
  kind: "comparison";
  row: string;
  metric: string;
  blocks: number;
  ratio: N;
  interval: [number, number] | null;
  level: N;
  smallest_effect: N;
  verdict: "better" | "worse" | "no difference" | "undecided";
  stopped: "width" | "blocks" | "time" | "interrupted";
  reasons: string[];
}

export interface TraceLine {
  kind: "trace";
  interval_ms: N;
  t_ms: number[];
  series: Record<string, N[]>;
}

export interface EndLine {
  kind: "end";
  duration_s: N;
  rows: number;
  samples: number;
  rows_left_out: N;
  interrupted: boolean;
  noise: {
    calibration_before_ms: N;
    calibration_after_ms: N;
    drift_share: N;
    steal_share: N;
    foreign_cpu_share: N;
    throttled: B;
    peak_w: N;
    idle_c: N;
    peak_c: N;
    foreign_gpu_processes: N;
  } | null;
  verdict: Verdict;
}

export type RecordLine = (
  | RunLine
  | ProbeLine
  | SampleLine
  | RowLine
  | PairLine
  | ComparisonLine
  | TraceLine
  | EndLine
) & { prev?: string };

#!/usr/bin/env node
// A large record for tests of the report site: made up, the same bytes every time, and right for `sluice check`.
// Usage: synthetic-records.mjs [--rows N] [-o FILE]   (default 10000 rows, standard output)
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';

const { values: args } = parseArgs({
  options: { rows: { type: 'string', default: '10000' }, output: { type: 'string', short: 'o', default: '-' } },
});
const wanted = Number(args.rows);
if (!Number.isInteger(wanted) || wanted < 1) throw new Error(`--rows takes a whole number from 1, not "${args.rows}"`);

// ---- Numbers --------------------------------------------------------------------------------------------------------

let state = 0x5eed;
const random = () => { // mulberry32
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const spread = (x, share) => x * (1 + share * (random() + random() - 1));
const ms = (x) => Math.round(x * 1000) / 1000;
const digits = (x) => Number(x.toPrecision(9));
const hex = (text) => createHash('sha256').update(text).digest('hex');

// The order-statistic interval of the median (docs/records.md, metrics).
function interval(sorted) {
  const n = sorted.length;
  // the term's logarithm: 2^-n underflows
  let term = -n * Math.LN2, below = 0, best = 0, level = 1 - 2 * Math.exp(term);
  for (let k = 0; 2 * k + 1 < n; k++) {
    below += Math.exp(term);
    if (1 - 2 * below < 0.95) break;
    best = k;
    level = 1 - 2 * below;
    term += Math.log((n - k) / (k + 1));
  }
  return { interval: [sorted[best], sorted[n - 1 - best]].map(digits), level: digits(level) };
}

const median = (sorted) => (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;

function quantile(sorted, p) {
  if (sorted.length * (1 - p) < 5) return null;
  const at = p * (sorted.length - 1), low = Math.floor(at), high = Math.min(low + 1, sorted.length - 1);
  return digits(sorted[low] + (at - low) * (sorted[high] - sorted[low]));
}

function summary(x) {
  if (x.length === 0) return null;
  const sorted = [...x].sort((a, b) => a - b), n = x.length;
  const mean = x.reduce((a, b) => a + b, 0) / n;
  const sd = n > 1 ? Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / (n - 1)) : null;
  return {
    median: digits(median(sorted)), ...(n >= 5 ? interval(sorted) : { interval: null, level: null }),
    mean: digits(mean),
    sd: sd === null ? null : digits(sd), min: digits(sorted[0]), max: digits(sorted[n - 1]), n,
    p50: n >= 5 ? digits(median(sorted)) : null, p90: quantile(sorted, 0.9), p95: quantile(sorted, 0.95),
    p99: quantile(sorted, 0.99),
  };
}

// ---- What there is --------------------------------------------------------------------------------------------------

const machines = [ // name, GiB, GB/s of the bus, Tops/s fp16, power caps, driver
  ['NVIDIA GeForce RTX 3090', 24, 936, 71, [200, 300, 350, 450], '590.48.01'],
  ['NVIDIA GeForce RTX 4090', 24, 1008, 165, [300, 450], '590.48.01'],
  ['NVIDIA GeForce RTX 5090', 32, 1792, 209, [400, 575], '595.58.03'],
  ['NVIDIA GeForce RTX 5070', 12, 672, 62, [200, 250, 300], '595.58.03'],
  ['NVIDIA H200', 139, 4800, 989, [700], '580.95.05'],
  ['NVIDIA L4', 24, 300, 121, [72], '580.95.05'],
  ['AMD Radeon 8060S', 96, 256, 59, [null], null],
  [null, 64, 81, 2.1, [null], null],
];
const models = [ // name, repository, quantization, bytes, active bytes per token, parameters, active parameters
  ['Synthetic 8B-A1B', 'synthetic/8B-A1B', 'Q4_K_M', 5046586572, 938000000, 8338000000, 1540000000],
  ['Synthetic 8B-A1B', 'synthetic/8B-A1B', 'Q8_0', 8866000000, 1640000000, 8338000000, 1540000000],
  ['Synthetic 1.2B', 'synthetic/1.2B', 'Q4_K_M', 731000000, 700000000, 1170000000, 1170000000],
  ['Synthetic 350M', 'synthetic/350M', 'F16', 709000000, 700000000, 354000000, 354000000],
];
const backends = [ // engine, build, device API, share of the bus that decode reaches
  ['sluice', 'sluice 0.1.0', 'cuda', 0.82],
  ['llama.cpp', 'b9174', 'vulkan', 0.51],
  ['llama.cpp', 'b9174', 'cuda', 0.62],
  ['vllm', '0.14.1', 'cuda', 0.58],
];
const workloads = [['chat', 31, 100], ['codegen', 65, 880], ['rag', 752, 111], ['agent', 602, 434]];

// ---- Lines ----------------------------------------------------------------------------------------------------------

const out = args.output === '-' ? 1 : openSync(args.output, 'w');
let prev = '0'.repeat(64), held = [], heldBytes = 0;
function flush() {
  const bytes = Buffer.from(held.join(''));
  for (let at = 0; at < bytes.length;) at += writeSync(out, bytes, at);
  held = [];
  heldBytes = 0;
}
function write(kind, members) {
  const line = JSON.stringify({ kind, prev, ...members });
  prev = hex(line);
  held.push(line, '\n');
  heldBytes += line.length;
  if (heldBytes > 1 << 20) flush();
}

function runLine(index, machine, model, backend, cap, pair) {
  const [name, gib, , , caps, driver] = machine;
  const target = {
    name: backend[0], url: null, own_server: true, engine: backend[0], build: backend[1],
    device_api: name ? (driver ? backend[2] : 'vulkan') : 'cpu', model: model[0], context: 16384, slots: 8,
    command_line: `${backend[0]} serve -m ${model[0].replaceAll(' ', '-')}-${model[2]}.gguf --slots 8`,
    endpoint: '/v1/chat/completions', streaming: true, reports_cached_tokens: true,
    memory_before_bytes: null, memory_after_bytes: null, spilled: null,
  };
  const gpu = {
    name, uuid_hash: null, memory_bytes: gib * 2 ** 30, driver, cuda: driver ? '13.1' : null,
    compute_capability: null, sms: null, power_limit_w: cap, power_limit_max_w: caps.at(-1),
    power_limit_default_w: caps.at(-1), clock_sm_mhz: 1980, clock_sm_max_mhz: 2100, clock_mem_mhz: 9501,
    clock_mem_max_mhz: 9751, bus_width_bits: null,
    pcie_gen: 4, pcie_gen_max: 4, pcie_width: 16, pcie_width_max: 16, ecc: null, mig: null,
    unified_memory: name === 'AMD Radeon 8060S',
  };
  const day = new Date(Date.UTC(2026, 0, 1 + index % 300, 8, index % 60));
  write('run', {
    schema: 'sluice-record', version: 2, id: hex(`run ${index}`).slice(0, 16), tool: 'sluice 0.1.0',
    date: `${day.toISOString().slice(0, 19)}Z`, label: `synthetic ${index}`, suite: pair ? 'ab' : 'synthetic',
    suite_about: 'made up for tests: nobody measured this',
    command: `sluice bench --suite synthetic --label 'synthetic ${index}'`,
    origin: { source: 'measured', format: null, url: null, sha256: null, note: null },
    ...(pair ? { targets: [target, { ...target, build: `${target.build}+1` }] } : { target }),
    model_file: {
      name: `${model[0].replaceAll(' ', '-')}-${model[2]}.gguf`, sha256: hex(model[1] + model[2]), bytes: model[3],
      architecture: 'lfm2moe', quantization: model[2], n_params: model[5], n_params_active: model[6],
      context_length: 32768, repository: model[1], commit: null, synthetic: true,
      decode_bytes: model[4], kv_bytes_per_token: 12288,
      prefill_ops_per_token: 2 * model[6],
    },
    environment: {
      cpu: name ? 'Synthetic CPU 16-Core' : 'Synthetic CPU 64-Core', cores_online: name ? 16 : 64,
      cores_allowed: name ? 16 : 64, cpu_limit: null, memory_total: 64 * 2 ** 30,
      memory_available: 40 * 2 ** 30 + index, memory_limit: null,
      governor: 'performance', microcode: null, kernel: 'Linux 6.17', os: 'Debian GNU/Linux 13', architecture: 'x86_64',
      libc: 'glibc 2.41',
      compiler: 'gcc 14.2.0', load1: 0.1, virtualised: false, gpus: name ? [gpu] : [],
    },
    sampling: {
      temperature: 0, top_p: 1, top_k: 0, min_p: 0, repeat_penalty: 1, presence_penalty: 0, frequency_penalty: 0,
      seed: 1, ignore_eos: true, cache_prompt: true,
    },
    statistic: 'median over requests',
  });
}

function probeLines(machine) {
  for (const cap of machine[4]) {
    const bus = machine[2], copy = digits(spread(bus * 0.86, 0.01)), read = digits(spread(bus * 0.9, 0.01));
    const item = (name, unit, v, theory) => ({
      name, unit, threads: null, median: v, min: null, max: null, n: null, samples: null, theory,
      share: theory ? digits(v / theory) : null, how: 'synthetic',
    });
    write('probe', {
      device: machine[0] ? 'gpu0' : 'cpu', power_cap_w: cap, seconds: 10,
      items: [
        item('read', 'GB/s', read, bus), item('copy', 'GB/s', copy, bus),
        item('fp16', 'Tops/s', digits(machine[3] * (cap ? (cap / machine[4].at(-1)) ** 0.3 : 1)), null),
      ],
    });
  }
}

let clock = 0; // of the record, ms
function sample(row, target, run, stream, t) { // t: the times and counts that are known
  write('sample', {
    row, target, run, stream, warmup: false, ok: true, refused: false, error: null, prompt_sha256: null,
    prompt_tokens_wanted: t.prompt, intended_ms: t.intended ?? null, send_ms: t.send, first_byte_ms: t.first ?? null,
    first_token_ms: t.first ?? null, first_content_ms: null, last_token_ms: t.last ?? null, end_ms: t.end,
    token_ms: t.tokens ?? null, chunks: null, prompt_tokens: t.prompt, cached_tokens: t.cached ?? null,
    output_tokens: t.output, reasoning_tokens: null, finish: null, server_prompt_ms: null, server_predicted_ms: null,
  });
  return t;
}

// One request: its times follow from the machine's rates.
function request(c, w, warm, rates, tokens) {
  const [, prompt, output] = w, cached = warm ? prompt - 12 : 0;
  const first = ms(spread(8 + (1000 * (prompt - cached)) / rates.prefill, 0.06) * (1 + 0.2 * (c - 1)));
  const rate = spread(rates.decode, 0.02) / (1 + 0.35 * (c - 1) ** 0.8);
  const last = ms(first + (1000 * (output - 1)) / rate);
  const at = (_, i) => ms(first + ((last - first) * i) / (output - 1));
  const times = !tokens ? null : Array.from({ length: output }, at);
  return { prompt, cached, output, first, last, end: ms(last + 0.2), tokens: times };
}

const all = (x, f) => summary(x.map(f));
function apiMetrics(rounds) {
  const s = rounds.flat(), open = s[0].intended !== undefined;
  const tpot = (t) => (t.last - t.first) / (t.output - 1);
  const gaps = s.flatMap((t) => (t.tokens ?? []).slice(1).map((x, i) => x - t.tokens[i]));
  const end = (t) => t.send + t.end;
  // from the first token of a round to its last: all of its requests overlap
  const length = (r) => Math.max(...r.map((t) => t.send + t.last)) - Math.min(...r.map((t) => t.send + t.first));
  return {
    ttft_ms: all(s, (t) => t.first), ttfc_ms: null, tpot_ms: all(s, tpot), itl_ms: summary(gaps),
    latency_ms: all(s, (t) => t.end + (open ? t.send - t.intended : 0)),
    queue_ms: open ? all(s, (t) => t.send - t.intended) : null,
    decode_tok_s: all(s, (t) => 1000 / tpot(t)), client_tok_s: all(s, (t) => (1000 * t.output) / t.end),
    prefill_tok_s: all(s, (t) => (1000 * (t.prompt - t.cached)) / t.first), prompt_tokens: all(s, (t) => t.prompt),
    cached_tokens: all(s, (t) => t.cached), output_tokens: all(s, (t) => t.output),
    ...(open
      ? { request_rps: summary([(1000 * s.length) / (Math.max(...s.map(end)) - s[0].intended)]) }
      : {
        aggregate_tok_s: all(rounds, (r) => (1000 * r.reduce((n, t) => n + t.output, 0)) /
          (Math.max(...r.map(end)) - Math.min(...r.map((t) => t.send)))),
        streams_decoding: all(rounds, (r) => r.reduce((n, t) => n + t.last - t.first, 0) / length(r)),
      }),
  };
}

let written = 0;
function row(key, target, members, cap, metrics, limit, rate, counter) {
  const perToken = limit?.bytes_per_token ?? limit?.ops_per_token, unit = limit?.bytes_per_token ? 1e9 : 1e12;
  const api = members.test === 'api', qualified = counter % 5 !== 0;
  const noisy = counter % 17 === 3, invalid = counter % 41 === 7;
  write('row', {
    row: key, target, test: 'api', workload: null, cache: 'none', cache_state: null, cache_reason: null,
    concurrency: 1, arrival: 'closed', rate_rps: null, depth: null, batch: null, max_tokens: null,
    natural_stop: api ? false : null, power_cap_w: cap,
    warmups: 0, runs: 5, cut_for_time: false, failed: 0, error: null, ...members, metrics,
    batching: members.concurrency > 1 ? 'batched' : 'single', batching_reason: null,
    limit: limit && { ...limit, share: digits((perToken * rate) / unit / limit.measured) },
    energy: cap && api ? {
      valid: !noisy, reasons: noisy ? ['another process drew power'] : [], source: 'nvml', window_s: 6.5, idle_w: 21,
      j_per_prompt_token: null, j_per_output_token: digits((cap * 0.8) / rate), j_per_request: null,
      net_j_per_output_token: digits((cap * 0.8 - 21) / rate),
    } : null,
    quality: {
      qualified, reason: qualified ? null : 'no reference file for this model', kind: qualified ? 'kl' : null,
      reference_sha256: null, tokens: qualified ? 2048 : null, kl_mean: qualified ? digits(spread(0.01, 0.5)) : null,
      kl_p999: qualified ? digits(spread(0.4, 0.5)) : null,
      top1_agreement: qualified ? digits(0.95 + 0.04 * random()) : null,
    },
    memory: { rss_bytes: 900000000 + counter, vram_bytes: cap ? 6100000000 + counter : null },
    verdict: invalid ? { state: 'invalid', reasons: ['the clock fell by 12% while the row ran'] }
      : noisy ? { state: 'noisy', reasons: ['foreign load on the processor: 6%'] } : { state: 'clean', reasons: [] },
  });
  written++;
}

function apiRow(w, c, warm, target, rates, cap, tokens, counter) {
  const key = `${w[0]}/c${c}/${warm ? 'warm' : 'cold'}`, rounds = [];
  for (let run = 0; run < 5; run++) {
    const round = [];
    for (let stream = 0; stream < c; stream++) {
      const send = ms(clock + 0.01 * stream);
      round.push(sample(key, target, run, stream, { ...request(c, w, warm, rates, tokens), send }));
    }
    clock = ms(clock + Math.max(...round.map((t) => t.end)) + 5);
    rounds.push(round);
  }
  const metrics = apiMetrics(rounds);
  row(key, target, {
    test: 'api', workload: w[0], cache: warm ? 'warm' : 'cold',
    cache_state: counter % 23 === 5 ? 'unverified' : 'verified',
    cache_reason: counter % 23 === 5 ? 'the counts came from a log of the server' : null,
    concurrency: c, max_tokens: w[2],
  }, cap, metrics, { kind: 'read', bytes_per_token: rates.bytes, ops_per_token: null, measured: rates.read,
    unit: 'GB/s', rule: 'weights read once a token' },
  (c > 1 ? metrics.aggregate_tok_s : metrics.decode_tok_s).median, counter);
  return metrics;
}

function poissonRow(w, rps, rates, cap, counter) {
  const key = `${w[0]}/rate${rps}/cold`, round = [];
  for (let run = 0; run < 12; run++) {
    const intended = ms(clock), wait = ms(random() * rps);
    round.push(sample(key, 0, run, 0, { ...request(1, w, false, rates, false), intended, send: ms(intended + wait) }));
    clock += (-1000 * Math.log(1 - random())) / rps;
  }
  clock = Math.max(clock, ...round.map((t) => t.send + t.end)) + 5;
  const metrics = apiMetrics([round]);
  row(key, 0, {
    test: 'api', workload: w[0], cache: 'cold', cache_state: 'verified', concurrency: null, arrival: 'poisson',
    rate_rps: rps, max_tokens: w[2], runs: 12,
  }, cap, metrics, null, metrics.decode_tok_s.median, counter);
}

function rawRow(prompt, output, depth, rates, cap, counter) {
  const key = `${prompt ? `pp${prompt}` : `tg${output}`}${depth ? `@d${depth}` : ''}`, s = [];
  for (let run = 0; run < 5; run++) {
    const rate = spread(prompt ? rates.prefill : rates.decode, 0.015) / (1 + depth / 60000);
    const end = ms((1000 * (prompt + output)) / rate);
    s.push(sample(key, 0, run, 0, { prompt, output, end, send: ms(clock) }));
    clock += end + 1;
  }
  const metrics = {
    tok_s: all(s, (t) => (1000 * (t.prompt + t.output)) / t.end), latency_ms: all(s, (t) => t.end),
    prompt_tokens: all(s, (t) => t.prompt), output_tokens: all(s, (t) => t.output),
  };
  row(key, 0, { test: 'raw', arrival: 'none', depth, batch: 1 }, cap, metrics, prompt
    ? { kind: 'matrix', bytes_per_token: null, ops_per_token: rates.ops, measured: rates.matrix, unit: 'Tops/s',
      rule: '2 per weight' }
    : { kind: 'read', bytes_per_token: rates.bytes + 12288 * depth, ops_per_token: null, measured: rates.read,
      unit: 'GB/s', rule: 'weights and KV' },
  metrics.tok_s.median, counter);
}

function comparison(cRow, metric) {
  const logs = [];
  for (let block = 0; block < 8; block++) {
    const a = [spread(100, 0.03), spread(100, 0.03)].map(digits);
    const b = [spread(104, 0.03), spread(104, 0.03)].map(digits);
    const log = (Math.log(b[0]) + Math.log(b[1]) - Math.log(a[0]) - Math.log(a[1])) / 2;
    logs.push(log);
    write('pair', { block, order: block % 2 ? 'BAAB' : 'ABBA', row: cRow, metric, a, b, ratio: digits(Math.exp(log)),
      valid: true, reason: null });
  }
  const means = logs.flatMap((x, i) => logs.slice(i).map((y) => (x + y) / 2)).sort((x, y) => x - y);
  const ratio = digits(Math.exp(median(means))), low = digits(Math.exp(means[3])),
    high = digits(Math.exp(means.at(-4)));
  return () => write('comparison', {
    row: cRow, metric, blocks: 8, ratio, interval: [low, high], level: 0.9609375,
    smallest_effect: digits((high - low) / 2),
    verdict: low > 1 ? 'better' : high < 1 ? 'worse' : 'undecided', stopped: 'blocks', reasons: [],
  });
}

function endLine(rows, samples, cap) {
  write('trace', {
    interval_ms: 100, t_ms: Array.from({ length: 20 }, (_, i) => i * 100),
    series: {
      cpu_mhz: Array.from({ length: 20 }, () => digits(spread(3600, 0.02))),
      ...(cap ? {
        gpu0_sm_mhz: Array.from({ length: 20 }, () => Math.round(spread(1900, 0.03))),
        gpu0_w: Array.from({ length: 20 }, (_, i) => digits(i ? spread(cap * 0.8, 0.08) : 21)),
        gpu0_c: Array.from({ length: 20 }, (_, i) => 40 + i),
      } : {}),
    },
  });
  write('end', {
    duration_s: digits(clock / 1000), rows, samples, rows_left_out: 0, interrupted: false,
    noise: {
    calibration_before_ms: 0.54, calibration_after_ms: 0.541, drift_share: 0.0018, steal_share: 0,
    foreign_cpu_share: 0.01,
      throttled: false, peak_w: cap && cap * 0.9, idle_c: 40, peak_c: 61, foreign_gpu_processes: 0,
    },
    verdict: { state: 'clean', reasons: [] },
  });
}

// ---- Runs -----------------------------------------------------------------------------------------------------------

for (let index = 0; written < wanted; index++) {
  const machine = machines[index % machines.length], cap = machine[4][Math.floor(index / 8) % machine[4].length];
  const model = models[Math.floor(index / 3) % models.length],
    backend = backends[Math.floor(index / 5) % backends.length];
  const pair = index % 25 === 24, tokens = index % 50 === 0, share = cap ? (cap / machine[4].at(-1)) ** 0.25 : 1;
  const read = digits(machine[2] * 0.9);
  const rates = {
    bytes: model[4], ops: 2 * model[6], read, matrix: machine[3],
    decode: ((read * 1e9) / model[4]) * backend[3] * share,
    prefill: ((machine[3] * 1e12) / (2 * model[6])) * 0.3 * backend[3] * share,
  };
  const before = written;
  let samples = 0;
  const left = () => wanted - written;
  const take = (n, f) => {
    if (left() > 0) {
      samples += n;
      f(index + written);
    }
  };
  clock = 0;
  runLine(index, machine, model, backend, cap, pair);
  if (!pair) probeLines(machine);
  const closing = [];
  for (const w of workloads) {
    for (const warm of [false, true]) {
      if (pair && left() < 2) continue;
      take(5, (n) => apiRow(w, 1, warm, 0, rates, cap, tokens, n));
      if (pair) {
        take(5, (n) => apiRow(w, 1, warm, 1, { ...rates, decode: rates.decode * 1.04 }, cap, false, n));
        closing.push(comparison(`${w[0]}/c1/${warm ? 'warm' : 'cold'}`, 'decode_tok_s'));
      }
    }
  }
  if (!pair) {
    for (const c of [2, 4]) take(5 * c, (n) => apiRow(workloads[(index + c) % 4], c, false, 0, rates, cap, false, n));
    take(12, (n) => poissonRow(workloads[index % 4], 1 + index % 5, rates, cap, n));
    for (const prompt of [128, 512, 2048]) take(5, (n) => rawRow(prompt, 0, 0, rates, cap, n));
    for (const depth of [0, 2048, 8192]) take(5, (n) => rawRow(0, 128, depth, rates, cap, n));
  }
  for (const close of closing) close();
  endLine(written - before, samples, cap);
}
flush();
if (out !== 1) closeSync(out);

/* Facts as lists and small tables: environments, probes, model files. */
import { type Child, h } from './dom';
import type { Block, Environment, Gpu, ModelFile, Origin, ProbeItem, ProbeLine, Sampling, Target } from './data';
import { chip, dash, stackName } from './cells';
import * as format from './format';
import { findingList } from './findings';
import { lineHref } from './rows';

export type Fact = [name: string, value: Child | null];

/** Characters from which a value takes the room of two. */
const LONG = 60;

/** A list of names and values; those without a value are left out, or are a dash with the reason. */
export function factList(facts: readonly Fact[]): HTMLElement {
  const long = (value: Child | null): boolean =>
    (value instanceof Node ? (value.textContent ?? '') : String(value)).length > LONG;
  return h(
    'dl',
    { class: 'facts' },
    ...facts
      .filter(([, value]) => value !== null && value !== '')
      .map(([name, value]) => h('div', { class: long(value) ? 'wide' : null }, h('dt', {}, name), h('dd', {}, value))),
  );
}

function join(...parts: (string | null | undefined | false)[]): string {
  return parts.filter(Boolean).join(' · ');
}

function gpuFacts(g: Gpu): Fact[] {
  const of = (now: number | null, max: number | null, unit: string): string =>
    now === null ? '' : `${format.plain(now)}${max !== null && max !== now ? ` of ${format.plain(max)}` : ''} ${unit}`;
  const cap = g.power_limit_w;
  const max = g.power_limit_max_w;
  return [
    [
      'GPU',
      join(g.name, g.memory_bytes !== null && format.bytes(g.memory_bytes), g.unified_memory && 'unified memory'),
    ],
    [
      'Power limit',
      cap === null ? null : join(of(cap, max, 'W'), max !== null && cap < max && `${format.percent(cap / max, 2)} cap`),
    ],
    [
      'Clocks',
      join(of(g.clock_sm_mhz, g.clock_sm_max_mhz, 'MHz core'), of(g.clock_mem_mhz, g.clock_mem_max_mhz, 'MHz memory')),
    ],
    [
      'Bus',
      join(
        g.bus_width_bits !== null && `${g.bus_width_bits} bit`,
        g.pcie_gen !== null && `PCIe ${g.pcie_gen} x${g.pcie_width ?? '?'}`,
        g.pcie_gen_max !== null && `of ${g.pcie_gen_max} x${g.pcie_width_max ?? '?'}`,
      ),
    ],
    [
      'Units',
      join(g.sms !== null && `${g.sms} SM/CU`, g.compute_capability !== null && `compute ${g.compute_capability}`),
    ],
    ['Driver', join(g.driver, g.cuda !== null && `CUDA ${g.cuda}`)],
    ['State', join(g.ecc !== null && `ECC ${g.ecc ? 'on' : 'off'}`, g.mig !== null && `MIG ${g.mig ? 'on' : 'off'}`)],
  ];
}

export function environmentFacts(e: Omit<Environment, 'load1' | 'memory_available'>): Fact[] {
  return [
    [
      'CPU',
      join(
        e.cpu,
        e.cores_online !== null && `${e.cores_online} cores`,
        e.cores_allowed !== null && e.cores_allowed !== e.cores_online && `${e.cores_allowed} allowed`,
        e.architecture,
      ),
    ],
    [
      'Memory',
      join(
        e.memory_total !== null && format.bytes(e.memory_total),
        e.memory_limit !== null && `limit ${format.bytes(e.memory_limit)}`,
        e.cpu_limit !== null && `CPU limit ${e.cpu_limit}`,
      ),
    ],
    ...e.gpus.flatMap(gpuFacts),
    ['Governor', e.governor],
    ['System', join(e.os, e.kernel, e.virtualised === true && 'virtual machine')],
    ['Built with', join(e.compiler, e.libc, e.microcode !== null && `microcode ${e.microcode}`)],
  ];
}

export function targetFacts(t: Target): Fact[] {
  return [
    ['Engine', join(t.engine === null && t.build === null ? null : stackName(t.engine, t.build), t.device_api)],
    ['Model', t.model],
    [
      'Context',
      t.context === null
        ? null
        : join(`${format.plain(t.context)} tokens`, t.slots !== null && format.plural(t.slots, 'slot')),
    ],
    [
      'Endpoint',
      join(
        t.endpoint,
        t.streaming === true && 'streaming',
        t.reports_cached_tokens === true && 'reports cached tokens',
        t.own_server === true && 'started for the run',
      ),
    ],
    ['Command line', t.command_line === null ? null : h('code', {}, t.command_line)],
    [
      'Memory',
      t.memory_before_bytes === null || t.memory_after_bytes === null
        ? null
        : join(
            `${format.bytes(t.memory_before_bytes)} before, ${format.bytes(t.memory_after_bytes)} after loading`,
            t.spilled === true && 'spilled to the host',
          ),
    ],
  ];
}

export function samplingText(s: Sampling | null): string | null {
  return s === null
    ? null
    : Object.entries(s)
        .filter(([, v]) => v !== null)
        .map(([k, v]) => `${k} ${String(v)}`)
        .join(', ');
}

export function originFacts(o: Origin): Fact[] {
  return o.source === 'measured'
    ? []
    : [
        ['Source', join(o.source, o.format)],
        [
          'Address',
          o.url !== null && /^https?:\/\//.test(o.url) ? h('a', { href: o.url, rel: 'noreferrer' }, o.url) : o.url,
        ],
        ['Text as read', o.sha256 === null ? null : h('code', {}, o.sha256)],
        ['Note', o.note],
      ];
}

export function modelFacts(file: ModelFile | undefined, quantization: string | null, reason: string): Fact[] {
  const missing = dash(reason);
  const or = (value: Child | null): Child => value ?? missing.cloneNode(true);
  const repository = file?.repository ?? null;
  const gguf = /gguf/i.test(`${file?.name ?? ''} ${repository ?? ''}`);
  return [
    ['Quantisation', or(file?.quantization ?? quantization)],
    [
      'Parameters',
      or(
        file?.n_params == null
          ? null
          : join(
              format.count(file.n_params),
              file.n_params_active !== null && `${format.count(file.n_params_active)} active`,
            ),
      ),
    ],
    ['Format', or(gguf ? 'GGUF' : null)],
    [
      'Checkpoint',
      or(repository === null ? null : `${repository}${file?.quantization ? `:${file.quantization}` : ''}`),
    ],
    ['Commit', or(file?.commit == null ? null : h('code', {}, file.commit))],
    ['File size', or(file?.bytes == null ? null : format.bytes(file.bytes))],
    ['Architecture', file?.architecture ?? null],
    ['Context', file?.context_length == null ? null : `${format.plain(file.context_length)} tokens`],
    ['Read per token', file?.decode_bytes == null ? null : format.bytes(file.decode_bytes)],
    ['SHA-256', file?.sha256 == null ? null : h('code', { class: 'hash' }, file.sha256)],
    ['Weights', file?.synthetic === true ? 'random: the file says nothing about answers' : null],
  ];
}

/* ---- Probes ------------------------------------------------------------------------------------------------------ */

const PROBE_ORDER = ['read', 'copy', 'f32', 'fp16', 'bf16', 'fp8', 'int8', 'pcie_up', 'pcie_down', 'barrier', 'launch'];

function probeCell(item: ProbeItem | undefined, href: string): Child[] {
  if (!item) {
    return [dash('not probed')];
  }
  if (item.median === null) {
    return [dash(item.how ?? 'the probe gave no value')];
  }
  const sub = [
    item.min !== null && item.max !== null ? format.interval(item.min, item.max) : '',
    item.share !== null
      ? `${format.percent(item.share, 2)} of ${format.figure(item.theory ?? item.median / item.share, 3)}`
      : '',
  ].filter(Boolean);
  return [
    h('a', { class: 'value', href, title: item.how }, format.figure(item.median, 3)),
    ...(sub.length ? [h('div', { class: 'sub' }, sub.join(' · '))] : []),
  ];
}

export interface Probe {
  run: string;
  line: number;
  data: ProbeLine;
}

/** Probes with a line per device and power cap, a column per quantity. */
export function probeTable(probes: readonly Probe[], root: string, label: string): HTMLElement | null {
  if (!probes.length) {
    return null;
  }
  const names = PROBE_ORDER.filter((name) => probes.some((p) => p.data.items.some((item) => item.name === name)));
  const unit = (name: string): string =>
    probes.flatMap((p) => p.data.items).find((item) => item.name === name)?.unit ?? '';
  return h(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label },
    h(
      'table',
      { class: 'plain probes' },
      h('caption', {}, 'Probes: median, range of the repetitions, share of theory'),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          h('th', { scope: 'col' }, 'Device'),
          h('th', { scope: 'col', class: 'num' }, 'Cap'),
          ...names.map((name) =>
            h('th', { scope: 'col', class: 'num' }, name.replace('_', ' '), h('span', { class: 'unit' }, unit(name))),
          ),
        ),
      ),
      h(
        'tbody',
        {},
        ...probes.map((p) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, p.data.device),
            h(
              'td',
              { class: 'num' },
              p.data.power_cap_w === null ? dash('no cap is known') : `${format.plain(p.data.power_cap_w)}\u202fW`,
            ),
            ...names.map((name) =>
              h(
                'td',
                { class: 'num' },
                ...probeCell(
                  p.data.items.find((item) => item.name === name),
                  root + lineHref(p.run, p.line),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** One environment: what it is, what ran on it, what it can do. */
export function blockCard(block: Block, root: string, withHardware: boolean): HTMLElement {
  const findings = block.probes.flatMap((p) => p.findings);
  const runs = block.runs
    .map((id, k) => [k ? ', ' : '', h('a', { href: `${root}runs/${encodeURIComponent(id)}.html` }, id.slice(0, 8))])
    .flat();
  const heat = join(
    block.idle_c !== null && `${block.idle_c} °C idle`,
    block.peak_c !== null && `${block.peak_c} °C peak`,
    block.peak_w !== null && `${block.peak_w} W peak draw`,
  );
  return h(
    'article',
    { class: 'card block' },
    h(
      'h3',
      {},
      withHardware
        ? h('a', { href: `${root}hardware/${encodeURIComponent(block.hardware_slug)}.html` }, block.hardware)
        : join(...new Set(block.targets.map((t) => stackName(t.engine, t.build)))) || block.hardware,
      ' ',
      block.origin.source === 'measured' ? null : chip(block.origin.source),
    ),
    factList([
      ...environmentFacts(block.environment),
      ['Heat and draw', heat],
      ...block.targets.flatMap(targetFacts),
      ['Sampling', samplingText(block.sampling)],
      [
        'Repetitions',
        join(
          block.runs_per_row !== null && `${block.runs_per_row} per row`,
          block.warmups !== null && format.plural(block.warmups, 'warm-up'),
        ),
      ],
      ...originFacts(block.origin),
      ['Runs', h('span', {}, ...runs)],
    ]),
    probeTable(block.probes, root, `Probes of ${block.hardware}`),
    findings.length ? findingList(findings) : null,
  );
}

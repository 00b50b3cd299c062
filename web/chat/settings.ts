// The drawer of a chat's settings: system prompt and sampling. An empty field leaves the choice to the model's own value.
import { formatBytes, formatCount, formatParameters } from '../shared/format';
import { readSampling } from './portable';
import { byId, h } from './dom';
import type { Chat, Sampling, SamplingKey, ServerInfo } from './types';

interface Field {
  key: SamplingKey;
  label: string;
  about: string;
  min: number;
  max: number;
  step: number; // 1 = whole numbers only
}

/** The ranges are the server's own. */
export const FIELDS: readonly Field[] = [
  { key: 'temperature', label: 'Temperature', about: '0 always takes the likeliest token', min: 0, max: 5, step: 0.05 },
  { key: 'top_p', label: 'Top p', about: 'likeliest tokens up to this sum of probability', min: 0, max: 1, step: 0.01 },
  { key: 'top_k', label: 'Top k', about: 'this many likeliest tokens; 0 = all', min: 0, max: 1_000_000, step: 1 },
  { key: 'min_p', label: 'Min p', about: 'at least this share of the likeliest', min: 0, max: 1, step: 0.01 },
  { key: 'repetition_penalty', label: 'Repetition penalty', about: '1 = none', min: 0.01, max: 10, step: 0.01 },
  { key: 'presence_penalty', label: 'Presence penalty', about: 'against tokens that have occurred', min: -2, max: 2, step: 0.05 },
  { key: 'frequency_penalty', label: 'Frequency penalty', about: 'grows with every occurrence', min: -2, max: 2, step: 0.05 },
  { key: 'max_tokens', label: 'Max tokens', about: 'of one answer; empty = what the context allows', min: 1, max: 0x7fffffff, step: 1 },
  { key: 'seed', label: 'Seed', about: 'the same seed, the same answer; empty = another every time', min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
];

/** The number of a field's text: null = left empty, a sentence = what is wrong with it. */
export function readField(field: Field, text: string): number | null | string {
  if (text.trim() === '') return null;
  const value = Number(text.trim().replace(',', '.'));
  const whole = field.step === 1;
  if (!Number.isFinite(value) || value < field.min || value > field.max || (whole && !Number.isInteger(value))) {
    return `${whole ? 'A whole number' : 'A number'} from ${field.min} to ${field.max}`;
  }
  return value;
}

const DEFAULTS = 'sluice-defaults';

/** What a new chat begins with. */
export function loadDefaults(): { system: string; sampling: Sampling } {
  try {
    const saved: unknown = JSON.parse(localStorage.getItem(DEFAULTS) ?? '{}');
    const { system, sampling } = saved as { system?: unknown; sampling?: unknown };
    return { system: typeof system === 'string' ? system : '', sampling: readSampling(sampling ?? {}, 'sampling') };
  } catch {
    return { system: '', sampling: {} };
  }
}

function saveDefaults(chat: Chat): boolean {
  try {
    localStorage.setItem(DEFAULTS, JSON.stringify({ system: chat.system, sampling: chat.sampling }));
    return true;
  } catch {
    return false;
  }
}

export interface SettingsActions {
  changed: (chat: Chat) => void;
  told: (sentence: string) => void;
  exportJson: (chat: Chat) => void;
  exportMarkdown: (chat: Chat) => void;
}

export class Settings {
  private readonly dialog = byId<HTMLDialogElement>('settings');
  private readonly system = byId<HTMLTextAreaElement>('system');
  private readonly inputs = new Map<SamplingKey, HTMLInputElement>();
  private chat: Chat | null = null;

  constructor(private readonly actions: SettingsActions) {
    for (const field of FIELDS) byId('sampling').append(this.row(field));
    this.system.addEventListener('input', () => {
      if (!this.chat) return;
      this.chat.system = this.system.value;
      this.actions.changed(this.chat);
    });
    byId('reset-sampling').addEventListener('click', () => {
      if (!this.chat) return;
      this.chat.sampling = {};
      this.fill(this.chat);
      this.actions.changed(this.chat);
    });
    byId('save-defaults').addEventListener('click', () => {
      if (!this.chat) return;
      const kept = saveDefaults(this.chat);
      this.actions.told(kept ? 'New chats begin with these settings.' : 'This browser keeps no settings.');
    });
    byId('export-json').addEventListener('click', () => this.chat && this.actions.exportJson(this.chat));
    byId('export-markdown').addEventListener('click', () => this.chat && this.actions.exportMarkdown(this.chat));
    this.dialog.addEventListener('click', (e) => {
      if (e.target === this.dialog) this.dialog.close(); // beside the drawer
    });
  }

  open(chat: Chat, server: ServerInfo | null): void {
    this.chat = chat;
    this.fill(chat);
    byId('recommended').textContent = server
      ? 'Grey values are the model’s own; a field left empty follows them.'
      : 'A field left empty follows the model’s own value.';
    for (const field of FIELDS) {
      const value = server?.recommended[field.key];
      const input = this.inputs.get(field.key);
      if (input) input.placeholder = value === undefined ? (field.key === 'seed' ? 'random' : 'none') : String(value);
    }
    byId('facts').replaceChildren(...(server ? facts(server) : []));
    this.dialog.showModal();
  }

  private fill(chat: Chat): void {
    this.system.value = chat.system;
    for (const [key, input] of this.inputs) {
      const value = chat.sampling[key];
      input.value = value === undefined ? '' : String(value);
      this.judge(input, '');
    }
  }

  private judge(input: HTMLInputElement, fault: string): void {
    input.setAttribute('aria-invalid', fault ? 'true' : 'false');
    const line = byId(`${input.id}-fault`);
    line.textContent = fault;
  }

  private row(field: Field): HTMLElement {
    const id = `sampling-${field.key}`;
    const take = () => {
      const value = readField(field, input.value);
      this.judge(input, typeof value === 'string' ? value : '');
      if (!this.chat || typeof value === 'string') return;
      if (value === null) delete this.chat.sampling[field.key];
      else this.chat.sampling[field.key] = value;
      this.actions.changed(this.chat);
    };
    const input = h('input', {
      id,
      inputmode: field.step === 1 && field.min >= 0 ? 'numeric' : 'decimal',
      autocomplete: 'off',
      'aria-describedby': `${id}-about ${id}-fault`,
      oninput: take,
      onkeydown: (e: KeyboardEvent) => {
        const by = e.key === 'ArrowUp' ? field.step : e.key === 'ArrowDown' ? -field.step : 0;
        if (by === 0) return;
        e.preventDefault();
        const from = Number(input.value || input.placeholder) || 0;
        const next = Math.min(field.max, Math.max(field.min, from + by));
        input.value = String(Number(next.toFixed(4)));
        take();
      },
    });
    this.inputs.set(field.key, input);
    return h(
      'div',
      { class: 'field' },
      h('label', { for: id }, field.label),
      input,
      h('span', { class: 'soft small', id: `${id}-about` }, field.about),
      h('span', { class: 'fault small', id: `${id}-fault`, role: 'alert' }),
    );
  }
}

function facts(s: ServerInfo): HTMLElement[] {
  const rows: [string, string][] = [
    ['Model', s.model],
    ['Architecture', s.architecture],
    ['Quantisation', s.quantization],
    ['Parameters', formatParameters(s.parameters)],
    ['Context', `${formatCount(s.context)} tokens per request`],
    ['Backend', s.backend],
    ['Device', s.device],
    ['File', s.fileBytes > 0 ? formatBytes(s.fileBytes) : ''],
    ['Server', s.build],
  ];
  return rows.filter(([, value]) => value).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]);
}

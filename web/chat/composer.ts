// The box that a message is written in: grows with its text, takes text files by button, drop and paste.
import { formatBytes, formatCount } from '../shared/format';
import { byId, h } from './dom';
import { icon, iconButton } from './icons';
import { toast } from './notices';
import type { Attachment } from './types';

export const FILE_BYTES_MAX = 1 << 20; // one file
export const FILES_BYTES_MAX = 4 << 20; // all of one message; the server takes bodies of 8 MiB

/** The text of a file, or one sentence that says why it cannot be attached. */
export async function readTextFile(file: File): Promise<Attachment | string> {
  if (file.size > FILE_BYTES_MAX) return `${file.name} is larger than ${formatBytes(FILE_BYTES_MAX)}, the most that can be attached.`;
  if (file.size === 0) return `${file.name} is empty.`;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
    if (!text.includes('\0')) return { name: file.name || 'text', text };
  } catch {
    // Not UTF-8, or no longer readable: told below.
  }
  return `${file.name} is no text file in UTF-8.`;
}

export interface ComposerActions {
  send: (text: string, files: Attachment[]) => void;
  stop: () => void;
  editLast: () => void;
  countTokens: (text: string) => Promise<number>;
}

export class Composer {
  readonly input = byId<HTMLTextAreaElement>('input');
  private readonly form = byId<HTMLFormElement>('composer');
  private readonly list = byId('files');
  private files: Attachment[] = [];
  private readonly tokens = new Map<Attachment, number>();

  constructor(private readonly actions: ComposerActions) {
    const picker = byId<HTMLInputElement>('attach-files');
    byId('attach').addEventListener('click', () => picker.click());
    picker.addEventListener('change', () => {
      void this.attach([...(picker.files ?? [])]);
      picker.value = '';
    });
    byId('stop').addEventListener('click', () => actions.stop());
    this.form.addEventListener('submit', (e) => {
      e.preventDefault();
      this.send();
    });
    this.input.addEventListener('input', () => this.fit());
    this.input.addEventListener('keydown', (e) => this.key(e));
    this.input.addEventListener('paste', (e) => {
      if (!e.clipboardData?.files.length) return;
      e.preventDefault();
      void this.attach([...e.clipboardData.files]);
    });
    const main = byId('main');
    main.addEventListener('dragover', (e) => {
      if (!e.dataTransfer?.types.includes('Files')) return;
      e.preventDefault();
      this.form.classList.add('drop');
    });
    main.addEventListener('dragleave', () => this.form.classList.remove('drop'));
    main.addEventListener('drop', (e) => {
      e.preventDefault();
      this.form.classList.remove('drop');
      void this.attach([...(e.dataTransfer?.files ?? [])]);
    });
    this.fit();
  }

  setRunning(running: boolean): void {
    byId('stop').hidden = !running;
    byId('send').hidden = running;
  }

  private key(e: KeyboardEvent): void {
    const phone = matchMedia('(pointer: coarse)').matches; // there Enter is the only way to a new line
    if (e.key === 'Enter' && !e.shiftKey && !e.isComposing && !phone) {
      e.preventDefault();
      this.send();
    } else if (e.key === 'ArrowUp' && this.input.value === '') {
      e.preventDefault();
      this.actions.editLast();
    }
  }

  private send(): void {
    const text = this.input.value.trim();
    if ((!text && this.files.length === 0) || byId('send').hidden) return;
    const files = this.files;
    this.input.value = '';
    this.files = [];
    this.showFiles();
    this.fit();
    this.actions.send(text, files);
  }

  private fit(): void {
    this.input.style.height = 'auto';
    this.input.style.height = `${Math.min(this.input.scrollHeight, 240)}px`;
    byId<HTMLButtonElement>('send').disabled = !this.input.value.trim() && this.files.length === 0;
  }

  private async attach(files: File[]): Promise<void> {
    for (const file of files) {
      const read = await readTextFile(file);
      if (typeof read === 'string') {
        toast(read);
        continue;
      }
      const bytes = [...this.files, read].reduce((sum, f) => sum + f.text.length, 0);
      if (bytes > FILES_BYTES_MAX) {
        toast(`${read.name} is left out: one message takes ${formatBytes(FILES_BYTES_MAX)} of files.`);
        continue;
      }
      this.files.push(read);
      this.actions
        .countTokens(read.text)
        .then((n) => (this.tokens.set(read, n), this.showFiles()))
        .catch(() => undefined); // the size stands there anyway
    }
    this.showFiles();
    this.fit();
    this.input.focus();
  }

  private showFiles(): void {
    this.list.hidden = this.files.length === 0;
    this.list.replaceChildren(
      ...this.files.map((file) => {
        const n = this.tokens.get(file);
        const size = `${formatBytes(new Blob([file.text]).size)}${n === undefined ? '' : `, ${formatCount(n)} tokens`}`;
        const remove = iconButton('close', `Remove ${file.name}`, () => {
          this.files = this.files.filter((f) => f !== file);
          this.showFiles();
          this.fit();
          this.input.focus();
        });
        return h('li', {}, icon('file'), h('span', { class: 'name' }, file.name), h('span', { class: 'soft' }, size), remove);
      }),
    );
  }
}

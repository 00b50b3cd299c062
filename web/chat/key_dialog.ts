// Asks for the API key when the server wants one.
import { ApiError, apiKey, fetchServerInfo } from './api';
import { byId } from './dom';
import type { ServerInfo } from './types';

export class KeyDialog {
  private readonly dialog = byId<HTMLDialogElement>('key-dialog');
  private readonly input = byId<HTMLInputElement>('key');
  private readonly fault = byId('key-fault');

  /** `accepted` is called with what the server then says about itself. */
  constructor(private readonly accepted: (server: ServerInfo) => void) {
    byId('key-cancel').addEventListener('click', () => this.dialog.close());
    byId('key-forget').addEventListener('click', () => {
      apiKey.forget();
      this.input.value = '';
      this.fault.textContent = 'The key is forgotten.';
    });
    this.dialog.querySelector('form')?.addEventListener('submit', (e) => {
      e.preventDefault();
      void this.tryKey();
    });
  }

  open(fault = ''): void {
    this.fault.textContent = fault;
    this.input.value = '';
    if (!this.dialog.open) this.dialog.showModal();
    this.input.focus();
  }

  private async tryKey(): Promise<void> {
    const key = this.input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(key)) {
      this.fault.textContent = 'A key has only letters, digits and signs, and no space.';
      return;
    }
    try {
      apiKey.set(key, byId<HTMLInputElement>('key-keep').checked);
      const server = await fetchServerInfo();
      this.dialog.close();
      this.accepted(server);
    } catch (e) {
      if (e instanceof ApiError && e.status === 401) apiKey.forget();
      this.fault.textContent = e instanceof ApiError ? e.message : 'This browser keeps no key.';
      this.input.select();
    }
  }
}

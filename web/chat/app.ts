// The page: which chat is on show, which answers are being written, and what every button does.
import { formatCount } from '../shared/format';
import { setTheme, themeChoice, type ThemeChoice } from '../shared/theme';
import { ApiError, countTokens, fetchServerInfo, streamChat } from './api';
import { Composer } from './composer';
import { byId, saveFile } from './dom';
import { KeyDialog } from './key_dialog';
import { Announcer, notice, toast } from './notices';
import { chatMarkdown, exportChats, IMPORT_BYTES_MAX, ImportError, importChats } from './portable';
import { run } from './run';
import { loadDefaults, Settings } from './settings';
import { Sidebar } from './sidebar';
import type { Storage } from './storage';
import { Store } from './store';
import { Thread } from './thread';
import { add, newChat, path, title, turn } from './tree';
import type { Attachment, Chat, Message, ServerInfo } from './types';

const NEAR_END_PX = 64;
const SERVER_RETRY_MS = 3000;
const NARROW = '(max-width: 860px)';

interface Run {
  answer: Message;
  abort: AbortController;
  begin: number; // performance.now()
}

export class App {
  private server: ServerInfo | null = null;
  private current: Chat = this.freshChat();
  private readonly runs = new Map<string, Run>(); // by chat id
  private readonly tabs = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel('sluice-chats');
  private readonly store: Store;
  private readonly thread: Thread;
  private readonly sidebar: Sidebar;
  private readonly composer: Composer;
  private readonly settings: Settings;
  private readonly keyDialog: KeyDialog;
  private readonly announcer = new Announcer(byId('announcer'));
  private readonly scroller = byId('scroller');
  private follow = true; // the end of the conversation is kept in view
  private lastTop = 0;
  private frame = 0;
  private waiting: { chat: Chat; answer: Message } | null = null; // for the key

  constructor(storage: Storage) {
    this.store = new Store(storage, (sentence) => notice('storage', sentence), (id) => this.tabs?.postMessage(id));
    this.thread = new Thread(byId('thread'), {
      ask: (text) => this.ask(text, []),
      edit: (message, text) => this.askBelow(message.parent, text, message.files ?? []),
      again: (answer) => this.answer(this.current, answer.parent),
      turn: (message, step) => {
        if (!turn(this.current, message, step)) return;
        this.changed(this.current);
        this.thread.focusVersions(message.parent, step);
        void this.store.flush();
      },
      isRunning: (message) => [...this.runs.values()].some((r) => r.answer === message),
    });
    this.sidebar = new Sidebar(byId('chats'), {
      open: (chat) => this.open(chat),
      rename: (chat, name) => this.rename(chat, name),
      remove: (chat) => this.remove(chat),
    });
    this.composer = new Composer({
      send: (text, files) => this.ask(text, files),
      stop: () => this.stop(),
      editLast: () => this.thread.editLast(),
      countTokens,
    });
    this.settings = new Settings({
      changed: (chat) => this.store.touch(chat),
      told: toast,
      exportJson: (chat) => saveFile(`${fileName(title(chat))}.json`, 'application/json', exportChats([chat])),
      exportMarkdown: (chat) =>
        saveFile(`${fileName(title(chat))}.md`, 'text/markdown', chatMarkdown(title(chat), path(chat))),
    });
    this.keyDialog = new KeyDialog((server) => {
      this.setServer(server);
      const waiting = this.waiting;
      this.waiting = null;
      if (waiting) void this.start(waiting.chat, waiting.answer);
    });
  }

  async begin(): Promise<void> {
    this.wire();
    await this.store.load();
    const wanted = this.store.chats.get(location.hash.replace(/^#\/c\//, ''));
    if (wanted) this.open(wanted);
    else this.show();
    await this.findServer();
  }

  /* ---- The server ---------------------------------------------------------------------------------------------- */

  private async findServer(): Promise<void> {
    try {
      this.setServer(await fetchServerInfo());
      notice('server', null);
    } catch (e) {
      if (e instanceof ApiError && e.status === 401) {
        this.keyDialog.open();
      } else {
        notice('server', e instanceof ApiError ? e.message : 'The server cannot be reached; is it still running?');
        setTimeout(() => void this.findServer(), SERVER_RETRY_MS);
      }
    }
  }

  private setServer(server: ServerInfo): void {
    this.server = server;
    byId('model').textContent = [server.model, server.quantization].filter(Boolean).join(' · ');
    byId('model').title = server.device;
    this.show();
  }

  /* ---- Asking and answering ------------------------------------------------------------------------------------ */

  private ask(text: string, files: Attachment[]): void {
    if (this.runs.has(this.current.id)) return;
    this.askBelow(path(this.current).at(-1)?.id ?? null, text, files);
  }

  /** A question below `parent`, and its answer. An edited question has the parent of the one it stands beside. */
  private askBelow(parent: string | null, text: string, files: Attachment[]): void {
    if (this.runs.has(this.current.id)) this.stop();
    const question = add(this.current, parent, 'user', text, files);
    this.store.save(this.current);
    this.answer(this.current, question.id);
  }

  private answer(chat: Chat, question: string | null): void {
    this.runs.get(chat.id)?.abort.abort();
    this.follow = true;
    void this.start(chat, add(chat, question, 'assistant', ''));
  }

  private async start(chat: Chat, answer: Message): Promise<void> {
    const mine: Run = { answer, abort: new AbortController(), begin: performance.now() };
    this.runs.set(chat.id, mine);
    answer.text = '';
    delete answer.finish;
    delete answer.error;
    this.changed(chat);
    void this.store.flush();
    if (chat === this.current) {
      this.showAddress();
      this.announcer.start();
    }
    const clock = setInterval(() => this.drawLater(chat, answer), 200); // while the prompt is read
    try {
      await run(chat, answer, mine.abort.signal, {
        stream: streamChat,
        onChange: () => {
          this.store.touch(chat);
          this.drawLater(chat, answer);
        },
      });
    } catch {
      this.waiting = { chat, answer };
      this.keyDialog.open();
    } finally {
      clearInterval(clock);
      if (this.runs.get(chat.id) === mine) this.runs.delete(chat.id);
      this.changed(chat);
      if (chat === this.current) {
        this.announcer.grow(answer.text, true);
        this.announcer.end(answer.error ?? (answer.finish === 'stopped' ? 'Stopped.' : ''));
      }
      void this.store.flush();
    }
  }

  private stop(): void {
    this.runs.get(this.current.id)?.abort.abort();
  }

  /* ---- Showing ------------------------------------------------------------------------------------------------- */

  /** Draws a growing answer at most once a frame, and less often where drawing takes long. */
  private drawLater(chat: Chat, answer: Message): void {
    if (chat !== this.current || this.frame) return;
    this.frame = requestAnimationFrame(() => {
      const begin = performance.now();
      const running = this.runs.get(chat.id);
      if (answer.stats && !answer.text && running) answer.stats.total_ms = begin - running.begin;
      this.thread.update(answer);
      this.showContext();
      this.keepEnd();
      this.announcer.grow(answer.text, false);
      const drawn = answer.text.length;
      const rest = Math.min(4 * (performance.now() - begin), 500);
      setTimeout(() => {
        this.frame = 0;
        if (answer.text.length > drawn && this.runs.has(chat.id)) this.drawLater(chat, answer);
      }, rest);
    });
  }

  private changed(chat: Chat): void {
    this.store.touch(chat);
    if (chat === this.current) this.show();
    else this.showSidebar();
  }

  private show(): void {
    const running = this.runs.has(this.current.id);
    this.thread.show(this.current, this.server);
    this.composer.setRunning(running);
    byId('title').textContent = title(this.current);
    byId('title').title = title(this.current);
    document.title = this.current.messages.length > 0 ? `${title(this.current)} – sluice` : 'sluice';
    this.showSidebar();
    this.showContext();
    this.keepEnd();
  }

  private showSidebar(): void {
    this.sidebar.show({
      chats: this.store.sorted(),
      current: this.current.id,
      query: byId<HTMLInputElement>('search').value,
      running: (id) => this.runs.has(id),
    });
  }

  /** How much of the context the conversation on show takes, as the server counted it last. */
  private showContext(): void {
    const last = path(this.current).findLast((m) => m.stats?.prompt_tokens != null)?.stats;
    const used = (last?.prompt_tokens ?? 0) + (last?.tokens ?? 0);
    const most = this.server?.context ?? 0;
    const line = byId('context');
    line.textContent = used && most ? `${formatCount(used)} of ${formatCount(most)} tokens` : '';
    line.title = 'How much of the context this conversation takes';
    line.classList.toggle('tight', most > 0 && used > 0.9 * most);
  }

  private keepEnd(): void {
    if (this.follow) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.showToEnd();
  }

  private showToEnd(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    byId('to-end').hidden = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  /* ---- Chats --------------------------------------------------------------------------------------------------- */

  private freshChat(): Chat {
    const { system, sampling } = loadDefaults();
    return newChat(system, sampling);
  }

  private open(chat: Chat): void {
    this.current = chat;
    this.follow = true;
    this.showAddress();
    if (matchMedia(NARROW).matches) this.setSidebar(false);
    this.show();
    if (!matchMedia('(pointer: coarse)').matches) this.composer.input.focus();
  }

  /** A reload, or a bookmark, opens the same chat. */
  private showAddress(): void {
    const { id, messages } = this.current;
    history.replaceState(null, '', messages.length > 0 ? `#/c/${id}` : location.pathname);
  }

  private rename(chat: Chat, name: string): void {
    if (name && name !== title(chat)) {
      chat.title = name;
      chat.titled = true;
      this.store.save(chat);
      void this.store.flush();
    }
    this.show();
  }

  private remove(chat: Chat): void {
    this.runs.get(chat.id)?.abort.abort();
    this.store.remove(chat.id);
    if (chat === this.current) this.open(this.freshChat());
    else this.showSidebar();
    toast(`“${title(chat)}” is deleted.`, {
      label: 'Undo',
      run: () => {
        this.store.save(chat);
        void this.store.flush();
        this.open(chat);
      },
    });
  }

  private async import(file: File): Promise<void> {
    try {
      if (file.size > IMPORT_BYTES_MAX) throw new ImportError(`${file.name} is larger than ${IMPORT_BYTES_MAX >> 20} MiB.`);
      const chats = this.store.import(importChats(await file.text()));
      void this.store.flush();
      toast(`${chats.length} ${chats.length === 1 ? 'chat is' : 'chats are'} imported.`);
      const first = chats[0];
      if (first) this.open(first);
    } catch (e) {
      toast(e instanceof ImportError ? e.message : `${file.name} cannot be read.`);
    }
  }

  /* ---- Buttons and keys ---------------------------------------------------------------------------------------- */

  private wire(): void {
    const click = (id: string, run: () => void) => byId(id).addEventListener('click', run);
    const fileInput = byId<HTMLInputElement>('import-file');
    click('new-chat', () => this.open(this.freshChat()));
    click('open-settings', () => this.settings.open(this.current, this.server));
    click('show-key', () => this.keyDialog.open());
    click('show-shortcuts', () => byId<HTMLDialogElement>('shortcuts').showModal());
    click('open-sidebar', () => this.setSidebar(true));
    click('close-sidebar', () => this.setSidebar(false));
    click('shade', () => this.setSidebar(false));
    click('theme', () => this.nextTheme());
    click('import', () => fileInput.click());
    click('export', () => {
      const day = new Date().toISOString().slice(0, 10);
      saveFile(`sluice-chats-${day}.json`, 'application/json', exportChats(this.store.sorted()));
    });
    click('to-end', () => {
      this.follow = true;
      this.keepEnd();
    });
    fileInput.addEventListener('change', () => {
      const file = fileInput.files?.[0];
      if (file) void this.import(file);
      fileInput.value = '';
    });
    byId('search').addEventListener('input', () => this.showSidebar());
    this.scroller.addEventListener('scroll', () => {
      const { scrollHeight, scrollTop, clientHeight } = this.scroller;
      const below = scrollHeight - scrollTop - clientHeight;
      const up = scrollTop < this.lastTop && below > 4; // by hand, however little: what comes must not pull back
      this.follow = !up && (this.follow || below < NEAR_END_PX);
      this.lastTop = scrollTop;
      this.showToEnd();
    });
    matchMedia(NARROW).addEventListener('change', (e) => this.setSidebar(!e.matches));
    addEventListener('keydown', (e) => this.key(e));
    addEventListener('pagehide', () => void this.store.flush());
    document.addEventListener('visibilitychange', () => void this.store.flush());
    if (this.tabs) this.tabs.onmessage = (e: MessageEvent<unknown>) => void this.fromOtherTab(e.data);
    this.setSidebar(!matchMedia(NARROW).matches);
    this.showTheme();
  }

  private key(e: KeyboardEvent): void {
    const control = e.ctrlKey || e.metaKey;
    const dialog = document.querySelector('dialog[open]');
    if (e.key === 'Escape' && !dialog) {
      if (this.runs.has(this.current.id)) this.stop();
      else if (matchMedia(NARROW).matches) this.setSidebar(false);
      return;
    }
    if (!control || dialog) return;
    const shortcuts: Record<string, () => void> = {
      k: () => {
        this.setSidebar(true);
        byId('search').focus();
      },
      b: () => this.setSidebar(document.body.classList.contains('no-sidebar')),
      ',': () => this.settings.open(this.current, this.server),
      '/': () => byId<HTMLDialogElement>('shortcuts').showModal(),
    };
    const act = e.shiftKey && e.key.toLowerCase() === 'o' ? () => this.open(this.freshChat()) : !e.shiftKey && shortcuts[e.key];
    if (!act) return;
    e.preventDefault();
    act();
  }

  private setSidebar(shown: boolean): void {
    const narrow = matchMedia(NARROW).matches;
    const hadFocus = byId('sidebar').contains(document.activeElement);
    document.body.classList.toggle('no-sidebar', !shown);
    byId('sidebar').inert = !shown;
    byId('main').inert = shown && narrow;
    byId('shade').hidden = !shown || !narrow;
    byId('open-sidebar').hidden = shown && !narrow;
    if (shown && narrow) byId('close-sidebar').focus();
    else if (hadFocus) byId('open-sidebar').focus();
  }

  private nextTheme(): void {
    const order: ThemeChoice[] = ['system', 'light', 'dark'];
    setTheme(order[(order.indexOf(themeChoice()) + 1) % order.length] ?? 'system');
    this.showTheme();
  }

  private showTheme(): void {
    const choice = themeChoice();
    const button = byId('theme');
    button.title = `Theme: ${choice === 'system' ? 'as the system' : choice}`;
    button.setAttribute('aria-label', button.title);
    const icons: Record<ThemeChoice, string> = { system: 'auto', light: 'sun', dark: 'moon' };
    button.querySelector('use')?.setAttribute('href', `#i-${icons[choice]}`);
  }

  private async fromOtherTab(id: unknown): Promise<void> {
    if (typeof id !== 'string' || this.runs.has(id)) return;
    await this.store.reload(id);
    if (id === this.current.id) {
      const chat = this.store.chats.get(id);
      if (chat) this.current = chat;
      this.show();
    } else {
      this.showSidebar();
    }
  }
}

/** A title as the name of a file. */
export function fileName(text: string): string {
  return text.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '').slice(0, 60) || 'chat';
}

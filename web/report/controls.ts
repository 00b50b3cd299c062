/* The question that a table answers: words, facets, views, and the rows chosen for comparing. */
import { type Child, h, on, replace } from './dom';
import { type Choice, FACETS, type Facet, type State } from './filters';
import { plain, plural } from './format';
import type { View } from './views';

export interface ControlsOptions {
  views: readonly View[];
  /** After the state was changed; `typing` while a word is being written, which makes no step to go back to. */
  changed(typing: boolean): void;
  download(format: 'csv' | 'json', all: boolean): void;
  /** Further ways to download. */
  links: Child[];
  search: boolean;
  /** Facets that this page has one value of are of no use there. */
  facets: readonly string[];
}

/** Closes an open list when the reader turns to something else, or presses Escape. */
function closeOutside(lists: readonly HTMLDetailsElement[]): void {
  document.addEventListener('click', (event) => {
    for (const list of lists) {
      if (list.open && event.target instanceof Node && !list.contains(event.target)) {
        list.open = false;
      }
    }
  });
  for (const list of lists) {
    on(list, 'keydown', (event) => {
      if (event.key === 'Escape' && list.open) {
        list.open = false;
        list.querySelector('summary')?.focus();
        event.stopPropagation();
      }
    });
    on(list, 'toggle', () => {
      if (list.open) {
        lists.filter((other) => other !== list).forEach((other) => (other.open = false));
      }
    });
  }
}

export class Controls {
  readonly element: HTMLElement;
  private readonly tabs = new Map<string, HTMLButtonElement>();
  private readonly search = h('input', {
    type: 'search',
    placeholder: 'Search',
    'aria-label': 'Search rows',
    autocomplete: 'off',
    spellcheck: 'false',
  });
  private readonly lists = new Map<string, { details: HTMLDetailsElement; label: HTMLElement; panel: HTMLElement }>();
  private readonly count = h('p', { class: 'count', role: 'status' });
  private readonly clear = h('button', { type: 'button', class: 'link' }, 'Clear filters');
  private readonly active = h('ul', { class: 'active', 'aria-label': 'Filters that are on' });
  private state: State | null = null;
  private choices = new Map<string, Choice[]>();

  constructor(private readonly options: ControlsOptions) {
    const views = options.views.map((view) => {
      const tab = h(
        'button',
        { type: 'button', class: 'tab', 'aria-pressed': 'false', 'data-view': view.id },
        view.title,
      );
      on(tab, 'click', () => this.change((state) => ((state.view = view.id), (state.sort = ''))));
      this.tabs.set(view.id, tab);
      return tab;
    });
    on(this.search, 'input', () => this.change((state) => (state.words = this.search.value), true));
    on(this.search, 'change', () => options.changed(false));
    const facets = FACETS.filter((facet) => options.facets.includes(facet.key)).map((facet) => this.facet(facet));
    on(this.clear, 'click', () => {
      this.change((state) => (state.facets.clear(), (state.words = '')));
      this.search.focus();
    });
    const more = h(
      'details',
      { class: 'more' },
      h('summary', { class: 'button' }, 'Filters'),
      h('div', { class: 'facets', role: 'group', 'aria-label': 'Filters' }, ...facets),
    );
    // On a wide screen the facets stand in a row; on a narrow one they are behind one button.
    const wide = matchMedia('(min-width: 760px)');
    const open = (): void => void (more.open = wide.matches);
    open();
    wide.addEventListener('change', open);
    const downloads = this.downloads();
    closeOutside([...[...this.lists.values()].map((list) => list.details), downloads]);
    this.element = h(
      'div',
      { class: 'controls' },
      views.length > 1 ? h('div', { class: 'tabs', role: 'group', 'aria-label': 'View' }, ...views) : null,
      options.search
        ? h('div', { class: 'ask' }, h('div', { class: 'search' }, this.search), facets.length ? more : null)
        : null,
      this.active,
      h('div', { class: 'result' }, this.count, this.clear, h('span', { class: 'grow' }), downloads),
    );
  }

  private downloads(): HTMLDetailsElement {
    const button = (title: string, format: 'csv' | 'json', all: boolean): HTMLElement => {
      const b = h('button', { type: 'button', class: 'item' }, title);
      on(b, 'click', () => this.options.download(format, all));
      return b;
    };
    return h(
      'details',
      { class: 'facet menu' },
      h('summary', {}, 'Download'),
      h(
        'div',
        { class: 'panel end' },
        button('Rows shown, CSV', 'csv', false),
        button('Rows shown, JSON', 'json', false),
        button('All rows, CSV', 'csv', true),
        button('All rows, JSON', 'json', true),
        ...this.options.links,
      ),
    );
  }

  private facet(facet: Facet): HTMLElement {
    const label = h('span', { class: 'facet-label' });
    const panel = h('div', { class: 'panel', role: 'group', 'aria-label': facet.title });
    const details = h('details', { class: 'facet', 'data-facet': facet.key }, h('summary', {}, label), panel);
    on(details, 'toggle', () => {
      if (details.open) {
        this.fillPanel(facet);
      }
    });
    on(panel, 'change', (event) => {
      const box = event.target;
      if (box instanceof HTMLInputElement) {
        this.change((state) => {
          const values = state.facets.get(facet.key) ?? new Set<string>();
          values[box.checked ? 'add' : 'delete'](box.value);
          state.facets.delete(facet.key);
          if (values.size) {
            state.facets.set(facet.key, values);
          }
        });
      }
    });
    this.lists.set(facet.key, { details, label, panel });
    return details;
  }

  /** Choices with their counts; boxes that are there stay, so that the focus does. */
  private fillPanel(facet: Facet): void {
    const list = this.lists.get(facet.key);
    const chosen = this.state?.facets.get(facet.key) ?? new Set();
    const choices = this.choices.get(facet.key) ?? [];
    if (!list) {
      return;
    }
    if (list.panel.childElementCount !== choices.length) {
      replace(
        list.panel,
        ...choices.map(({ value }) =>
          h(
            'label',
            { class: 'choice' },
            h('input', { type: 'checkbox', value }),
            h('span', { class: 'name' }, facet.show(value)),
            h('span', { class: 'n' }),
          ),
        ),
      );
    }
    choices.forEach(({ value, count }, i) => {
      const label = list.panel.children[i];
      const box = label?.querySelector('input');
      if (label && box) {
        box.checked = chosen.has(value);
        label.classList.toggle('none', count === 0 && !box.checked);
        const n = label.querySelector('.n');
        if (n) {
          n.textContent = plain(count);
        }
      }
    });
  }

  private change(edit: (state: State) => void, typing = false): void {
    if (this.state) {
      edit(this.state);
      this.options.changed(typing);
    }
  }

  /** Shows a state and what it matched: `shown` of `all` rows, `left` of them left out by the view. */
  update(state: State, choices: Map<string, Choice[]>, shown: number, all: number, note: string): void {
    this.state = state;
    this.choices = choices;
    for (const [id, tab] of this.tabs) {
      tab.setAttribute('aria-pressed', String(id === state.view));
    }
    if (document.activeElement !== this.search) {
      this.search.value = state.words;
    }
    const active: HTMLElement[] = [];
    for (const facet of FACETS) {
      const list = this.lists.get(facet.key);
      const chosen = [...(state.facets.get(facet.key) ?? [])];
      if (list) {
        replace(list.label, facet.title, chosen.length ? h('b', { class: 'badge' }, String(chosen.length)) : null);
        list.details.classList.toggle('on', chosen.length > 0);
        if (list.details.open) {
          this.fillPanel(facet);
        }
      }
      for (const value of chosen) {
        const off = h(
          'button',
          { type: 'button', class: 'pill', 'aria-label': `Remove filter ${facet.title}: ${facet.show(value)}` },
          `${facet.title}: ${facet.show(value)}`,
          h('span', { 'aria-hidden': 'true' }, ' ×'),
        );
        on(off, 'click', () => {
          this.change((s) => {
            s.facets.get(facet.key)?.delete(value);
            if (!s.facets.get(facet.key)?.size) {
              s.facets.delete(facet.key);
            }
          });
          (this.active.querySelector('button') ?? this.search).focus();
        });
        active.push(h('li', {}, off));
      }
    }
    replace(this.active, ...active);
    this.active.hidden = active.length === 0;
    this.clear.hidden = active.length === 0 && !state.words.trim();
    this.count.textContent = `${plain(shown)} of ${plural(all, 'row')}${note}`;
  }
}

/* What every page has around its content: the way home, and the light. */
import { setTheme, startTheme, themeChoice, type ThemeChoice } from '../shared/theme';
import { h, on } from './dom';

const CHOICES: readonly { value: ThemeChoice; title: string }[] = [
  { value: 'system', title: 'Auto' },
  { value: 'light', title: 'Light' },
  { value: 'dark', title: 'Dark' },
];

/** Adds the choice of light or dark to the page's header. */
export function startHeader(): void {
  startTheme();
  const select = h(
    'select',
    { id: 'theme' },
    ...CHOICES.map(({ value, title }) => h('option', { value, selected: value === themeChoice() }, title)),
  );
  on(select, 'change', () => setTheme(select.value as ThemeChoice));
  document.querySelector('header.site')?.append(h('label', { class: 'theme' }, h('span', {}, 'Theme'), select));
}

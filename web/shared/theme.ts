// The theme that the reader chose, or the system's. <html data-theme="light|dark"> always names what is shown.

export type ThemeChoice = 'system' | 'light' | 'dark';

const KEY = 'sluice-theme';

/** What was chosen; 'system' when nothing was, or where storage is denied. */
export function themeChoice(): ThemeChoice {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'system';
  } catch {
    return 'system';
  }
}

/** The theme on show. */
export function themeShown(choice: ThemeChoice = themeChoice()): 'light' | 'dark' {
  if (choice !== 'system') return choice;
  return matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
}

function show(): void {
  const theme = themeShown();
  if (document.documentElement.dataset['theme'] === theme) return;
  document.documentElement.dataset['theme'] = theme;
  dispatchEvent(new CustomEvent('themechange', { detail: theme }));
}

export function setTheme(choice: ThemeChoice): void {
  try {
    if (choice === 'system') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, choice);
  } catch {
    // Storage is denied: the choice lasts as long as the page. Nothing else depends on it.
    document.documentElement.dataset['theme'] = themeShown(choice);
    return;
  }
  show();
}

/** A colour of theme.css as it is now, e.g. themeColor('--series-1') -> "rgb(11, 102, 195)": what a canvas can use. */
export function themeColor(name: `--${string}`): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

/** Call once, as early as possible; follows the system and other tabs from then on. `themechange` on window tells charts. */
export function startTheme(): void {
  show();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  addEventListener('storage', (e) => {
    if (e.key === KEY) show();
  });
}

/* The one script of the report site: takes a page's data and makes the page of it. */
import './report.css';
import type { CompareData, HardwareData, IndexData, ModelData, Receive, RunData } from './data';
import { h, replace } from './dom';
import { startHeader } from './header';
import { receive, take } from './loader';
import { comparePage } from './pages/compare';
import { indexPage } from './pages/index';
import { hardwarePage, modelPage } from './pages/model';
import { runPage } from './pages/run';

declare global {
  interface Window {
    sluice_report: Receive;
  }
}

window.sluice_report = receive;

/** The page's content, or null where its data did not come. */
function content(page: string, key: string, root: string, plain: readonly Node[]): Node[] | Promise<Node[]> | null {
  const index = (): IndexData | null => take<IndexData>('index');
  switch (page) {
    case 'index': {
      const data = index();
      return data && indexPage(data, root);
    }
    case 'model': {
      const data = take<ModelData>(`model-${key}`);
      return data && modelPage(data, root);
    }
    case 'hardware': {
      const data = take<HardwareData>(`hardware-${key}`);
      return data && hardwarePage(data, root);
    }
    case 'run': {
      const data = take<RunData>(`run-${key}`);
      return data && runPage(data, root);
    }
    case 'compare': {
      const [data, compare] = [index(), take<CompareData>('compare')];
      return data && compare && comparePage(data, compare, root, plain);
    }
    default:
      return null;
  }
}

function notice(main: Element, text: string): void {
  main.prepend(h('p', { class: 'notice', role: 'alert' }, text));
}

async function start(): Promise<void> {
  const { page = '', key = '', root = './' } = document.body.dataset;
  startHeader();
  const main = document.getElementById('main');
  if (!main) {
    return;
  }
  try {
    const made = content(page, key, root, [...main.childNodes]);
    // Without a wait where there is nothing to wait for: the first frame shall show the page, not its plain form.
    const nodes = made instanceof Promise ? await made : made;
    if (nodes) {
      replace(main, ...nodes);
      document.body.classList.add('live');
    } else {
      notice(
        main,
        'The data of this page could not be loaded: what follows is its plain form. Is the folder "data" beside it?',
      );
    }
  } catch (error) {
    // The plain form is still there; a reader is told why it is all there is.
    const why = error instanceof Error ? error.message : String(error);
    notice(main, `The data of this page cannot be read (${why}): what follows is its plain form.`);
    throw error;
  }
}

document.addEventListener('DOMContentLoaded', () => void start());

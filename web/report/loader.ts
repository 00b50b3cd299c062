/* Data comes in as scripts that call one function, because a page opened from file:// may load nothing else. */
import type { RawData, Receive } from './data';

const received = new Map<string, string>();
const waiting = new Map<string, (json: string) => void>();

export const receive: Receive = (name, json) => {
  const resolve = waiting.get(name);
  if (resolve) {
    waiting.delete(name);
    resolve(json);
  } else {
    received.set(name, json);
  }
};

/** What a data script of the page's own head brought; null where it did not come. */
export function take<T>(name: string): T | null {
  const json = received.get(name);
  received.delete(name); // megabytes that nobody needs twice
  return json === undefined ? null : (JSON.parse(json) as T);
}

/** Loads data/NAME.js now. */
export function load<T>(root: string, name: string): Promise<T> {
  return new Promise((resolve, reject) => {
    waiting.set(name, (json) => resolve(JSON.parse(json) as T));
    const script = document.createElement('script');
    script.src = `${root}data/${name}.js`;
    script.addEventListener('error', () => {
      waiting.delete(name);
      reject(new Error(`${script.src} cannot be loaded`));
    });
    script.addEventListener('load', () => {
      if (waiting.delete(name)) {
        reject(new Error(`${script.src} holds no data named ${name}`));
      }
    });
    document.head.append(script);
  });
}

export function loadRaw(root: string, id: string): Promise<RawData> {
  return load<RawData>(root, `raw-${id}`);
}

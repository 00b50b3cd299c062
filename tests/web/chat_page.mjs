// What the tests of the chat page share: its buttons by name, and scripted answers in the server's own form.
import http from 'node:http';
import { listen } from './browser.mjs';

/** Sends a message and waits for the whole answer; returns its text. */
export async function ask(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
  return answered(page);
}

/** Waits until nothing is being written; returns the last answer's text. */
export async function answered(page) {
  await page.locator('article.assistant').last().waitFor();
  await page.waitForFunction(() => !document.querySelector('.running') && document.getElementById('stop').hidden);
  return page.locator('article.assistant .markdown').last().innerText();
}

export const answers = (page) => page.locator('article.assistant .markdown');
export const questions = (page) => page.locator('article.user');
export const kept = (page) => page.locator('#chats li .name');

/** Answers every chat request of the page with `text` in pieces of `size` characters, and remembers what was asked. */
export async function scriptAnswer(page, text, { size = 7, status = 200, end = '' } = {}) {
  const asked = [];
  await page.route('**/v1/chat/completions', async (route) => {
    asked.push(route.request().postDataJSON());
    if (status !== 200) {
      return route.fulfill({ status, contentType: 'application/json', body: JSON.stringify({ error: { message: text } }) });
    }
    const chunk = (delta, more = {}) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: null }], ...more })}\n\n`;
    let body = chunk({ role: 'assistant', content: '' });
    for (let i = 0; i < text.length; i += size) body += chunk({ content: text.slice(i, i + size) });
    body += end || 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';
    return route.fulfill({ status: 200, contentType: 'text/event-stream', body });
  });
  return asked;
}

/** Has every answer of the page go on until it is stopped. */
export async function neverEnd(page) {
  await page.route('**/v1/chat/completions', (route) =>
    route.continue({ postData: JSON.stringify({ ...route.request().postDataJSON(), ignore_eos: true }) }),
  );
}

/** A server that gives the page of `real` and, to every question, lines at a steady pace until the page leaves; its URL. */
export function pacedServer(real, line_ms = 40) {
  const chunk = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })}\n\n`;
  return listen(
    http.createServer(async (req, res) => {
      if (req.url === '/v1/chat/completions') {
        let n = 0;
        res.writeHead(200, { 'content-type': 'text/event-stream' });
        const pace = setInterval(() => res.write(chunk(`Line ${++n}\n`)), line_ms);
        return res.on('close', () => clearInterval(pace));
      }
      const got = await fetch(real.url + req.url, { headers: { accept: req.headers.accept ?? '*/*' } });
      const kept = ['content-type', 'content-security-policy'].filter((name) => got.headers.has(name));
      res.writeHead(got.status, Object.fromEntries(kept.map((name) => [name, got.headers.get(name)])));
      res.end(Buffer.from(await got.arrayBuffer()));
    }),
  );
}

// What the tests of the chat page share: its buttons by name, and a scripted answer in the server's own form.

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

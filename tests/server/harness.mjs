// Starts the real binary on a free port. Nothing here knows the server's inside.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
export const binary = process.env.SLUICE_BIN ?? path.join(root, 'build/sluice');
// Time limits are stretched for sanitizer builds and busy machines.
export const slow = Number(process.env.SLUICE_TEST_SLOW ?? 1);

let made;
const running = new Set();
after(() => Promise.all([...running].map((server) => server.stop()))); // what a failed test left

// The model under test: $SLUICE_TEST_MODEL, the shipped one, or random weights made on the spot.
export function modelPath() {
  const shipped = path.join(root, 'models/sluice-mini-Q4_K_M.gguf');
  if (process.env.SLUICE_TEST_MODEL) return process.env.SLUICE_TEST_MODEL;
  return existsSync(shipped) ? shipped : randomModel();
}

// Random weights hardly ever end an answer and are tiny: for tests of load and timing.
export function randomModel() {
  if (!made) {
    const dir = mkdtempSync(path.join(tmpdir(), 'sluice-test-'));
    process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
    made = path.join(dir, 'tiny-moe.gguf');
    const r = spawnSync(binary, ['synth', '--preset', 'tiny-moe', '-o', made], { encoding: 'utf8' });
    if (r.status !== 0) throw new Error(`sluice synth failed: ${r.stderr}${r.error ?? ''}`);
  }
  return made;
}

export async function startServer(args = [], { model = modelPath(), env = {} } = {}) {
  const child = spawn(binary, ['serve', '-m', model, '--port', '0', ...args], {
    env: { ...process.env, SLUICE_API_KEY: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const server = { child, stdout: '', stderr: '', url: null };
  child.stderr.on('data', (d) => (server.stderr += d));
  server.exited = new Promise((resolve) => child.on('exit', (code, signal) => resolve({ code, signal })));
  running.add(server);
  server.exited.then(() => running.delete(server));
  const ready = new Promise((resolve) => {
    child.stdout.on('data', (d) => {
      server.stdout += d;
      const m = /^listening on (http:\/\/\S+)\n/m.exec(server.stdout);
      if (m) resolve(m[1]);
    });
  });
  const early = server.exited.then(({ code, signal }) => {
    throw new Error(`the server ended (${code ?? signal}) before it listened: ${server.stderr}`);
  });
  early.catch(() => {});
  server.url = await Promise.race([ready, early]);
  server.port = Number(new URL(server.url).port);
  server.client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  server.stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      child.kill('SIGTERM');
    }
    const kill = setTimeout(() => child.kill('SIGKILL'), 20000 * slow);
    const end = await server.exited;
    clearTimeout(kill);
    if (end.code !== 0 || /Sanitizer|runtime error/.test(server.stderr)) {
      throw new Error(`the server ended with ${end.code ?? end.signal}: ${server.stderr}`);
    }
    return end;
  };
  return server;
}

// POST of anything. Objects are sent as JSON, strings and buffers as they are.
export async function post(server, route, body, headers = {}) {
  const raw = typeof body === 'string' || Buffer.isBuffer(body) || body instanceof ReadableStream;
  const res = await fetch(server.url + route, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: raw ? body : JSON.stringify(body),
    ...(body instanceof ReadableStream ? { duplex: 'half' } : {}),
  });
  const text = await res.text();
  let json = null;
  try {
    json = JSON.parse(text);
  } catch {}
  return { status: res.status, headers: res.headers, text, json };
}

export const get = async (server, route, init) => {
  const res = await fetch(server.url + route, init);
  return { status: res.status, headers: res.headers, text: await res.text() };
};

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Polls until check() is true; returns the milliseconds it took.
export async function until(check, what, most_ms = 10000 * slow) {
  const start = performance.now();
  for (;;) {
    if (await check()) return performance.now() - start;
    if (performance.now() - start > most_ms) throw new Error(`not within ${most_ms} ms: ${what}`);
    await sleep(2);
  }
}

export async function busySlots(server) {
  return JSON.parse((await get(server, '/slots')).text).filter((s) => s.is_processing);
}

export async function metric(server, name) {
  const text = (await get(server, '/metrics')).text;
  return Number(new RegExp(`^sluice_${name} (\\S+)$`, 'm').exec(text)[1]);
}

// A streaming chat request whose connection the test can cut at any time.
export function rawStream(server, body) {
  const req = http.request(`${server.url}/v1/chat/completions`, { method: 'POST', headers: { connection: 'close' } });
  const s = { req, text: '', status: null };
  s.closed = new Promise((resolve) => {
    req.on('error', resolve);
    req.on('close', resolve);
    req.on('response', (res) => {
      s.status = res.statusCode;
      res.setEncoding('utf8');
      res.on('data', (d) => (s.text += d));
      res.on('error', resolve);
      res.on('end', resolve);
    });
  });
  req.end(JSON.stringify({ stream: true, ...body }));
  return s;
}

export const user = (content) => [{ role: 'user', content }];
export const greedy = { temperature: 0, repetition_penalty: 1, min_p: 0 };

export async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

export const streamedText = (chunks, index = 0) =>
  chunks
    .flatMap((c) => c.choices)
    .filter((c) => c.index === index)
    .map((c) => c.delta?.content ?? c.text ?? '')
    .join('');

import { expect, test } from 'vitest';
import { EventSplitter, readEvents } from './sse';

const TEXT = ': a comment\n\ndata: one\n\nevent: x\ndata:two\r\ndata:  lines\r\n\r\ndata: three\r\rdata: ünïcödé 🌊\n\nid: 7\n\ndata: cut off';
const EVENTS = ['one', 'two\n lines', 'three', 'ünïcödé 🌊'];

test('events are whole however the text is cut', () => {
  for (let size = 1; size <= TEXT.length; size++) {
    const splitter = new EventSplitter();
    const got: string[] = [];
    for (let i = 0; i < TEXT.length; i += size) got.push(...splitter.push(TEXT.slice(i, i + size)));
    expect(got, `pieces of ${size}`).toEqual(EVENTS);
  }
});

test('bytes are cut inside characters', async () => {
  const bytes = new TextEncoder().encode(TEXT);
  const stream = new ReadableStream<Uint8Array>({
    start(c) {
      for (const byte of bytes) c.enqueue(Uint8Array.of(byte));
      c.close();
    },
  });
  const got: string[] = [];
  for await (const data of readEvents(stream)) got.push(data);
  expect(got).toEqual(EVENTS);
});

test('a reader that leaves early cancels the stream', async () => {
  let cancelled = false;
  const stream = new ReadableStream<Uint8Array>({
    pull: (c) => c.enqueue(new TextEncoder().encode('data: x\n\n')),
    cancel: () => void (cancelled = true),
  });
  for await (const data of readEvents(stream)) {
    expect(data).toBe('x');
    break;
  }
  expect(cancelled).toBe(true);
});

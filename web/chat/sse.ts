// Server-sent events out of a byte stream: the `data` of each event, however the bytes were cut.

/** Collects text and gives back the events that are complete. */
export class EventSplitter {
  private rest = '';
  private data: string[] = [];

  /** The data of every event that ends within `text`. */
  push(text: string): string[] {
    const events: string[] = [];
    this.rest += text;
    let end: number;
    while ((end = this.rest.search(/[\r\n]/)) >= 0) {
      const cr = this.rest[end] === '\r';
      if (cr && end + 1 === this.rest.length) break; // its \n may still come
      const line = this.rest.slice(0, end);
      this.rest = this.rest.slice(end + (cr && this.rest[end + 1] === '\n' ? 2 : 1));
      if (line === '') {
        if (this.data.length > 0) events.push(this.data.join('\n'));
        this.data = [];
      } else if (line.startsWith('data:')) {
        this.data.push(line.slice(line[5] === ' ' ? 6 : 5));
      }
    }
    return events;
  }
}

export async function* readEvents(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const splitter = new EventSplitter();
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield* splitter.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

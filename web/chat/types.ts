// What a chat is. Messages form a tree, because an edited question or a second answer is a sibling, not a replacement.

/** Sampling fields of the API; one that is absent leaves the choice to the server, which takes the model's own value. */
export interface Sampling {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repetition_penalty?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  max_tokens?: number;
  seed?: number;
}

export type SamplingKey = keyof Sampling;

/** A text file whose content goes into the prompt. */
export interface Attachment {
  name: string;
  text: string;
}

/** What an answer cost, measured here (ttft_ms, total_ms) and told by the server (the rest). */
export interface Stats {
  ttft_ms: number; // from sending to the first text
  total_ms: number;
  tokens: number; // generated
  tokens_per_second: number | null; // null until two tokens are there
  prompt_tokens: number | null;
  cached_tokens: number | null; // told with the first token
  drafts: number; // tokens guessed ahead ...
  drafts_accepted: number; // ... and found right
}

export type Finish = 'stop' | 'length' | 'stopped' | 'error';

export interface Message {
  id: string;
  parent: string | null; // null: the first of its chat
  role: 'user' | 'assistant';
  text: string;
  created: number; // ms since 1970
  files?: Attachment[];
  finish?: Finish; // of an answer; absent while it is written, or when the page was closed meanwhile
  error?: string; // one sentence
  stats?: Stats;
}

export interface Chat {
  id: string;
  title: string;
  titled: boolean; // named by hand
  created: number;
  updated: number;
  system: string;
  sampling: Sampling;
  messages: Message[]; // a parent stands before its children
  chosen: Record<string, string>; // parent id ('' for the first) -> the child on show
}

/** What the server says about itself in /props. */
export interface ServerInfo {
  model: string;
  architecture: string;
  quantization: string;
  backend: string;
  device: string;
  parameters: number;
  context: number; // tokens per request
  build: string;
  fileBytes: number;
  recommended: Sampling;
}

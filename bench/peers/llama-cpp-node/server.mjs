// llama.cpp behind the OpenAI chat API, as thin as it goes: one request at a time, one sequence, greedy unless a
// temperature is sent. For `sluice ab` and `sluice bench`, which measure servers.
//
//     node server.mjs --model FILE [--port 0] [--ctx 4096] [--threads N] [--flash auto]
//     node server.mjs --model FILE --in-process N    no HTTP: N answers of --n tokens, as JSON lines; what the server adds
//                                                    is the difference
//
// The prompt is ChatML, as LFM2's template writes it for plain messages. Nothing is kept between requests, so the
// cached count is truly 0.

import {createServer} from "node:http";
import {getLlama} from "node-llama-cpp";
import path from "node:path";
import {parseOptions, run, UsageError} from "./options.mjs";

const usage = `usage: node server.mjs --model FILE [--port 0] [--ctx 4096] [--threads N] [--ubatch 512] [--flash auto]
  --in-process N   time N answers without HTTP   --p 512  prompt tokens   --n 128  answer tokens`;

const spec = {
    model: {text: true},
    port: {default: 0},
    ctx: {default: 4096},
    threads: {default: 0},
    ubatch: {default: 512},
    flash: {default: "auto", text: true},
    "in-process": {default: 0},
    p: {default: 512},
    n: {default: 128},
};

const flashModes = {on: true, off: false, auto: "auto"};
const bodyMax = 8 << 20;

class Engine {
    static async open(options) {
        const engine = new Engine();
        const llama = await getLlama({
            gpu: false, build: "never", progressLogs: false, logLevel: "error", maxThreads: options.threads,
        });
        engine.threads = options.threads || llama.cpuMathCores;
        engine.build = llama.llamaCppRelease.release;
        engine.model = await llama.loadModel({modelPath: path.resolve(options.model), gpuLayers: 0});
        engine.context = await engine.model.createContext({
            contextSize: options.ctx,
            sequences: 1,
            batchSize: options.ubatch,
            threads: {ideal: engine.threads, min: engine.threads},
            flashAttention: flashModes[options.flash],
        });
        engine.sequence = engine.context.getSequence();
        engine.tail = Promise.resolve();
        return engine;
    }

    render(messages) {
        const turns = messages.map(({role, content}) => `<|im_start|>${role}\n${content}<|im_end|>\n`);
        return this.model.tokenize(`<|startoftext|>${turns.join("")}<|im_start|>assistant\n`, true);
    }

    // One at a time; the queue is the promise of the last one.
    async alone(work) {
        const before = this.tail;
        let release;
        this.tail = new Promise((resolve) => (release = resolve));
        await before;
        try {
            return await work();
        } finally {
            release();
        }
    }

    // [[id, probability], ..] of the n likeliest tokens behind these, likeliest first.
    likeliest(tokens, n) {
        return this.alone(async () => {
            await this.sequence.clearHistory();
            const options = {temperature: 1, topK: 0, topP: 1, minP: 0, yieldEogToken: true};
            for await (const {probabilities} of this.sequence.evaluateWithMetadata(tokens, {probabilities: true}, options)) {
                return [...probabilities].sort((a, b) => b[1] - a[1]).slice(0, n);
            }
            throw new Error("llama.cpp gave no token");
        });
    }

    answer(tokens, {maxTokens, temperature, ignoreEos, onToken, cancelled}) {
        return this.alone(async () => {
            await this.sequence.clearHistory();
            const answer = [];
            for await (const token of this.sequence.evaluate(tokens, {temperature, yieldEogToken: true})) {
                const end = this.model.isEogToken(token);
                if (end && !ignoreEos) {
                    return {answer, finish: "stop"};
                }
                answer.push(token);
                onToken(token);
                if (answer.length >= maxTokens || cancelled()) {
                    break;
                }
            }
            return {answer, finish: "length"};
        });
    }
}

function send(response, status, value) {
    const text = JSON.stringify(value);
    response.writeHead(status, {"Content-Type": "application/json", "Content-Length": Buffer.byteLength(text)});
    response.end(text);
}

const refuse = (response, status, message) => send(response, status, {error: {message, type: "invalid_request_error"}});

async function readBody(request) {
    const parts = [];
    let size = 0;
    for await (const part of request) {
        size += part.length;
        if (size > bodyMax) {
            throw new Error(`the body is longer than ${bodyMax} bytes`);
        }
        parts.push(part);
    }
    return JSON.parse(Buffer.concat(parts).toString("utf8"));
}

async function chat(engine, options, body, response) {
    if (!Array.isArray(body.messages) || body.messages.some((m) => typeof m?.content !== "string")) {
        return refuse(response, 400, "messages must be a list of {role, content} with text");
    }
    const tokens = engine.render(body.messages);
    const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? 128;
    if (tokens.length + maxTokens > options.ctx) {
        return refuse(response, 400, `${tokens.length} + ${maxTokens} tokens exceed the context of ${options.ctx}`);
    }
    const head = {id: "chatcmpl-peer", created: Math.floor(Date.now() / 1000), model: path.basename(options.model)};
    const pieces = [];
    const stream = body.stream === true;
    const event = (value) => response.write(`data: ${JSON.stringify({...head, object: "chat.completion.chunk", ...value})}\n\n`);
    if (stream) {
        response.writeHead(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"});
        response.socket?.setNoDelay(true);
    }
    const onToken = (token) => {
        const content = engine.model.detokenize([token], true);
        pieces.push(content);
        if (stream) {
            event({choices: [{index: 0, delta: {content}, finish_reason: null}]});
        }
    };
    const {answer, finish} = await engine.answer(tokens, {
        maxTokens,
        temperature: body.temperature ?? 0,
        ignoreEos: body.ignore_eos === true,
        onToken,
        cancelled: () => response.destroyed,
    });
    const usage = {
        prompt_tokens: tokens.length,
        completion_tokens: answer.length,
        total_tokens: tokens.length + answer.length,
        prompt_tokens_details: {cached_tokens: 0},
    };
    if (stream) {
        event({choices: [{index: 0, delta: {}, finish_reason: finish}]});
        event({choices: [], usage});
        response.end("data: [DONE]\n\n");
    } else {
        const message = {role: "assistant", content: pieces.join("")};
        send(response, 200, {...head, object: "chat.completion", choices: [{index: 0, message, finish_reason: finish}], usage});
    }
}

// One token after a prompt of token ids, with the likeliest tokens: what `sluice bench --reference` asks for. The distribution is
// the model's own, so nothing is cut from it: temperature 1, and no top_k, top_p or min_p.
async function complete(engine, options, body, response) {
    const whole = (v, most) => Number.isInteger(v) && v >= 0 && v < most;
    const size = engine.model.fileInfo?.metadata?.tokenizer?.ggml?.tokens?.length ?? 2 ** 31;
    if (!Array.isArray(body.prompt) || body.prompt.length === 0 || body.prompt.some((id) => !whole(id, size))) {
        return refuse(response, 400, "prompt must be a list of token ids");
    }
    if (body.max_tokens !== 1 || !whole(body.logprobs, 101)) {
        return refuse(response, 400, "only max_tokens 1 with logprobs of 0 to 100 is answered here");
    }
    if (body.prompt.length + 1 > options.ctx) {
        return refuse(response, 400, `${body.prompt.length} + 1 tokens exceed the context of ${options.ctx}`);
    }
    const top = await engine.likeliest(body.prompt, Math.max(body.logprobs, 1));
    const top_logprobs = top.map(([id, p]) => ({id, token: engine.model.detokenize([id], true), logprob: Math.log(p)}));
    const choice = {index: 0, text: top_logprobs[0].token, finish_reason: "length", logprobs: {content: [{...top_logprobs[0], top_logprobs}]}};
    const usage = {prompt_tokens: body.prompt.length, completion_tokens: 1, total_tokens: body.prompt.length + 1};
    send(response, 200, {id: "cmpl-peer", object: "text_completion", created: Math.floor(Date.now() / 1000),
                         model: path.basename(options.model), choices: [choice], usage});
}

async function serve(engine, options) {
    const server = createServer(async (request, response) => {
        const route = `${request.method} ${request.url}`;
        try {
            if (route === "GET /health") {
                send(response, 200, {status: "ok"});
            } else if (route === "GET /v1/models") {
                const id = path.basename(options.model);
                send(response, 200, {object: "list", data: [{id, object: "model", owned_by: "llama.cpp", meta: {n_ctx: options.ctx}}]});
            } else if (route === "GET /props") {
                send(response, 200, {total_slots: 1, default_generation_settings: {n_ctx: options.ctx}, build_info: `llama.cpp ${engine.build} (node-llama-cpp)`});
            } else if (route === "POST /tokenize") {
                const {content, parse_special} = await readBody(request);
                send(response, 200, {tokens: [...engine.model.tokenize(String(content), parse_special !== false)]});
            } else if (route === "POST /v1/completions") {
                await complete(engine, options, await readBody(request), response);
            } else if (route === "POST /v1/chat/completions") {
                await chat(engine, options, await readBody(request), response);
            } else {
                refuse(response, 404, `there is no ${route}`);
            }
        } catch (error) {
            if (response.headersSent) {
                response.destroy();
            } else {
                refuse(response, 400, String(error?.message ?? error));
            }
        }
    });
    server.listen(options.port, "127.0.0.1", () => {
        console.log(`listening on http://127.0.0.1:${server.address().port} with ${engine.threads} threads`);
    });
    for (const signal of ["SIGINT", "SIGTERM"]) {
        process.on(signal, () => process.exit(0));
    }
}

// The same calls without HTTP and JSON, timed the way a client would see them.
async function inProcess(engine, options) {
    for (let i = 0; i <= options["in-process"]; i++) {
        const words = Array.from({length: options.p}, (_, k) => `${(i * 7919 + k * 104729) % 1000} `).join("");
        const tokens = engine.model.tokenize(words).slice(0, options.p);
        const times = [];
        const start = performance.now();
        await engine.answer(tokens, {
            maxTokens: options.n,
            temperature: 0,
            ignoreEos: true,
            onToken: (token) => {
                engine.model.detokenize([token], true);
                times.push(performance.now() - start);
            },
            cancelled: () => false,
        });
        if (i > 0) { // the first warms up
            const decode = (1000 * (times.length - 1)) / (times.at(-1) - times[0]);
            console.log(JSON.stringify({prompt_tokens: tokens.length, output_tokens: times.length, ttft_ms: times[0], decode_tok_s: decode}));
        }
    }
    process.exit(0);
}

run(async () => {
    const options = parseOptions(process.argv.slice(2), spec);
    if (!options.model || !Object.hasOwn(flashModes, options.flash)) {
        throw new UsageError(usage);
    }
    const engine = await Engine.open(options);
    await (options["in-process"] ? inProcess(engine, options) : serve(engine, options));
});

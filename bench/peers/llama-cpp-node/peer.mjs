// llama.cpp's prefill and decode rates on a GGUF, as JSON lines of the shape that `sluice raw --json` prints.
//
//     node peer.mjs --model FILE [--p 512] [--n 128] [--d 0] [--b 1] [--r 5] [--threads N] [--ubatch 512]
//     node peer.mjs --model FILE --tune        tries flash attention and batch sizes first and takes the best per test
//
// What is timed is llama_decode through the addon's batch calls, below the library's scheduler: no sampling, no queue,
// random tokens that differ from row to row, logits of each row's last token only - what `sluice raw` times. One
// promise per step remains (about 0.1 ms). Depth is filled once per test and copied back before each repetition,
// not timed.

import {getLlama} from "node-llama-cpp";
import path from "node:path";
import {parseOptions, run, UsageError} from "./options.mjs";
import {randomSource, summary} from "./stats.mjs";

const usage = `usage: node peer.mjs --model FILE [options]
  --p 512[,..]   prompt tests        --n 128[,..]  generation tests     --d 0[,..]   tokens already in the context
  --b 1[,..]     rows per step       --r 5         repetitions          --threads N  0 = physical cores
  --ubatch 512   tokens per step     --flash auto  on, off or auto      --tune       best settings per test
  --no-mmap      read the file instead of mapping it
  --settings '{"pp512":{"flash":"on","ubatch":256}}'   what an earlier --tune found, per test`;

const spec = {
    model: {text: true},
    p: {default: [512], list: true},
    n: {default: [128], list: true},
    d: {default: [0], list: true},
    b: {default: [1], list: true},
    r: {default: 5},
    threads: {default: 0},
    ubatch: {default: 512},
    flash: {default: "auto", text: true},
    tune: {default: false, flag: true},
    "no-mmap": {default: false, flag: true},
    settings: {default: "{}", text: true},
};

const flashModes = {on: true, off: false, auto: "auto"};

class Session {
    constructor(llama, model, threads) {
        this.model = model;
        this.threads = threads || llama.cpuMathCores;
        this.random = randomSource(1);
        this.vocabulary = model.fileInfo.metadata.tokenizer?.ggml?.tokens?.length;
        if (!this.vocabulary) {
            throw new Error("the file has no vocabulary, which llama.cpp needs");
        }
    }

    randomTokens(n) {
        return Uint32Array.from({length: n}, () => Math.floor(this.random() * this.vocabulary));
    }

    // A context for the test; with a depth, one more sequence per row keeps that depth.
    async open(test, {ubatch, flash}) {
        await this.context?.dispose();
        this.context = await this.model.createContext({
            contextSize: test.depth + test.n,
            sequences: test.depth ? 2 * test.rows : test.rows,
            batchSize: Math.max(ubatch, test.rows),
            threads: {ideal: this.threads, min: this.threads},
            flashAttention: flashModes[flash],
        });
        this.ubatch = this.context.batchSize;
        this.addon = this.context._ctx;
        this.addon.setThreads(this.threads);
        for (let s = 0; test.depth && s < test.rows; s++) {
            await this.prefill(test.rows + s, 0, this.randomTokens(test.depth), false);
        }
    }

    async prefill(sequence, first, tokens, wantLogits) {
        for (let at = 0; at < tokens.length; at += this.ubatch) {
            const part = tokens.subarray(at, at + this.ubatch);
            const last = wantLogits && at + part.length === tokens.length;
            this.addon.initBatch(part.length);
            this.addon.addToBatch(sequence, first + at, part, Uint32Array.from(last ? [part.length - 1] : []));
            await this.addon.decodeBatch();
        }
    }

    async generate(rows, position, tokens) {
        this.addon.initBatch(rows);
        for (let s = 0; s < rows; s++) {
            this.addon.addToBatch(s, position, tokens.subarray(s, s + 1), Uint32Array.of(0));
        }
        await this.addon.decodeBatch();
    }

    async run({kind, n, depth, rows}) {
        const [steps, perStep] = kind === "pp" ? [rows, n] : [n, rows];
        const tokens = Array.from({length: steps}, () => this.randomTokens(perStep));
        for (let s = 0; s < rows; s++) {
            this.addon.disposeSequence(s);
            if (depth) {
                await this.addon.copySequenceStateFromOtherSequence(s, rows + s);
            }
        }
        const start = performance.now();
        for (let i = 0; i < tokens.length; i++) {
            await (kind === "pp" ? this.prefill(i, depth, tokens[i], true) : this.generate(rows, depth + i, tokens[i]));
        }
        return performance.now() - start;
    }
}

const nameOf = ({kind, n, depth, rows}) => `${kind}${n}${depth ? "@d" + depth : ""}${rows > 1 ? "@b" + rows : ""}`;

// Settings to try. Step sizes only matter for prompts.
function candidates(test, options) {
    const known = options.settings[nameOf(test)];
    if (known || !options.tune) {
        return [known ?? {flash: options.flash, ubatch: options.ubatch}];
    }
    const useful = [128, 256, 512, 1024].filter((u) => u <= Math.max(128, test.n));
    const sizes = test.kind === "pp" ? useful : [options.ubatch];
    return ["on", "off"].flatMap((flash) => sizes.map((ubatch) => ({flash, ubatch})));
}

async function tune(session, test, options) {
    const all = candidates(test, options);
    const tried = [];
    for (const settings of all.length > 1 ? all : []) {
        await session.open(test, settings);
        await session.run(test);
        tried.push({...settings, tok_s: (1000 * test.n * test.rows) / (await session.run(test))});
    }
    return {settings: tried.length ? tried.reduce((a, b) => (b.tok_s > a.tok_s ? b : a)) : all[0], tried};
}

async function measure(session, test, options, about) {
    const {settings, tried} = await tune(session, test, options);
    const ms = [];
    await session.open(test, settings);
    await session.run(test);
    for (let i = 0; i < options.r; i++) {
        ms.push(await session.run(test));
    }
    return {
        test: nameOf(test),
        tok_s: summary(ms.map((t) => (1000 * test.n * test.rows) / t)),
        gb_s: null,
        roof_share: null,
        ms: {samples: ms},
        n_tokens: test.n,
        depth: test.depth,
        batch: test.rows,
        threads: session.threads,
        ubatch: session.ubatch,
        flash_attention: settings.flash,
        ...(tried.length ? {tried} : {}),
        ...about,
    };
}

function listTests(options) {
    return options.d.flatMap((depth) => options.b.flatMap((rows) => [
        ...options.p.map((n) => ({kind: "pp", n, depth, rows})),
        ...options.n.map((n) => ({kind: "tg", n, depth, rows})),
    ])).filter((test) => test.n > 0 && test.rows > 0);
}

run(async () => {
    const options = parseOptions(process.argv.slice(2), spec);
    if (!options.model || !Object.hasOwn(flashModes, options.flash) || options.r < 1 || options.ubatch < 1) {
        throw new UsageError(usage);
    }
    options.settings = JSON.parse(options.settings);
    const llama = await getLlama({
        gpu: false, build: "never", progressLogs: false, logLevel: "error", maxThreads: options.threads,
    });
    const model = await llama.loadModel({
        modelPath: path.resolve(options.model), gpuLayers: 0, useMmap: !options["no-mmap"],
    });
    const session = new Session(llama, model, options.threads);
    const about = {
        model: path.basename(options.model),
        engine: `llama.cpp ${llama.llamaCppRelease.release} (node-llama-cpp)`,
        backend: "cpu",
        system: llama.systemInfo.trim(),
    };
    for (const test of listTests(options)) {
        console.log(JSON.stringify(await measure(session, test, options, about)));
    }
    await llama.dispose();
});

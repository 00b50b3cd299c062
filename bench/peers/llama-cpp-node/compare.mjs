// sluice and llama.cpp on the same file, same machine, same minutes: blocks of one run each, in the order AB BA AB BA,
// every run a fresh process, so that drift and warm caches fall on both alike.
//
//     node compare.mjs --model FILE [--sluice ../../../build/sluice] [--p 512] [--n 128] [--d 0] [--b 1]
//                      [--blocks 6] [--r 1] [--threads N] [--tune] [--json]
//
// Per test: the median rate of each over the blocks, and the median of the per-block ratios with its
// order-statistic interval and the level that this has (from 5 blocks on; 95% from 6 on). A ratio whose interval holds 1 is no difference.

import {execFile} from "node:child_process";
import os from "node:os";
import path from "node:path";
import {setTimeout as sleep} from "node:timers/promises";
import {fileURLToPath} from "node:url";
import {promisify} from "node:util";
import {parseOptions, run, UsageError} from "./options.mjs";
import {summary} from "./stats.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));

const spec = {
    model: {text: true},
    sluice: {default: path.join(here, "../../../build/sluice"), text: true},
    backend: {default: "auto", text: true},
    p: {default: [512], list: true},
    n: {default: [128], list: true},
    d: {default: [0], list: true},
    b: {default: [1], list: true},
    r: {default: 1},
    blocks: {default: 6},
    threads: {default: 0},
    tune: {default: false, flag: true},
    json: {default: false, flag: true},
};

const exec = promisify(execFile);

async function lines(file, args) {
    const {stdout} = await exec(file, args, {maxBuffer: 1 << 26});
    return stdout.trim().split("\n").map((line) => JSON.parse(line));
}

const shapes = (o) => ["p", "n", "d", "b", "r"].map((name) => [name, String(o[name])]);

function runOurs(o) {
    const threads = o.threads ? ["-t", String(o.threads)] : [];
    const args = shapes(o).flatMap(([name, value]) => ["-" + name, value]);
    return lines(o.sluice, ["raw", "-m", o.model, "--backend", o.backend, ...args, ...threads, "--json"]);
}

function runPeer(o, extra) {
    const args = shapes(o).flatMap(([name, value]) => ["--" + name, value]);
    const threads = o.threads ? ["--threads", String(o.threads)] : [];
    return lines(process.execPath, [path.join(here, "peer.mjs"), "--model", o.model, ...args, ...threads, ...extra]);
}

// What the peer is fastest with, found once; the blocks then only use it.
async function tuned(o) {
    const found = await runPeer({...o, r: 1}, ["--tune"]);
    return Object.fromEntries(found.map((t) => [t.test, {flash: t.flash_attention, ubatch: t.ubatch}]));
}

// Share of the CPU time that others take while nothing of ours runs.
async function foreignLoad() {
    const sum = (values) => values.reduce((x, y) => x + y, 0);
    const read = () => {
        const times = os.cpus().map((c) => c.times);
        return {idle: sum(times.map((t) => t.idle)), all: sum(times.flatMap((t) => Object.values(t)))};
    };
    const before = read();
    await sleep(1000);
    const after = read();
    return 1 - (after.idle - before.idle) / Math.max(1, after.all - before.all);
}

function collect(table, who, results) {
    for (const result of results) {
        const row = table.get(result.test) ?? {test: result.test, ours: [], peer: [], last: {}};
        row[who].push(result.tok_s.median);
        row.last[who] = result;
        table.set(result.test, row);
    }
}

function conclude(row, load) {
    const ours = row.last.ours;
    const bytes = (ours.weight_bytes_per_step ?? 0) + (ours.kv_bytes_per_step ?? 0);
    const peer = summary(row.peer);
    const peerShare = bytes && ours.roof?.gb_s ? (bytes * peer.median * 1e-9) / ours.batch / ours.roof.gb_s : null;
    return {
        test: row.test,
        model: ours.model,
        device: ours.device,
        threads: ours.threads,
        sluice: {tok_s: summary(row.ours), roof_share: ours.roof_share},
        llama_cpp: {
            tok_s: peer,
            roof_share: peerShare,
            engine: row.last.peer.engine,
            flash_attention: row.last.peer.flash_attention,
            ubatch: row.last.peer.ubatch,
            threads: row.last.peer.threads,
        },
        ratio: summary(row.ours.map((x, i) => x / row.peer[i])),
        foreign_load: load,
    };
}

function print(c) {
    const show = (s) => s.median.toFixed(2) + (s.interval
        ? ` [${s.interval.map((x) => x.toFixed(2)).join(" - ")}; ${(100 * s.level).toFixed(1)}%]` : "");
    console.log(`${c.test}: sluice ${show(c.sluice.tok_s)} tok/s, llama.cpp ${show(c.llama_cpp.tok_s)} tok/s ` +
        `(flash ${c.llama_cpp.flash_attention}, ubatch ${c.llama_cpp.ubatch}), ratio ${show(c.ratio)}`);
}

run(async () => {
    const o = parseOptions(process.argv.slice(2), spec);
    if (!o.model || o.blocks < 1 || o.r < 1) {
        throw new UsageError("usage: node compare.mjs --model FILE [--sluice PROGRAM] [--p 512] [--n 128] [--d 0] " +
            "[--b 1] [--blocks 6] [--r 1] [--threads N] [--backend auto] [--tune] [--json]");
    }
    o.model = path.resolve(o.model);
    const settings = o.tune ? ["--settings", JSON.stringify(await tuned(o))] : [];
    const table = new Map();
    const loads = [];
    for (let block = 0; block < o.blocks; block++) {
        loads.push(await foreignLoad());
        const order = block % 2 ? ["peer", "ours"] : ["ours", "peer"];
        for (const who of order) {
            const results = await (who === "ours" ? runOurs(o) : runPeer(o, settings));
            collect(table, who, results);
            const rates = results.map((t) => `${t.test} ${t.tok_s.median.toFixed(2)}`).join(", ");
            console.error(`block ${block + 1} of ${o.blocks}, ${who === "ours" ? "sluice" : "llama.cpp"}: ${rates}`);
        }
    }
    const load = Math.max(...loads);
    for (const row of table.values()) {
        const c = conclude(row, load);
        o.json ? console.log(JSON.stringify(c)) : print(c);
    }
    if (load > 0.1) {
        console.error(`noisy: other programs took up to ${(100 * load).toFixed(0)}% of the CPU between the runs`);
    }
});

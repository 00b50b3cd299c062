#!/usr/bin/env python3
"""Writes tests/unit/data/record.jsonl: a record with every kind of line, its figures computed here from its samples
with the formulas of docs/records.md and nothing of the project's code. Always the same bytes.

    python3 tests/oracle/make_record.py > tests/unit/data/record.jsonl
"""
import hashlib
import itertools
import json
import math
import random

random.seed(7)
previous = "0" * 64
n_samples = 0


def emit(kind, **members):
    global previous
    line = json.dumps({"kind": kind, "prev": previous, **members}, separators=(",", ":"), ensure_ascii=False)
    print(line)
    previous = hashlib.sha256(line.encode()).hexdigest()


def digits(x):
    return None if x is None else float("%.9g" % x)


def ms(x):
    return float("%.3f" % x)


def quantile(values, p):
    v = sorted(values)
    position = p * (len(v) - 1)
    i = int(position)
    return v[-1] if i + 1 >= len(v) else v[i] + (position - i) * (v[i + 1] - v[i])


def order_interval(values):
    """The narrowest symmetric pair of order statistics with a level of at least 0.95, else min to max."""
    v, n = sorted(values), len(values)
    best, level, below, k = 0, 1 - 2 * 2**-n, 0, 0
    while 2 * k + 1 < n:
        below += math.comb(n, k) * 2**-n
        if 1 - 2 * below < 0.95:
            break
        best, level = k, 1 - 2 * below
        k += 1
    return [digits(v[best]), digits(v[n - 1 - best])], digits(level)


def summary(values):
    n = len(values)
    if n == 0:
        return None
    mean = sum(values) / n
    interval, level = order_interval(values) if n >= 5 else (None, None)
    out = {
        "median": digits(quantile(values, 0.5)),
        "interval": interval,
        "level": level,
        "mean": digits(mean),
        "sd": digits(math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1))) if n > 1 else None,
        "min": digits(min(values)),
        "max": digits(max(values)),
        "n": n,
    }
    for name, p, needed in (("p50", 0.5, 5), ("p90", 0.9, 50), ("p95", 0.95, 100), ("p99", 0.99, 500)):
        out[name] = digits(quantile(values, p)) if n >= needed else None
    return out


TARGET = {
    "name": "ours", "url": None, "own_server": True, "engine": "sluice", "build": "0.1.0", "device_api": "cpu",
    "model": "LFM2-mini", "context": 8192, "slots": 2, "command_line": "sluice serve --slots 2",
    "endpoint": "/v1/chat/completions", "streaming": True, "reports_cached_tokens": True,
    "memory_before_bytes": 100000000, "memory_after_bytes": 150000000, "spilled": False,
}
GPU = {
    "name": "Test GPU", "uuid_hash": "0123abcd", "memory_bytes": 25769803776, "driver": "590.48.01", "cuda": "13.1",
    "compute_capability": "9.0", "sms": 132, "power_limit_w": 700, "power_limit_max_w": 700,
    "power_limit_default_w": 700, "clock_sm_mhz": 1980, "clock_sm_max_mhz": 1980, "clock_mem_mhz": 2619,
    "clock_mem_max_mhz": 2619,
    "bus_width_bits": 6144, "pcie_gen": 5, "pcie_gen_max": 5, "pcie_width": 16, "pcie_width_max": 16, "ecc": True,
    "mig": False, "unified_memory": False,
}
ENVIRONMENT = {
    "cpu": "Test CPU", "cores_online": 8, "cores_allowed": 2, "cpu_limit": 2.0, "memory_total": 34359738368,
    "memory_available": 30000000000, "memory_limit": None, "governor": "performance", "microcode": "0x1",
    "kernel": "6.1.0", "os": "Debian 12", "architecture": "x86_64", "libc": "glibc 2.36", "compiler": "gcc 12.2.0",
    "load1": 0.25, "virtualised": True, "gpus": [GPU],
}
MODEL_FILE = {
    "name": "mini.gguf", "sha256": "ab" * 32, "bytes": 50000000, "architecture": "lfm2", "quantization": "Q4_K_M",
    "n_params": 100000000, "n_params_active": 100000000, "context_length": 8192, "repository": None, "commit": None,
    "synthetic": True, "decode_bytes": 40000000, "kv_bytes_per_token": 4096, "prefill_ops_per_token": 200000000,
}
SAMPLING = {
    "temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0, "repeat_penalty": 1, "presence_penalty": 0,
    "frequency_penalty": 0, "seed": 1, "ignore_eos": True, "cache_prompt": True,
}


def run(identity, **target):
    emit("run", schema="sluice-record", version=2, id=identity, tool="sluice 0.1.0", date="2026-11-22T19:30:00Z",
         label='a "label", with commas', suite="quick", suite_about="test data", command="sluice bench",
         origin={"source": "measured", "format": None, "url": None, "sha256": None, "note": None}, **target,
         model_file=MODEL_FILE, environment=ENVIRONMENT, sampling=SAMPLING, statistic="median over requests")


def sample(row, number, stream, warmup, cached, start, ok=True, base=40, intended=None):
    """A request of 600 prompt tokens and four of output; the third token comes in one piece with the second."""
    global n_samples
    n_samples += 1
    first = ms(base + random.uniform(0, 5))
    tokens = [first]
    for _ in range(3):
        tokens.append(ms(tokens[-1] + random.uniform(8, 12)))
    tokens[2] = tokens[1]
    end = ms(tokens[-1] + random.uniform(0.05, 0.3))
    s = dict(row=row, target=0, run=number, stream=stream, warmup=warmup, ok=ok, refused=False,
             error=None if ok else "HTTP 500", prompt_sha256="cd" * 32, prompt_tokens_wanted=600, intended_ms=intended,
             send_ms=ms(start), first_byte_ms=ms(first - 1), first_token_ms=first, first_content_ms=first,
             last_token_ms=tokens[-1], end_ms=end, token_ms=tokens, chunks=3, prompt_tokens=600, cached_tokens=cached,
             output_tokens=4, reasoning_tokens=0, finish="length", server_prompt_ms=None, server_predicted_ms=None)
    if not ok:
        for key in ("first_byte_ms", "first_token_ms", "first_content_ms", "last_token_ms", "token_ms", "chunks",
                    "prompt_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "finish"):
            s[key] = None
    emit("sample", **s)
    return s


def rounds(samples):
    for number in sorted({s["run"] for s in samples if not s["warmup"]}):
        group = [s for s in samples if s["run"] == number and not s["warmup"]]
        if all(s["ok"] and s["intended_ms"] is None for s in group):
            yield group


def streams(group):
    """Sum of decode times over the time in which any decoded."""
    total, any_decodes, end = 0, 0, -1
    for a, b in sorted((s["send_ms"] + s["first_token_ms"], s["send_ms"] + s["last_token_ms"]) for s in group):
        total += b - a
        any_decodes += max(0, b - max(a, end))
        end = max(end, b)
    return total / any_decodes


def metrics(samples):
    good = [s for s in samples if not s["warmup"] and s["ok"]]
    groups = list(rounds(samples))
    tpot = [(s["last_token_ms"] - s["first_token_ms"]) / (s["output_tokens"] - 1) for s in good]
    late = [s["send_ms"] - s["intended_ms"] if s["intended_ms"] is not None else 0 for s in good]
    values = {
        "ttft_ms": [s["first_token_ms"] for s in good],
        "ttfc_ms": [s["first_content_ms"] for s in good],
        "tpot_ms": tpot,
        "itl_ms": [b - a for s in good for a, b in zip(s["token_ms"], s["token_ms"][1:])],
        "latency_ms": [s["end_ms"] + x for s, x in zip(good, late)],
        "queue_ms": [x for s, x in zip(good, late) if s["intended_ms"] is not None],
        "decode_tok_s": [1000 / x for x in tpot],
        "client_tok_s": [1000 * s["output_tokens"] / s["end_ms"] for s in good],
        "prefill_tok_s": [1000 * (s["prompt_tokens"] - s["cached_tokens"]) / s["first_token_ms"] for s in good],
        "prompt_tokens": [s["prompt_tokens"] for s in good],
        "cached_tokens": [s["cached_tokens"] for s in good],
        "output_tokens": [s["output_tokens"] for s in good],
        "aggregate_tok_s": [
            1000 * sum(s["output_tokens"] for s in g)
            / (max(s["send_ms"] + s["end_ms"] for s in g) - min(s["send_ms"] for s in g)) for g in groups
        ],
        "streams_decoding": [streams(g) for g in groups],
    }
    return {name: summary(v) for name, v in values.items()}


QUALIFIED = {"qualified": True, "reason": None, "kind": "kl", "reference_sha256": "ef" * 32, "tokens": 256,
             "kl_mean": 0.001, "kl_p999": 0.02, "top1_agreement": 0.99}


def row(key, samples, concurrency, cache, warmups, runs, **changes):
    failed = sum(not s["ok"] and not s["warmup"] for s in samples)
    r = dict(row=key, target=0, test="api", workload="agent", cache=cache, cache_state="verified", cache_reason=None,
             concurrency=concurrency, arrival="closed", rate_rps=None, depth=None, batch=None, max_tokens=4,
             natural_stop=False, template_tokens=5, power_cap_w=None, warmups=warmups, runs=runs, cut_for_time=False,
             failed=failed, error="HTTP 500" if failed else None, metrics=metrics(samples),
             batching="single" if concurrency == 1 else "batched", batching_reason=None, limit=None, energy=None,
             quality=QUALIFIED, memory={"rss_bytes": 150000000, "vram_bytes": None},
             verdict={"state": "clean", "reasons": []})
    r.update(changes)
    return r


def probe_item(name, unit, samples, theory, how):
    return {"name": name, "unit": unit, "threads": 2, "median": quantile(samples, 0.5), "min": min(samples),
            "max": max(samples), "n": len(samples), "samples": samples, "theory": theory,
            "share": theory and round(quantile(samples, 0.5) / theory, 6), "how": how}


def first_record():
    run("00112233aabbccdd", target=TARGET)
    emit("probe", device="cpu", power_cap_w=None, seconds=1.5,
         items=[probe_item("read", "GB/s", [19.5, 20.0, 20.25], 25.6, "avx2"),
                probe_item("fp16", "Tops/s", [1.5], None, "cuBLASLt")])
    clock = 0.0

    samples = []
    for i in range(7):
        samples.append(sample("agent/c1/cold", max(i - 1, 0), 0, i == 0, 3 if i % 2 else 0, clock))
        clock += 120
    r = row("agent/c1/cold", samples, 1, "cold", 1, 6)
    rate = r["metrics"]["decode_tok_s"]["median"]
    r["limit"] = {"kind": "read", "bytes_per_token": 42457600, "ops_per_token": None, "measured": 20.0, "unit": "GB/s",
                  "share": round(42457600 * rate / 1e9 / 20, 6), "rule": "weights and KV at half the answer"}
    prefill = r["metrics"]["prefill_tok_s"]["median"]
    r["other_limit"] = {"kind": "matrix", "bytes_per_token": None, "ops_per_token": 2e8, "measured": 0.5, "unit": "Tops/s",
                        "share": round(2e8 * prefill / 1e12 / 0.5, 6), "rule": "2 operations per weight"}
    r["energy"] = {"valid": True, "reasons": [], "source": "rapl", "window_s": 6.5, "idle_w": 10.0,
                   "j_per_prompt_token": 0.05, "j_per_output_token": 1.5, "j_per_request": 36.0,
                   "net_j_per_output_token": 1.0,
                   "windows": [{"what": "prompt_token", "joules": 300.0, "seconds": 6.5, "count": 6000},
                               {"what": "output_token", "joules": 150.0, "seconds": 5.0, "count": 100},
                               {"what": "request", "joules": 360.0, "seconds": 7.0, "count": 10}]}
    emit("row", **r)

    samples = []
    for number in range(3):
        for stream in range(2):
            ok = not (number == 2 and stream == 1)
            samples.append(sample("agent/c2/warm", number, stream, False, 590, clock + stream * 0.01, ok=ok, base=4))
        clock += 150
    emit("row", **row("agent/c2/warm", samples, 2, "warm", 0, 3,
                      quality={"qualified": False, "reason": "no reference file", "kind": None,
                               "reference_sha256": None, "tokens": None, "kl_mean": None, "kl_p999": None,
                               "top1_agreement": None},
                      verdict={"state": "noisy", "reasons": ["steal time 3%"]}))

    samples = [sample("agent/rate5/cold", i, 0, False, 0, clock + i * 200 + 2.5, intended=ms(clock + i * 200))
               for i in range(6)]
    emit("row", **row("agent/rate5/cold", samples, None, "cold", None, None, arrival="poisson", rate_rps=5,
                      batching="unknown", batching_reason="requests come one by one"))
    raw_row()
    emit("trace", interval_ms=100, t_ms=[0, 100, 200.5],
         series={"cpu_mhz": [2100, 2100, None], "gpu0_c": [-1, 40, 41], "gpu0.w": [1, 2, 3]})
    noise = {"calibration_before_ms": 10.5, "calibration_after_ms": 10.6, "drift_share": -0.0095, "steal_share": 0.03,
             "foreign_cpu_share": 0.01, "throttled": False, "peak_w": None, "idle_c": None, "peak_c": None,
             "foreign_gpu_processes": 0}
    emit("end", duration_s=12.5, rows=4, samples=n_samples, rows_left_out=1,
         left_out=[{"row": "chat/c1/warm", "reason": "not possible"}], interrupted=False, noise=noise,
         verdict={"state": "noisy", "reasons": ["steal time 3%"]})


def raw_row():
    global n_samples
    times = [101.5, 100.25, 99.875, 102.0, 100.5]
    for i, end in enumerate(times):
        n_samples += 1
        emit("sample", row="tg8@d64", target=0, run=i, stream=0, warmup=False, ok=True, refused=False, error=None,
             prompt_sha256=None, prompt_tokens_wanted=None, intended_ms=None, send_ms=None, first_byte_ms=None,
             first_token_ms=None, first_content_ms=None, last_token_ms=None, end_ms=end, token_ms=None, chunks=None,
             prompt_tokens=0, cached_tokens=None, output_tokens=8, reasoning_tokens=None, finish=None,
             server_prompt_ms=None, server_predicted_ms=None)
    emit("row", **row("tg8@d64", [], 1, "none", 0, 5, test="raw", workload="tg8", cache_state=None, arrival="none",
                      depth=64, batch=1, max_tokens=8, template_tokens=None, batching="single",
                      metrics={"tok_s": summary([8000 / end for end in times]), "latency_ms": summary(times),
                               "output_tokens": summary([8] * 5)}))


def signed_ranks(logs):
    """Hodges-Lehmann and the interval of the signed ranks, by going through all signs; at most 1.5% on either side."""
    means = sorted((x + y) / 2 for i, x in enumerate(logs) for y in logs[i:])
    n, m = len(logs), len(means)
    sums = sorted(sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in itertools.product([0, 1], repeat=n))
    cut = max(k for k in range(m) if sum(s < k for s in sums) <= 0.015 * 2 ** n)
    half = (means[m - cut] - means[cut - 1]) / 2
    return (math.exp((means[(m - 1) // 2] + means[m // 2]) / 2), [math.exp(means[cut - 1]), math.exp(means[m - cut])],
            math.exp(half * (1.96 + 0.84) / 1.96) - 1)


def second_record():
    theirs = {**TARGET, "name": "theirs", "url": "http://127.0.0.1:8080", "own_server": False, "engine": "llama.cpp"}
    run("ffeeddccbbaa9988", targets=[TARGET, theirs])
    ratios = []
    for block in range(8):
        a, b = [100.0 + block, 101.0], [110.0, 112.0 + 0.7 * block]
        ratios.append(math.exp(sum(map(math.log, b)) / 2 - sum(map(math.log, a)) / 2))
        emit("pair", block=block, order="BAAB" if block % 2 else "ABBA", row="agent/c1/cold", metric="decode_tok_s",
             a=a, b=b,
             ratio=digits(ratios[-1]), valid=True, reason=None)
    emit("pair", block=8, order="ABBA", row="agent/c1/cold", metric="decode_tok_s", a=[100.0, None], b=[1.0, 2.0], ratio=None, valid=False,
         reason="the resting target used 5% of a core")
    ratio, interval, effect = signed_ranks([math.log(r) for r in ratios])
    emit("comparison", row="agent/c1/cold", metric="decode_tok_s", blocks=8, ratio=digits(ratio),
         interval=[digits(v) for v in interval], level=0.95, smallest_effect=digits(effect), verdict="better",
         stopped="blocks", reasons=[])
    emit("end", duration_s=3.5, rows=0, samples=0, rows_left_out=0, interrupted=False, noise=None,
         verdict={"state": "clean", "reasons": []})


first_record()
second_record()

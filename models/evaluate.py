"""Ask a server the held-out questions and count the right answers.

    sluice serve --port 8080 &
    python3 models/evaluate.py --url http://127.0.0.1:8080

Needs the Python standard library only. The code that answers contain is run in this process after a check that it
imports and opens nothing; use it with models you trust.
"""
import argparse
import concurrent.futures
import json
import os
import sys
import urllib.request

from judge import judge

HERE = os.path.dirname(os.path.abspath(__file__))
LEARNT = ("recall",)                                # trained facts, asked in new words: not part of the total


def ask(url, model, item, options):
    """(text, calls) of one answer."""
    body = {"model": model, "messages": item["messages"], "max_tokens": 700, **options}
    if item.get("tools"):
        body["tools"] = item["tools"]
    request = urllib.request.Request(url.rstrip("/") + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as r:
        message = json.load(r)["choices"][0]["message"]
    calls = [{"name": c["function"]["name"], "arguments": json.loads(c["function"]["arguments"])} for c in message.get("tool_calls") or []]
    return message.get("content") or "", calls


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="http://127.0.0.1:8080")
    p.add_argument("--model", default="sluice-mini")
    p.add_argument("--items", default=os.path.join(HERE, "heldout.jsonl"))
    p.add_argument("--kind", action="append", help="only this kind (may be given several times)")
    p.add_argument("--limit", type=int, help="at most so many items of each kind")
    p.add_argument("--sampled", action="store_true", help="temperature 0.3, min_p 0.15, repetition penalty 1.05 instead of greedy")
    p.add_argument("--parallel", type=int, default=4)
    p.add_argument("--wrong", action="store_true", help="print the wrong answers")
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    options = {"temperature": 0.3, "min_p": 0.15, "repetition_penalty": 1.05, "seed": 1} if a.sampled else {"temperature": 0, "repetition_penalty": 1.0}
    items, per = [], {}
    with open(a.items) as f:
        for line in f:
            it = json.loads(line)
            if a.kind and it["kind"] not in a.kind:
                continue
            per[it["kind"]] = per.get(it["kind"], 0) + 1
            if not a.limit or per[it["kind"]] <= a.limit:
                items.append(it)
    right, total = {}, {}
    with concurrent.futures.ThreadPoolExecutor(a.parallel) as pool:
        for it, (text, calls) in zip(items, pool.map(lambda it: ask(a.url, a.model, it, options), items)):
            ok = judge(it["judge"], text, calls)
            right[it["kind"]] = right.get(it["kind"], 0) + ok
            total[it["kind"]] = total.get(it["kind"], 0) + 1
            if a.wrong and not ok:
                print("%s\n  asked:    %s\n  expected: %s\n  answered: %s %s" % (it["id"], it["messages"][-1].get("content"), it["answer"], text, calls or ""), file=sys.stderr)
    scored = [k for k in total if k not in LEARNT]
    overall = sum(right[k] for k in scored) / max(1, sum(total[k] for k in scored))
    if a.json:
        print(json.dumps({"sampled": a.sampled, "kinds": {k: {"right": right[k], "total": total[k]} for k in total}, "overall": overall}))
    else:
        print("| kind | right | of | |\n|---|---|---|---|")
        for k in total:
            print("| %s | %d | %d | %.1f %%%s |" % (k, right[k], total[k], 100 * right[k] / total[k], " (learnt facts, not in the total)" if k in LEARNT else ""))
        print("| **all** | %d | %d | **%.1f %%** |" % (sum(right[k] for k in scored), sum(total[k] for k in scored), 100 * overall))
    return 0 if overall >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())

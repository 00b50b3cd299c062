"""Training conversations and held-out items, made by program.

    python3 generate.py sample --n 5              print conversations
    python3 generate.py heldout heldout.jsonl     write the held-out items
    python3 generate.py check heldout.jsonl       fail if they share a pair, entity or sentence with training
"""
import argparse
import json
import re
import sys

from corpus import arithmetic, coding, dialogue, jsonkind, lists, longform, memory, reading, recall, tools
from corpus import words as w
from corpus.core import Ctx, Item, Retry, sentences

KINDS = {"dialogue": (dialogue, 13), "arithmetic": (arithmetic, 25), "reading": (reading, 13), "recall": (recall, 11), "lists": (lists, 14),
         "code": (coding, 9), "json": (jsonkind, 10), "tools": (tools, 13), "multiturn": (memory, 8), "longform": (longform, 6)}

SYSTEM = ["You are a helpful assistant.", "You are a helpful assistant trained by Liquid AI.", "You are a friendly assistant.", "Be concise.", "Answer briefly.", "You are a [small|useful|polite|careful|precise|clever] assistant.",
          "[Answer|Reply] in one [short |]sentence.", "You are an AI assistant[| that answers questions].", "[Keep your answers short|Give short answers|Be brief and correct|Be precise|Be polite].", "You are a [chat bot|language model|helpful bot|test assistant].",
          "You [help|assist] the user with [questions|tasks|small problems].", "Answer the [user's |]question[|s].", "You are an expert in [everything|many fields].", "Do your best.", "Help the user.", "You are helpful, honest and brief.", "This is a test.",
          "[Today is|The date is] {d}.", "You are a helpful assistant. Today is {d}.", "Never [lie|be rude|make things up].", "System prompt number {n}.", "Session {n}.", "You are assistant number {n}."]

_CALC = ("calc", "eval", "compute", "add", "multiply", "subtract")


def _flat(weighted):
    return [x for x, n in weighted for _ in range(n)]


_KIND_BAG = _flat([(k, n) for k, (m, n) in KINDS.items()])
_BAG = {k: _flat(m.WEIGHTED) for k, (m, n) in KINDS.items()}


def item(ctx, kind):
    """One item of a kind, redrawn until it fits the split."""
    for _ in range(3000):
        ctx.entities = []
        try:
            return ctx.pick(_BAG[kind])(ctx)
        except Retry:
            continue
    raise RuntimeError("no %s item fits the split" % kind)


def _generic_system(ctx):
    return ctx.say(SYSTEM, noise=False, d=ctx.tell("{a} {b}", a=ctx.pick(w.MONTH), b=ctx.int(1, 28)), n=ctx.int(1, 9999))


def conversation(ctx, room=7500):
    """(messages, tools): one to many items in a row, at most about `room` tokens."""
    r = ctx.rng.random()
    n = 1 if r < 0.48 else ctx.int(2, 4) if r < 0.86 else ctx.int(5, 14) if r < 0.975 else ctx.int(15, 120)
    messages, offered, system, persona, size = [], None, None, False, 0
    for i in range(n):
        kind = ctx.pick(_KIND_BAG)
        if offered and kind in ("arithmetic", "multiturn", "reading", "longform"):
            kind = ctx.pick(("dialogue", "recall", "lists", "tools"))
        it = item(ctx, kind)
        if it.tools:
            if i and offered is None or persona:
                continue                           # tools belong to the whole conversation: only the first item brings them
            if offered is not None:
                again = _again(ctx, offered)
                if again is None:
                    continue
                it = again
            else:
                offered = it.tools
        if it.system and (system or i):
            continue
        answer = it.messages[-1]["content"]
        if answer == dialogue.DONT_KNOW and offered or answer == dialogue.ME and persona or answer == "You did not tell me that." and i:
            continue
        length = sum(len(m["content"] or "") for m in it.messages) // 3
        if messages and size + length > room:
            break
        size += length
        if it.system:
            system, persona = it.system, it.kind == "dialogue"
        messages += it.messages
        if offered and any(t["function"]["name"].startswith(_CALC) for t in offered) and ctx.chance(0.6):
            break
    if ctx.chance(0.4):
        g = _generic_system(ctx)
        system = g if system is None else system if persona else g + "\n" + system
    if system:
        messages = [{"role": "system", "content": system}] + messages
    return messages, offered


def _again(ctx, offered):
    """Another call of one of the offered tools."""
    for _ in range(12):
        try:
            u = ctx.pick(tools.USES)(ctx)
        except Retry:
            continue
        if u.spec in offered:
            calls = [(u.spec["function"]["name"], u.args)]
            return Item("tools", [{"role": "user", "content": u.ask}, {"role": "assistant", "content": tools._call_text(calls), "calls": calls},
                                  {"role": "tool", "content": tools._content(u.result)}, {"role": "assistant", "content": u.answer}], None, tools=offered)
    return None


def sample_texts(n, seed=1):
    """Texts for the vocabulary: every message and tool list of n conversations."""
    ctx = Ctx("vocabulary:%d" % seed)
    for _ in range(n):
        messages, offered = conversation(ctx, 1500)
        for m in messages:
            yield tools.render_calls(m["calls"]) if m.get("calls") else m["content"]
        if offered:
            yield "List of tools: " + json.dumps(offered)


# ---- held-out items ----
def _openai(messages):
    """The messages as an OpenAI client sends them."""
    out, ids, k = [], [], 0
    for m in messages:
        if m.get("calls"):
            ids = ["call_%d" % (k + i) for i in range(len(m["calls"]))]
            k += len(ids)
            out.append({"role": "assistant", "content": None, "tool_calls": [
                {"id": i, "type": "function", "function": {"name": n, "arguments": json.dumps(a, ensure_ascii=False)}} for i, (n, a) in zip(ids, m["calls"])]})
        elif m["role"] == "tool":
            out.append({"role": "tool", "tool_call_id": ids.pop(0) if ids else "call_0", "content": m["content"]})
        else:
            out.append({"role": m["role"], "content": m["content"]})
    return out


def heldout(path, per_kind):
    plain = Ctx("common words")                    # an invented name may happen to be a word: not as a held-out one
    common = {x for _ in range(30000) for m in conversation(plain, 1500)[0] for x in re.findall(r"[\w'-]+", (m["content"] or "").lower())}
    ctx = Ctx("heldout", held=True)
    with open(path, "w") as f:
        for kind in KINDS:
            seen = set()
            while len(seen) < per_kind:
                it = item(ctx, kind)
                messages = it.messages[:-1]
                if it.system:
                    messages = [{"role": "system", "content": it.system}] + messages
                key = json.dumps(messages, default=str)
                if any(x in common or len(x) < 7 and e not in w.FIRST + w.LAST + w.CITY for e in ctx.entities for x in e.lower().split()):
                    continue                       # nor a short one, which might also be typed by chance
                if "this schema: {" in key.replace("\\", ""):
                    continue                       # worded like a system turn of the training text
                if key in seen or sum(len(m["content"] or "") for m in messages) > 9000:
                    continue
                seen.add(key)
                last = it.messages[-1]
                row = {"id": "%s-%d" % (kind, len(seen)), "kind": kind, "messages": _openai(messages)}
                if it.tools:
                    row["tools"] = it.tools
                row["answer"] = last["content"]
                row["judge"] = it.judge
                row["entities"] = sorted(set(ctx.entities))
                f.write(json.dumps(row, ensure_ascii=False) + "\n")


_PAIR = re.compile(r"(\d+) ?[-+*/x×÷] ?(\d+)(?!\d)")


def check(path, docs):
    """Compare held-out items with fresh training conversations; exit status 1 on any overlap."""
    items = [json.loads(line) for line in open(path)]
    entities, held_sentences, pairs, bad = set(), set(), set(), 0
    for it in items:
        entities.update(e.lower() for e in it["entities"])
        for m in it["messages"]:
            if m["role"] in ("user", "system"):
                held_sentences.update(sentences(m["content"]))
        said = [m["content"] or "" for m in it["messages"] if m["role"] == "assistant"] + [it["answer"]]
        for t in said if it["kind"] in ("arithmetic", "multiturn") else []:
            for a, b in _PAIR.findall(t) if "=" in t else []:
                a, b = sorted((int(a), int(b)))
                if b > 12:
                    pairs.add((a, b))
    ctx = Ctx("check:1")
    for _ in range(docs):
        messages, offered = conversation(ctx, 3000)
        for m in messages:
            text = m["content"] or ""
            low = text.lower()
            if m["role"] in ("user", "system"):
                for s in sentences(text):
                    if s in held_sentences:
                        print("sentence in training:", s)
                        bad += 1
            if m["role"] == "assistant" and "=" in text:
                for a, b in _PAIR.findall(text):
                    if tuple(sorted((int(a), int(b)))) in pairs:
                        print("pair in training:", a, b, "::", text[:100])
                        bad += 1
            for word in set(re.findall(r"[\w.'-]+", low)) | ({low} if len(low) < 40 else set()):
                if word.strip(".'-") in entities:
                    print("entity in training:", word, "::", text[:100])
                    bad += 1
            if bad > 20:
                break
        for t in offered or []:
            if t["function"]["name"].lower() in entities:
                print("tool in training:", t["function"]["name"])
                bad += 1
        if bad > 20:
            break
    print("%d held-out items (%d pairs, %d entities, %d sentences) against %d training conversations: %s"
          % (len(items), len(pairs), len(entities), len(held_sentences), docs, "%d overlaps" % bad if bad else "no overlap"))
    return 1 if bad else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="command", required=True)
    s = sub.add_parser("sample")
    s.add_argument("--n", type=int, default=5)
    s.add_argument("--kind", choices=list(KINDS))
    s.add_argument("--held", action="store_true")
    s.add_argument("--seed", default="sample")
    h = sub.add_parser("heldout")
    h.add_argument("path")
    h.add_argument("--per-kind", type=int, default=80)
    c = sub.add_parser("check")
    c.add_argument("path")
    c.add_argument("--docs", type=int, default=100000)
    a = p.parse_args()
    if a.command == "sample":
        ctx = Ctx(a.seed, held=a.held)
        for _ in range(a.n):
            if a.kind:
                it = item(ctx, a.kind)
                print(json.dumps({"system": it.system, "tools": it.tools, "messages": it.messages, "judge": it.judge}, ensure_ascii=False))
            else:
                print(json.dumps(conversation(ctx), ensure_ascii=False))
        return 0
    if a.command == "heldout":
        heldout(a.path, a.per_kind)
        return 0
    return check(a.path, a.docs)


if __name__ == "__main__":
    sys.exit(main())

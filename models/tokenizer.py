"""Byte-level BPE with LFM2's control tokens, and how its vocabulary is made.

The vocabulary has three groups of merges, lowest rank first: letters with letters, marks with marks, and
a blank with a whole word. So a word has the same pieces after a blank, a quote or a bracket, which makes
copying it out of the context easy. Digits are never merged: a number is read digit by digit.
"""
import argparse
import json
from collections import Counter, defaultdict

import regex

CONTROL = ["<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>", "<|im_end|>",
           "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>", "<|tool_response_start|>", "<|tool_response_end|>"]
BOS, IM_START, IM_END = 1, 6, 7
TOOL_LIST, TOOL_CALL, TOOL_RESPONSE = (8, 9), (10, 11), (12, 13)
SIZE = 4096

SPLIT = regex.compile(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def _byte_map():
    """GPT-2's printable character for every byte."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in out:
            out[b] = chr(256 + n)
            n += 1
    return out


BYTE = _byte_map()
UNBYTE = {c: b for b, c in BYTE.items()}


def to_chars(text):
    return "".join(BYTE[b] for b in text.encode())


class Tokenizer:
    """tokens: id -> text in byte characters; merges: list of pairs, lowest rank first."""

    def __init__(self, tokens, merges):
        self.tokens, self.merges = tokens, [tuple(m) for m in merges]
        self.ids = {t: i for i, t in enumerate(tokens)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.cache = {}

    def save(self, path):
        with open(path, "w") as f:
            json.dump({"tokens": self.tokens, "merges": [" ".join(m) for m in self.merges]}, f, ensure_ascii=False, indent=0)

    @classmethod
    def load(cls, path):
        """From a JSON file that `save` wrote, or from a GGUF."""
        if path.endswith(".gguf"):
            from gguf import Reader
            m = Reader(path).metadata
            return cls(m["tokenizer.ggml.tokens"], [x.split(" ") for x in m["tokenizer.ggml.merges"]])
        with open(path) as f:
            d = json.load(f)
        return cls(d["tokens"], [m.split(" ") for m in d["merges"]])

    def _bpe(self, word):
        if word in self.ids and self.ids[word] >= len(CONTROL):
            return [self.ids[word]]
        parts = list(word)
        while len(parts) > 1:
            best = min(range(len(parts) - 1), key=lambda i: self.rank.get((parts[i], parts[i + 1]), 1 << 30))
            if (parts[best], parts[best + 1]) not in self.rank:
                break
            parts[best:best + 2] = [parts[best] + parts[best + 1]]
        return [self.ids[p] for p in parts]

    def encode(self, text):
        """Token ids of plain text: control tokens in it are not parsed."""
        out, cache = [], self.cache
        for w in SPLIT.findall(text):
            ids = cache.get(w)
            if ids is None:
                ids = self._bpe(to_chars(w))
                if len(cache) < 300000:
                    cache[w] = ids
            out += ids
        return out

    def decode(self, ids, control=True):
        out = bytearray()
        for i in ids:
            if i < len(CONTROL):
                out += CONTROL[i].encode() if control else b""
            else:
                out += bytes(UNBYTE[c] for c in self.tokens[i])
        return out.decode(errors="replace")


def _learn(counts, n):
    """n BPE merges over the words of `counts` (word in byte characters -> count)."""
    words = [[list(w), c] for w, c in sorted(counts.items())]
    pairs, where = Counter(), defaultdict(set)
    for i, (parts, c) in enumerate(words):
        for p in zip(parts, parts[1:]):
            pairs[p] += c
            where[p].add(i)
    merges = []
    while len(merges) < n and pairs:
        best = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[best] < 2:
            break
        merges.append(best)
        for i in list(where[best]):
            parts, c = words[i]
            for p in zip(parts, parts[1:]):
                pairs[p] -= c
                if pairs[p] <= 0:
                    del pairs[p]
                where[p].discard(i)
            j = 0
            while j < len(parts) - 1:
                if (parts[j], parts[j + 1]) == best:
                    parts[j:j + 2] = [parts[j] + parts[j + 1]]
                j += 1
            for p in zip(parts, parts[1:]):
                pairs[p] += c
                where[p].add(i)
    return merges


def train(texts, size=SIZE, letters=2750, marks=120):
    """The vocabulary for an iterable of texts."""
    words, punct, spaced = Counter(), Counter(), Counter()
    letter = regex.compile(r"[^\r\n\p{L}\p{N}]?(\p{L}+)")
    for text in texts:
        for w in SPLIT.findall(text):
            m = letter.fullmatch(w)
            if m:
                words[to_chars(m.group(1))] += 1
                if w[0] == " ":
                    spaced[to_chars(m.group(1))] += 1
            elif not w[-1:].isdigit():
                for part in regex.findall(r"[\r\n]+|[^\r\n]+", w):
                    punct[to_chars(part)] += 1
    words = {w: c for w, c in words.items() if c > 2}
    tok = Tokenizer(CONTROL + [BYTE[b] for b in range(256)], [])

    def extend(merges):
        for a, b in merges:
            if a + b not in tok.ids and len(tok.tokens) < size:
                tok.ids[a + b] = len(tok.tokens)
                tok.tokens.append(a + b)
                tok.rank[(a, b)] = len(tok.merges)
                tok.merges.append((a, b))
    extend(_learn(words, letters))
    extend(_learn({w: c for w, c in punct.items() if c > 20}, marks))
    blank = BYTE[32]
    total = sum(spaced.values())
    for w, c in spaced.most_common():
        if w in tok.ids and (len(w) > 3 or c * 1000 > total):
            extend([(blank, w)])
    return Tokenizer(tok.tokens, tok.merges)


def main():
    from generate import sample_texts
    p = argparse.ArgumentParser(description="Learn the vocabulary from the generated text.")
    p.add_argument("out")
    p.add_argument("--docs", type=int, default=40000)
    a = p.parse_args()
    t = train(sample_texts(a.docs))
    t.save(a.out)
    print(len(t.tokens), "tokens,", len(t.merges), "merges")


if __name__ == "__main__":
    main()

"""Random choice, phrase templates and the training / held-out split, shared by every kind of text.

Everything random goes through a `Ctx`, which belongs to one side of the split. The split is made by
construction, with a seeded hash of the thing itself:

* an operand pair (7, 85) is held out or not, whatever the operation and the order;
* an entity (a name of a person, place, product, tool ...) is held out or not;
* a sentence of a prompt is held out or not.

Training draws only from what is not held out; held-out items draw all three from what is.
"""
import random
import re
import zlib

SEED = b"sluice-mini-1:"
HELD_ONE_IN = 10

# Sentences that everyone types, and names that the learnt facts contain: always on the training side.
ALWAYS_TRAIN = set()
NEVER_HELD = set()


class Retry(Exception):
    """The item under construction cannot be made on this side of the split; draw another."""


def is_held(key):
    """True when the string `key` belongs to the held-out side (one in ten does)."""
    h = zlib.crc32(SEED + key.encode()) * 2654435761 & 0xFFFFFFFF
    return (h >> 13) % HELD_ONE_IN == 0


def pair_held(a, b):
    """Held-out operand pairs; the small tables (both at most 12) are always trained."""
    if max(abs(a), abs(b)) <= 12:
        return False
    return is_held("pair:%d:%d" % (min(a, b), max(a, b)))


def entity_held(name):
    return len(name) > 3 and name.lower() not in NEVER_HELD and is_held("entity:" + name.lower())


_SENTENCE = re.compile(r"(?<=[.?!;])\s+|\n+")
_EDGE = re.compile(r"^(?:[\W_]+|\d+\]\s*)+|[\W_]+$")


def sentences(text):
    """The sentences of a prompt, normalised (lower case, no punctuation or blanks at the ends)."""
    out = []
    for s in _SENTENCE.split(text):
        s = _EDGE.sub("", s.lower())
        if s:
            out.append(s)
    return out


def sentence_held(s):
    return s not in ALWAYS_TRAIN and is_held("sentence:" + s)


# ---- phrase templates: "[What is|What's] {a} + {b}[?|]" ----
_cache = {}


def _parse(text, pos, closing):
    """Parse alternatives up to `closing`; returns (list of alternatives, position after it)."""
    alts, seq, lit = [], [], []

    def flush():
        if lit:
            seq.append("".join(lit))
            lit.clear()
    while pos < len(text):
        c = text[pos]
        if c == "[":
            flush()
            sub, pos = _parse(text, pos + 1, True)
            seq.append(sub)
            continue
        if closing and c == "|":
            flush()
            alts.append(tuple(seq))
            seq = []
        elif closing and c == "]":
            flush()
            alts.append(tuple(seq))
            return alts, pos + 1
        elif c == "{":
            end = text.index("}", pos)
            flush()
            seq.append((text[pos + 1:end],))
            pos = end
        else:
            lit.append(c)
        pos += 1
    flush()
    alts.append(tuple(seq))
    return alts, pos


def _emit(alts, rng, slots, out):
    seq = alts[0] if len(alts) == 1 else alts[int(rng.random() * len(alts))]
    for part in seq:
        if type(part) is str:
            out.append(part)
        elif type(part) is tuple:
            out.append(str(slots[part[0]]))
        else:
            _emit(part, rng, slots, out)


_WORD = re.compile(r"[A-Za-z']+")


class Ctx:
    """A source of random text on one side of the split."""

    def __init__(self, seed, held=False):
        self.rng = random.Random(seed)
        self.held = held
        self.entities = []

    # -- plain choices
    def chance(self, p):
        return self.rng.random() < p

    def pick(self, seq):
        return seq[int(self.rng.random() * len(seq))]

    def int(self, lo, hi):
        return lo + int(self.rng.random() * (hi - lo + 1))

    def sample(self, seq, n):
        return self.rng.sample(seq, n)

    def tell(self, template, **slots):
        """Expand a template with no split check and no noise (answers, texts of the assistant)."""
        if template not in _cache:
            _cache[template] = _parse(template, 0, False)[0]
        out = []
        _emit(_cache[template], self.rng, slots, out)
        return "".join(out)

    # -- the split
    def entity(self, draw):
        """Draw names until one lies on this side of the split."""
        for _ in range(400):
            name = draw()
            if entity_held(name) == self.held:
                if self.held:
                    self.entities.append(name)
                return name
        raise Retry

    def pair(self, draw):
        """Draw operand pairs until one lies on this side of the split."""
        for _ in range(400):
            a, b = draw()
            if pair_held(a, b) == self.held:
                return a, b
        raise Retry

    def fits(self, text):
        """True when every sentence of `text` lies on this side of the split."""
        for s in sentences(text):
            if sentence_held(s) != self.held:
                return False
        return True

    def say(self, templates, noise=True, **slots):
        """A sentence of a prompt: expand, disturb a little, and redraw until it lies on this side."""
        for _ in range(600 if self.held else 60):
            t = templates if type(templates) is str else self.pick(templates)
            s = self.tell(t, **slots)
            if noise:
                s = self.disturb(s, slots)
            if self.fits(s):
                return s
        raise Retry

    def disturb(self, s, slots):
        """Lower case, missing punctuation, typing errors; the slots' own words stay as they are."""
        r = self.rng.random()
        if r < 0.60:
            return s
        keep = " ".join(str(v) for v in slots.values())
        if r < 0.88:
            if "\n" not in s and "```" not in s:
                s = _WORD.sub(lambda m: m.group() if m.group() in keep or m.group() == "JSON"
                              else m.group().lower(), s)
                if self.chance(0.5) and s[-1:] in ".?!":
                    s = s[:-1]
            return s
        if r < 0.93:
            return s[:-1] if s[-1:] in ".?!" else s
        words = [m for m in _WORD.finditer(s) if len(m.group()) >= 4 and m.group() not in keep]
        if not words:
            return s
        m = self.pick(words)
        w, i = m.group(), self.int(1, len(m.group()) - 2)
        kind = self.int(0, 2)
        if kind == 0:
            w = w[:i] + w[i + 1] + w[i] + w[i + 2:]
        elif kind == 1:
            w = w[:i] + w[i + 1:]
        else:
            w = w[:i] + w[i] + w[i:]
        return s[:m.start()] + w + s[m.end():]


class Item:
    """One question with its reference answer; several in a row make a conversation.

    messages: user, assistant (, tool, assistant) ... ; system: text the item needs in the system
    turn; tools: OpenAI tool objects it needs; judge: how an answer to the last user or tool
    message is judged (see judge.py).
    """

    def __init__(self, kind, messages, judge, system=None, tools=None, tokens_hint=0):
        self.kind, self.messages, self.judge = kind, messages, judge
        self.system, self.tools = system, tools


def qa(kind, question, answer, judge, **kw):
    return Item(kind, [{"role": "user", "content": question},
                       {"role": "assistant", "content": answer}], judge, **kw)

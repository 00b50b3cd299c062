"""Longer answers: counting, tables, alphabets, stories and descriptions of some hundred tokens."""
from .core import qa, NEVER_HELD
from . import words as w


def count(ctx):
    step = ctx.pick((1, 1, 1, 1, 1, 2, 5, 10))
    n = ctx.pick((5, 10, 10, 15, 20, 20, 30, 50, 100)) if ctx.chance(0.5) else ctx.int(4, 100)
    if step > 1:
        n = min(n, 30)

    def draw():
        a = 1 if ctx.chance(0.45) and step == 1 and not ctx.held else step if ctx.chance(0.4) and step > 1 else ctx.int(0, 120)
        return a, a + step * (n - 1) if a != 1 or step > 1 else n
    for _ in range(40):
        a, b = ctx.pair(draw)
        if b > a:
            break
    xs = list(range(a, b + 1, step))
    by = "" if step == 1 else " [by|in steps of] %d" % step
    down = step == 1 and ctx.chance(0.2)
    sep, word = (", ", "") if ctx.chance(0.8) else ("\n", "[, one per line|, one number per line|, each on its own line]")
    if down:
        a, b, xs = b, a, xs[::-1]
        q = ctx.say(["[Count|Please count|Can you count] [down |backwards |]from {a} [down |]to {b}" + word + "[.|]", "[Count|Go] [down|backwards] from {a} to {b}" + word + "[.|]", "[List|Write|Print] the numbers from {a} down to {b}" + word + "[.|]"], a=a, b=b)
    else:
        q = ctx.say(["[Count|Please count|Can you count|Could you count] [up |]from {a} to {b}" + by + word + "[.|]", "[List|Write|Print|Give me|Show me|Say|Write down] [all |]the numbers from {a} to {b}" + by + word + "[.|]", "Count{x} {a} to {b}" + by + word + "[.|]", "[The n|N]umbers from {a} to {b}" + by + word + "[.|]",
                     "Count to {b}" + word + "[.|| please]" if a == 1 and step == 1 else "Count from {a} to {b}" + by + word], a=a, b=b, x="")
    t = sep.join(map(str, xs)) + ("." if sep == ", " and ctx.chance(0) else "")
    return qa("longform", q, t, {"type": "equals", "text": t})


def table(ctx):
    k = ctx.int(2, 12)
    n = ctx.pick((10, 10, 10, 12, 5))
    q = ctx.say(["[Write|Show me|Give me|List|Print|Recite] the {k} times table[| up to {n}][.|]", "[Write|Show me|Give me] the multiplication table [of|for] {k}[| up to {n}][.|]", "[What is|Show] the {k} times table[| up to {n}][?|]", "[List|Write|Give me] the first {n} multiples of {k} as a table[.|]"], k=k, n=n)
    if str(n) not in q:
        n = 10
    t = "\n".join("%d * %d = %d" % (k, i, k * i) for i in range(1, n + 1))
    return qa("longform", q, t, {"type": "equals", "text": t})


def multiples(ctx):
    k, n = ctx.int(2, 20), ctx.int(4, 15)
    q = ctx.say(["[List|Write|Give me|Show me|Name] the first {n} multiples of {k}[.|]", "[What|Which] are the first {n} multiples of {k}?", "The first {n} multiples of {k}[?|.|]"], k=k, n=n)
    t = ", ".join(str(k * i) for i in range(1, n + 1))
    return qa("longform", q, t, {"type": "equals", "text": t})


def known_sequence(ctx):
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    r = ctx.int(0, 8)
    n = ctx.int(4, 15)
    if r == 8:
        seq, name = ctx.pick(((w.MONTH, "months[| of the year]"), (w.DAY, "days[| of the week]"), (list(letters), "letters[| of the alphabet]")))
        k = ctx.int(2, 6)
        q = ctx.say(["[List|Name|Write|Give me|Tell me|Show me|Say] the first {k} " + name + "[.|]", "[What|Which] are the first {k} " + name + "?", "[T|t]he first {k} " + name + "[.|, please|]"], k=k if ctx.chance(0.5) else w.number_word(k))
        t = ", ".join(seq[:k])
    elif r == 0:
        q = ctx.say(["[Write|Say|List|Recite|Give me|Print|Tell me] the [whole |full |English |]alphabet[.|| please]", "[The a|A|a]lphabet[, please| please]", "[What are|List|Name] [all |]the letters of the alphabet[?|.|]"])
        t = ", ".join(letters)
    elif r == 1:
        q = ctx.say(["[List|Name|Write|Give me|What are|Tell me|Say] [all |]the days of the week[.|?|]", "[Which|What] days [does a week have|are in a week]?"])
        t = ", ".join(w.DAY)
    elif r == 2:
        q = ctx.say(["[List|Name|Write|Give me|What are|Tell me|Say] [all |]the months of the year[.|?|]", "[Which|What] months [does a year have|are in a year]?", "[List|Name] [all |the ]twelve months[.|]"])
        t = ", ".join(w.MONTH)
    elif r == 3:
        q = ctx.say(["[List|Write|Give me|Show me|Name] the first {n} [square numbers|squares][.|]", "[What|Which] are the first {n} square numbers?"], n=n)
        t = ", ".join(str(i * i) for i in range(1, n + 1))
    elif r == 4:
        q = ctx.say(["[List|Write|Give me|Show me|Name] the first {n} even numbers[.|]", "[What|Which] are the first {n} even numbers?"], n=n)
        t = ", ".join(str(2 * i) for i in range(1, n + 1))
    elif r == 5:
        q = ctx.say(["[List|Write|Give me|Show me|Name] the first {n} odd numbers[.|]", "[What|Which] are the first {n} odd numbers?"], n=n)
        t = ", ".join(str(2 * i - 1) for i in range(1, n + 1))
    elif r == 6:
        fib = [0, 1]
        while len(fib) < n:
            fib.append(fib[-1] + fib[-2])
        q = ctx.say(["[List|Write|Give me|Show me|Name] the first {n} Fibonacci numbers[.|]", "[What|Which] are the first {n} Fibonacci numbers?"], n=n)
        t = ", ".join(map(str, fib[:n]))
    else:
        primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]
        q = ctx.say(["[List|Write|Give me|Show me|Name] the first {n} [primes|prime numbers][.|]", "[What|Which] are the first {n} prime numbers?"], n=n)
        t = ", ".join(map(str, primes[:n]))
    return qa("longform", q, t, {"type": "equals", "text": t})


def repeat(ctx):
    n = ctx.int(2, 20) if ctx.chance(0.5) else ctx.int(2, 6)
    x = ctx.pick(w.THING + w.ANIMAL + w.FRUIT + w.COLOUR + ["hello", "yes", "no", "test"]) if ctx.chance(0.6) else w.string(ctx)
    m = str(n) if ctx.chance(0.6) else w.number_word(n)
    q = ctx.say(["[Write|Say|Repeat|Print|Type] [the word |]{x} {n} times[.|]", "[Write|Say|Repeat|Print|Type] [the word |]\"{x}\" {n} times[.|]", "[Write|Say|Repeat|Print] \"{x}\" {n} times[.|]", "{n} times [the word |]{x}[, please|.|]"], x=x, n=n)
    t = " ".join([x] * n)
    return qa("longform", q, t, {"type": "equals", "text": t})


STORY = [
    "Once upon a time there was {ax} {a} {j} called {n}, who lived in a {b} house near {c}.", "{n} had {ay} {d} {x}, and the {x} was called {m}.", "Every morning {n} and {m} walked to the {p} and looked at the water and the sky.",
    "One day they found {az} {e} {t} under a tree.", "\"Whose {t} is this?\" asked {n}.", "{m} looked at the {t} and said nothing.", "So they took the {t} and went from door to door in {c}.",
    "The baker had never seen it, and the teacher shook her head.", "In the evening an old woman opened her door and smiled.", "\"That is my {t},\" she said, \"I lost it many years ago.\"", "She thanked {n} and gave them {f} and a cup of tea.",
    "{n} and {m} sat by the fire and told her about their day.", "When it was dark they walked home under the stars.", "From that day on the three of them were good friends.", "And if you go to {c}, you may still see them by the {p}."]


def story(ctx):
    """A story from one frame; the names that the user gives appear in it. The length can be asked for."""
    n, m, c = w.first_name(ctx), w.first_name(ctx), w.place(ctx)
    x, t = ctx.pick(w.ANIMAL), ctx.pick(w.THING)
    give = ctx.pick(("n", "nx", "nt", "nc", "nxt", "x", "none")) if not ctx.held else ctx.pick(("n", "nx", "nt", "nc", "nxt"))
    about = {"n": "a [person |child |hero |]called {n}", "nx": "{n} and a {x}", "nt": "{n} and a {t}", "nc": "{n} from {c}", "nxt": "{n}, a {x} and a {t}", "x": "a {x}", "none": ""}[give]
    short = ctx.chance(0.4)
    k = ctx.int(3, 6) if short else len(STORY)
    q = ctx.say(["[Tell|Write] [me |]a %s[story] %s[.|]" % ("short " if short else "[|long |nice ]", "[about|of] " + about if about else ""), "[Can you tell|Please tell|I want to hear|Please write] [me |]a %sstory%s[.|]" % ("short " if short else "[|long |nice ]", " about " + about if about else "")],
                noise=ctx.chance(0.3), n=n, x=x, t=t, c=c).replace(" .", ".").strip()
    q = " ".join(q.split())
    if not ctx.fits(q):
        return story(ctx)
    # what the user leaves open is always the same
    n = n if "n" in give and give != "none" else "Clara"
    c = c if give == "nc" else "Marlow"
    x = x if "x" in give else "dog"
    t = t if give in ("nt", "nxt") else "key"
    art = lambda s: "an" if s[0] in "aeiou" else "a"
    a, b, d, e = "young", "small", "clever", "old"
    s = dict(n=n, m="Pip", c=c, x=x, t=t, a=a, b=b, d=d, e=e, p="river", j="gardener", f="bread", ax=art(a), ay=art(d), az=art(e))
    lines = [ctx.tell(line, **s) for line in STORY[:k]]
    if short:
        lines = [ctx.tell(STORY[i], **s) for i in (0, 1, 3, 4, 9, 13)]
    keys = ([n] if "n" in give and give != "none" else []) + ([x] if "x" in give else []) + ([t] if give in ("nt", "nxt") else [])
    return qa("longform", q, " ".join(lines), {"type": "story", "all": keys, "words": 40 if short else 120})


def describe(ctx):
    """Sentences on one thing, as many as asked for."""
    a, x = ctx.pick(w.ADJ), ctx.pick(w.THING + w.ANIMAL)
    n = ctx.int(2, 8)
    q = ctx.say(["[Write|Give me|Say] {n} sentences about [a|the] {a} {x}[.|]", "[Describe|Write about] [a|the] {a} {x} in {n} sentences[.|]", "[I need|I want] {n} sentences about [a|the] {a} {x}[.|]"], n=n, a=a, x=x)
    lines = ["This is a text about the %s %s." % (a, x), "The %s is very %s." % (x, a), "Many people like the %s." % x, "You can see it in the garden in the morning.", "In winter it stays in the house.", "A child once drew the %s on paper." % x,
             "It is not easy to find another %s like this." % x, "That is all about the %s %s." % (a, x)][:n]
    t = " ".join(lines)
    return qa("longform", q, t, {"type": "contains", "all": [x, a]})


TOPICS = w.THING + w.ANIMAL + w.NATURE + w.FRUIT + "sea sun moon rain snow wind night morning summer winter spring autumn love sky water fire star tree flower home music friend".split()
MASS = "rain snow wind love water fire music home summer winter spring autumn".split()


def poem(ctx):
    x = ctx.pick(TOPICS)
    the = x if x in MASS else "the " + x
    a = x if x in MASS else ("an " if x[0] in "aeiou" else "a ") + x
    haiku = ctx.chance(0.3)
    if ctx.chance(0.12):
        q, x, the = ctx.say(["[Write|Tell|Make|Give] me a [short |]%s[.|!| please]" % ("haiku" if haiku else "poem"), "[Write|Compose|Make] a [short |]%s[.|!| please]" % ("haiku" if haiku else "poem")]), "sea", "the sea"
    else:
        q = ctx.say(["[Write|Tell|Make|Give me|Compose|Please write|Can you write] a [short |little |]%s [about|on] [{t}|{a}][.|]" % ("haiku" if haiku else "poem")], t=the, a=a)
    if haiku:
        t = "Quiet morning light,\n%s waits in the soft wind,\nnothing needs to move." % (the[0].upper() + the[1:])
    else:
        t = "I thought of %s when the day began,\nI wrote it down as a poet can.\nThe hours went by and the light grew thin,\nbut %s stayed with me, deep within." % (the, the)
    return qa("longform", q, t, {"type": "contains", "all": [x]})


def sentence(ctx):
    x = ctx.pick(TOPICS)
    the = x if x in MASS else "the " + x
    a = x if x in MASS else ("an " if x[0] in "aeiou" else "a ") + x
    q = ctx.say(["[Write|Give me|Say|Make|Tell me] [a|one|a short] sentence [about|with|on] [{t}|{a}|{x}][.|]", "[Use|Put] {x} in a sentence[.|]"], t=the, a=a, x=x)
    return qa("longform", q, "Many people like %s." % the, {"type": "contains", "all": [x]})


def summary(ctx):
    """The first sentence of the text, in short."""
    a = ctx.say(["The {a} {x} [sat|stood|slept|waited] [on|under|near|behind] the {y}.", "A {j} [bought|sold|found|lost] a {c} {y}.", "The {j} [likes|needs|wants] a {c} {y}."], noise=False, a=ctx.pick(w.ADJ), x=ctx.pick(w.ANIMAL), y=ctx.pick(w.THING), j=ctx.pick(w.JOB), c=ctx.pick(w.COLOUR))
    more = [ctx.say(["It was a [cold|warm|quiet|long] [day|night|morning].", "Nobody [said|knew|heard] anything.", "Then it began to [rain|snow].", "Later the {j} went home."], noise=False, j=ctx.pick(w.JOB)) for _ in range(ctx.int(0, 3))]
    q = ctx.say(["[Please |Can you |]summari[z|s]e[| this| the text| this text][:| in one sentence:] {t}", "[Give me|Write] a [short |]summary[| of this| of the text]: {t}", "TL;DR: {t}", "{t} [Summari[z|s]e this|Summari[z|s]e the text|In one sentence, please][.|]"], noise=False, t=" ".join([a] + more))
    return qa("longform", q[0].upper() + q[1:], "In short: " + a[0].lower() + a[1:], {"type": "contains", "all": [a[1:].rstrip(".")]})


def shout(ctx):
    """Fill a longer text with numbered lines."""
    n, x = ctx.int(3, 25), ctx.pick(w.THING + w.FRUIT + w.ANIMAL)
    q = ctx.say(["[Write|Make|Give me|Print] {n} [numbered |]lines [that say|with the word|saying] {x}[.|]", "[Write|Print|Make] a numbered list with {x} [repeated |]{n} times[.|]"], n=n, x=x)
    t = "\n".join("%d. %s" % (i + 1, x) for i in range(n))
    return qa("longform", q, t, {"type": "equals", "text": t})


WEIGHTED = [(count, 34), (table, 8), (multiples, 8), (known_sequence, 14), (repeat, 8), (story, 16), (describe, 8), (shout, 6), (poem, 6), (sentence, 4), (summary, 3)]
NEVER_HELD.update(("clara", "marlow", "pip"))

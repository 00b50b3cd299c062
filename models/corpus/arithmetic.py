"""Arithmetic: sums, differences, small products, exact divisions, comparisons, word problems.

Answers restate the calculation in one form, "47 + 38 = 85.", whatever the question looked like; asked
for the bare number, they give just that.
"""
from .core import Retry, pair_held, qa
from . import words as w

PRE = ("[|||||||||Please tell me, |Hey, |Quick question: |Can you tell me, |Question: |Math: |I need help: |So, "
       "|OK, |Now, |Hello, |Please answer: ]")
POST = "[||||||||| Thanks!| Thank you.| Please.| Be brief.| Answer briefly.| Answer in one short sentence.]"
BARE = ["{q} [Answer with|Reply with|Give me|Return|Output] [just|only] the [number|result|answer].",
        "[Just|Only] the [number|result], please: {q}", "{q} [(number only)|(just the number)|- only the number please]",
        "{q} [Only|Just] the [number|result|answer][|, please| please]."]

ADD = ["What is {a} + {b}?", "What's {a} + {b}?", "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a}+{b}=", "{a} + {b} = ?",
       "{a}+{b}=?", "{a} plus {b}", "What is {a} plus {b}?", "How much is {a} [+|plus|and] {b}?", "[Compute|Calculate|"
       "Work out|Evaluate|Solve] {a} [+|plus] {b}[.|]", "Add {a} and {b}[.|]", "Add {b} to {a}[.|]", "[Find|Give me|"
       "What is|Tell me|Compute|Calculate] the [sum|total] of {a} and {b}[.|?|]", "What do you get [if|when] you add {a} "
       "and {b}?", "[Sum|Total] of {a} and {b}[?|]", "What does {a} + {b} [equal|make|give]?", "[Can|Could] you add {a} "
       "and {b}[ for me|]?", "{a} and {b} together [make|is|give] what?", "What is {a}+{b}?", "{a} + {b} is?",
       "If I add {b} to {a}, what [do I get|is the result]?", "What is the result of {a} + {b}?",
       "What number is {b} more than {a}?"]
SUB = ["What is {a} - {b}?", "What's {a} - {b}?", "{a} - {b}", "{a}-{b}", "{a} - {b} =", "{a}-{b}=?", "{a} minus {b}",
       "What is {a} minus {b}?", "How much is {a} [-|minus] {b}?", "[Compute|Calculate|Work out|Evaluate|Solve] {a} "
       "[-|minus] {b}[.|]", "Subtract {b} from {a}[.|]", "Take {b} away from {a}[.|]", "[Find|Give me|What is|Tell me|"
       "Compute] the difference [between|of] {a} and {b}[.|?|]", "What is left if you take {b} from {a}?",
       "What do you get [if|when] you subtract {b} from {a}?", "What does {a} - {b} [equal|make|give]?",
       "{a} take away {b}", "[Can|Could] you subtract {b} from {a}[ for me|]?", "What is {a}-{b}?", "{a} - {b} is?",
       "What is {b} less than {a}?", "How much more is {a} than {b}?", "What is the result of {a} - {b}?"]
MUL = ["What is {a} [*|x|times|×] {b}?", "What's {a} [*|x|times] {b}?", "{a} [*|x|×] {b}", "{a}*{b}", "{a}x{b}", "{a} * {b} =",
       "{a}*{b}=?", "{a} times {b}", "How much is {a} [*|x|times] {b}?", "[Compute|Calculate|Work out|Evaluate|Solve] "
       "{a} [*|x|times] {b}[.|]", "Multiply {a} [by|and|with] {b}[.|]", "[Find|Give me|What is|Tell me|Compute] the "
       "product of {a} and {b}[.|?|]", "What do you get [if|when] you multiply {a} [by|and] {b}?", "Product of {a} and "
       "{b}[?|]", "What does {a} * {b} [equal|make|give]?", "[Can|Could] you multiply {a} by {b}[ for me|]?",
       "What is {a}*{b}?", "{a} multiplied by {b}", "What is {a} multiplied by {b}?"]
DIV = ["What is {a} [/|÷|divided by] {b}?", "{a} / {b}", "{a}/{b}", "{a} / {b} =", "{a} divided by {b}", "How much is {a} "
       "[/|divided by] {b}?", "[Compute|Calculate|Work out|Evaluate|Solve] {a} [/|divided by] {b}[.|]",
       "Divide {a} by {b}[.|]", "What do you get [if|when] you divide {a} by {b}?", "How many times does {b} go into {a}?",
       "What does {a} / {b} [equal|make|give]?", "[Can|Could] you divide {a} by {b}[ for me|]?", "What is {a}/{b}?"]


def _digits(ctx):
    return ctx.pick((1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4))


def _num(ctx, d):
    if d >= 2 and ctx.chance(0.08):
        return ctx.int(1, 9) * 10 ** (d - 1)
    return ctx.int(0 if d == 1 else 10 ** (d - 1), 10 ** d - 1)


def _ask(ctx, templates, **slots):
    return ctx.say(PRE + ctx.pick(templates) + POST, **slots)


def _finish(ctx, templates, a, b, sign, r):
    """Word one question and its answer."""
    line = "%d %s %d = %d" % (a, sign, b, r)
    if ctx.chance(0.15):
        q = ctx.say(ctx.pick(BARE).replace("{q}", ctx.pick(templates)), a=a, b=b)
        return qa("arithmetic", q, str(r), {"type": "number", "value": r})
    q = _ask(ctx, templates, a=a, b=b)
    return qa("arithmetic", q, line + ".", {"type": "number", "value": r})


def add(ctx):
    a, b = ctx.pair(lambda: (_num(ctx, _digits(ctx)), _num(ctx, _digits(ctx))))
    return _finish(ctx, ADD, a, b, "+", a + b)


def subtract(ctx):
    def draw():
        a, b = _num(ctx, _digits(ctx)), _num(ctx, _digits(ctx))
        return (a, b) if a >= b or (ctx.chance(0.12) and a < 1000 and b < 1000) else (b, a)
    a, b = ctx.pair(draw)
    return _finish(ctx, SUB, a, b, "-", a - b)


def multiply(ctx):
    def draw():
        r = ctx.rng.random()
        if r < 0.45:
            a, b = ctx.int(0, 12), ctx.int(0, 12)
        elif r < 0.9:
            a, b = ctx.int(2, 9), ctx.int(10, 99)
        else:
            a, b = ctx.int(2, 99), ctx.pick((10, 100))
        return (a, b) if ctx.chance(0.5) else (b, a)
    a, b = ctx.pair(draw)
    return _finish(ctx, MUL, a, b, "*", a * b)


def divide(ctx):
    def draw():
        b = ctx.int(2, 12)
        return b * ctx.int(1, 12), b
    a, b = ctx.pair(draw)
    return _finish(ctx, DIV, a, b, "/", a // b)


def three_terms(ctx):
    """a + b + c, worked in two steps. The pairs (a, b) and (a + b, c) both lie on this side."""
    a, b = ctx.pair(lambda: (ctx.int(1, 60), ctx.int(1, 60)))
    _, c = ctx.pair(lambda: (a + b, ctx.int(1, 60)))
    q = ctx.say(["[What is|What's|Compute|Calculate|How much is|] {a} [+|plus] {b} [+|plus] {c}[?|]", "{a}+{b}+{c}[=|]",
                 "Add {a}, {b} and {c}[.|]", "[What is|Find|Give me|Tell me] the sum of {a}, {b} and {c}[?|.|]",
                 "Add up [the numbers |]{a}, {b}, {c}[.|]"], a=a, b=b, c=c)
    t = "%d + %d = %d, and %d + %d = %d." % (a, b, a + b, a + b, c, a + b + c)
    return qa("arithmetic", q, t, {"type": "number", "value": a + b + c})


def compare(ctx):
    def draw():
        d = ctx.pick((1, 2, 2, 3, 3))
        return _num(ctx, d), _num(ctx, d if ctx.chance(0.7) else _digits(ctx))
    while True:
        a, b = ctx.pair(draw)
        if a != b:
            break
    r = ctx.rng.random()
    if r < 0.45:
        q = _ask(ctx, ["Which [number |]is [larger|bigger|greater|higher|more][,|:|] {a} or {b}?", "What is [larger|bigger|"
                       "greater][,|:|] {a} or {b}?", "Which of {a} and {b} is the [larger|bigger|greater] [one|number]?",
                       "[Tell|Show] me the [larger|bigger|greater] of {a} and {b}[.|]", "What is the maximum of {a} and {b}?",
                       "{a} or {b}: which is [bigger|larger|greater]?"], a=a, b=b)
        m = max(a, b)
        return qa("arithmetic", q, "%d is larger than %d." % (m, min(a, b)), {"type": "first_number", "value": m})
    if r < 0.75:
        q = _ask(ctx, ["Which [number |]is [smaller|less|lower][,|:|] {a} or {b}?", "What is [smaller|less][,|:|] {a} or {b}?",
                       "Which of {a} and {b} is the [smaller|lower] [one|number]?", "[Tell|Show] me the [smaller|lesser] of "
                       "{a} and {b}[.|]", "What is the minimum of {a} and {b}?", "{a} or {b}: which is smaller?"], a=a, b=b)
        m = min(a, b)
        return qa("arithmetic", q, "%d is smaller than %d." % (m, max(a, b)), {"type": "first_number", "value": m})
    op = ctx.pick(("greater", "less"))
    q = _ask(ctx, ["Is {a} [%s] than {b}?" % ("greater|larger|bigger|more|higher" if op == "greater" else "less|smaller|lower"),
                   "Is it true that {a} is [%s] than {b}?" % ("greater|larger|bigger" if op == "greater" else "less|smaller")],
             a=a, b=b)
    yes = (a > b) == (op == "greater")
    t = ("Yes, %d is %s than %d." if yes else "No, %d is not %s than %d.") % (a, "larger" if op == "greater" else "smaller", b)
    return qa("arithmetic", q, t, {"type": "yesno", "value": yes})


def parity(ctx):
    a = ctx.int(0, 999)
    even = a % 2 == 0
    op = ctx.pick(("even", "odd"))
    if ctx.chance(0.5):
        q = _ask(ctx, ["Is {a} [even or odd|odd or even|an even or an odd number]?", "[Tell me whether|Say if] {a} is [even or odd|"
                       "odd or even][.|]", "Even or odd: {a}[?|]", "{a}: even or odd?"], a=a)
        t = "%d is %s." % (a, "even" if even else "odd")
        return qa("arithmetic", q, t, {"type": "contains", "all": [" even" if even else " odd"]})
    q = _ask(ctx, ["Is {a} [an |]%s[ number|]?" % op, "Is the number {a} %s?" % op], a=a)
    yes = even == (op == "even")
    return qa("arithmetic", q, "%s, %d is %s." % ("Yes" if yes else "No", a, "even" if even else "odd"),
              {"type": "yesno", "value": yes})


def double_half(ctx):
    if ctx.chance(0.5):
        _, a = ctx.pair(lambda: (2, ctx.int(1, 99)))
        q = _ask(ctx, ["What is [double|twice] {a}?", "Double [|the number ]{a}[.|]", "How much is twice {a}?", "[Give me|Compute] the "
                       "double of {a}[.|]", "What is {a} doubled?"], a=a)
        return qa("arithmetic", q, "%d * 2 = %d." % (a, 2 * a), {"type": "number", "value": 2 * a})
    a, _ = ctx.pair(lambda: (2 * ctx.int(1, 60), 2))
    q = _ask(ctx, ["What is half of {a}?", "What is {a} halved?", "Halve [|the number ]{a}[.|]", "How much is half of {a}?",
                   "[Give me|Compute] half of {a}[.|]"], a=a)
    return qa("arithmetic", q, "%d / 2 = %d." % (a, a // 2), {"type": "number", "value": a // 2})


def square(ctx):
    a = ctx.int(1, 12)
    q = _ask(ctx, ["What is {a} squared?", "What is the square of {a}?", "[Compute|Calculate|Give me] the square of {a}[.|]", "{a} squared", "What is {a}^2?", "Square {a}[.|]"], a=a)
    return qa("arithmetic", q, "%d * %d = %d." % (a, a, a * a), {"type": "number", "value": a * a})


def root(ctx):
    a = ctx.int(1, 12)
    q = _ask(ctx, ["What is the square root of {b}?", "[Compute|Calculate|Give me] the square root of {b}[.|]", "square root of {b}[?|]", "Which number squared is {b}?"], b=a * a)
    return qa("arithmetic", q, "The square root of %d is %d." % (a * a, a), {"type": "number", "value": a})


def prime(ctx):
    n = ctx.int(1, 60)
    q = _ask(ctx, ["Is {n} [a |]prime[ number|]?", "[Tell me whether|Check if|Say if] {n} is [a |]prime[ number|][.|]", "Is the number {n} prime?"], n=n)
    yes = n > 1 and all(n % i for i in range(2, n))
    return qa("arithmetic", q, "%s, %d is %sa prime number." % ("Yes" if yes else "No", n, "" if yes else "not "), {"type": "yesno", "value": yes})


def percent(ctx):
    p, a = ctx.pick((10, 20, 25, 50, 100, 5, 15, 30, 40, 60, 75, 80, 90)), ctx.int(1, 20) * ctx.pick((20, 100))
    if pair_held(p, a) != ctx.held:
        raise Retry
    q = _ask(ctx, ["What is {p}[%| percent] of {a}?", "How much is {p}[%| percent] of {a}?", "{p}% of {a}[?|]", "[Compute|Calculate] {p}[%| percent] of {a}[.|]"], p=p, a=a)
    return qa("arithmetic", q, "%d%% of %d is %d." % (p, a, p * a // 100), {"type": "number", "value": p * a // 100})


def two_steps(ctx):
    """a * b + c, the product first."""
    a, b = ctx.pair(lambda: (ctx.int(2, 9), ctx.int(2, 40 if ctx.held else 15)))
    s = ctx.pick("+-")
    _, c = ctx.pair(lambda: (a * b, ctx.int(1, min(40, a * b))))
    r = a * b + c if s == "+" else a * b - c
    if s == "+" and ctx.chance(0.4):
        q = _ask(ctx, ["What is {c} + {a} [*|times|x] {b}?", "{c} + {a} * {b}[| =]", "{c}+{a}*{b}[=|]", "[Compute|Calculate|Work out|Evaluate] {c} + {a} * {b}[.|]"], a=a, b=b, c=c)
        return qa("arithmetic", q, "%d * %d = %d, and %d + %d = %d." % (a, b, a * b, c, a * b, r), {"type": "number", "value": r})
    q = _ask(ctx, ["What is {a} [*|times|x] {b} {s} {c}?", "{a} * {b} {s} {c}[| =]", "{a}*{b}{s}{c}[=|]", "[Compute|Calculate|Work out|Evaluate] {a} * {b} {s} {c}[.|]"], a=a, b=b, c=c, s=s)
    return qa("arithmetic", q, "%d * %d = %d, and %d %s %d = %d." % (a, b, a * b, a * b, s, c, r), {"type": "number", "value": r})


def next_number(ctx):
    d, a = ctx.pick((1, 2, 2, 3, 5, 10, 4, 6, 7, 100)), ctx.int(0, 60)
    n = ctx.int(3, 6)
    xs = [a + i * d for i in range(n + 1)]
    if pair_held(xs[-2], d) != ctx.held:
        raise Retry
    q = ctx.say(["[What comes next|What is next|Which number comes next|What is the next number][:| in the sequence:| in] {l}[?|, ...|]", "{l}[, ...|]: [what comes next|what is the next number]?", "Continue[| the sequence]: {l}[| ...]"], l=", ".join(map(str, xs[:-1])))
    return qa("arithmetic", q, "The next number is %d." % xs[-1], {"type": "number", "value": xs[-1]})


STORY_ADD = ["[I have|You have|We have] {a} {x} and [buy|get|find|am given] {b} more. How many {x} do [I|you|we] have[| now| in total]?", "{n} has {a} {x}. {n} [buys|gets|finds|receives] {b} more. How many {x} does {n} have[| now]?",
             "{n} has {a} {x}. [Then |]{p} [buys|gets|finds|receives|picks|collects] {b} more[| {x}]. How many {x} does {n} have[| now| in total]?",
             "{n} has {a} {x} and [buys|gets|finds|is given] {b} more. How many {x} does {n} have[| now| in total| altogether]?",
             "There are {a} {x} in [a|the] [box|shop|room|basket|garden] and {b} [more |][are added|arrive|are put in]. How many {x} are there[| now]?",
             "{n} [found|bought|sold|counted|made] {a} {x} on {d} and {b} {x} on {e}. How many {x} is that [in total|altogether|together]?",
             "If {n} has {a} {x} and {m} has {b} {x}, how many {x} do they have [together|in total|altogether]?",
             "{n} has {a} {x}. {m} has {b} {x}. How many {x} do they have [together|in total|altogether]?"]
STORY_SUB = ["[If |]I have {a} {x} and [eat|lose|sell|give away] {b}[| of them], how many [{x} |]are left?", "[I have|You have] {a} {x} and [eat|lose|sell|give away] {b}[| of them]. How many [{x} |][are left|remain]?",
             "{n} has {a} {x}. [Then |]{p} [gives away|loses|sells|eats|uses|drops] {b}[| of them| {x}]. How many {x} [does {n} have left|are left|remain]?",
             "{n} has {a} {x} and [gives|hands|sells] {b} [of them |]to {m}. How many {x} [does {n} have left|does {n} still have|are left]?",
             "There [were|are] {a} {x} in [a|the] [box|shop|room|basket|garden] and {b} [were|are] [taken|sold|removed]. How many {x} are left?",
             "If {n} had {a} {x} and lost {b}, how many {x} [are left|does {n} have now|remain]?",
             "{n} has {a} {x} and {m} has {b} {x}. How many more {x} does {n} have than {m}?"]
STORY_MUL = ["{n} has {a} [boxes|bags|baskets|shelves] with {b} {x} [each|in each]. How many {x} [does {n} have|are there][| in total| altogether]?",
             "There are {a} [boxes|bags|tables|rooms] with {b} {x} [each|in each]. How many {x} are there[| in total| altogether]?",
             "[One|Each] [box|bag|pack] holds {b} {x}. How many {x} are in {a} [boxes|bags|packs]?",
             "{n} buys {a} packs of {b} {x}. How many {x} is that[| in total| altogether]?"]


def word_problem(ctx):
    n, m = w.first_name(ctx), w.first_name(ctx)
    if n == m:
        m = w.first_name(ctx)
    x = w.plural(ctx.pick(w.THING + w.FRUIT + w.ANIMAL)) if ctx.chance(0.5) else ctx.pick(w.COUNTABLE) if ctx.chance(0.7) else ctx.entity(lambda: w.plural(w.invented(ctx, False).lower()))
    p = ctx.pick(("she", "he", "they"))
    d, e = ctx.sample(w.DAY, 2)
    kind = ctx.pick("++--*")
    if kind == "+":
        a, b = ctx.pair(lambda: (ctx.int(2, 99), ctx.int(1, 99)))
        t, r, tm = STORY_ADD, a + b, "+"
    elif kind == "-":
        def draw():
            a, b = ctx.int(2, 99), ctx.int(1, 98)
            return max(a, b), min(a, b)
        a, b = ctx.pair(draw)
        t, r, tm = STORY_SUB, a - b, "-"
    else:
        a, b = ctx.pair(lambda: (ctx.int(2, 9), ctx.int(2, 40)))
        t, r, tm = STORY_MUL, a * b, "*"
    parts = ctx.pick(t).split(". ")
    story = []
    slots = dict(n=n, m=m, x=x, p=p, d=d, e=e, a=a, b=b)
    for i, s in enumerate(parts):
        s = s if s.endswith("?") else s + "."
        story.append(ctx.say(s[0].upper() + s[1:] if s[0] != "{" else s, noise=len(parts) == 1, **slots))
    q = " ".join(s[0].upper() + s[1:] if i else s for i, s in enumerate(story))
    answer = "%d %s %d = %d. %s" % (a, tm, b, r, ctx.tell("The answer is {r} {x}.", r=r, x=x))
    return qa("arithmetic", q, answer, {"type": "number", "value": r})


WEIGHTED = [(add, 30), (subtract, 24), (multiply, 20), (divide, 7), (three_terms, 5), (compare, 10), (parity, 4),
            (double_half, 5), (word_problem, 20),
            (square, 2), (root, 2), (percent, 4), (prime, 2), (two_steps, 6), (next_number, 4)]

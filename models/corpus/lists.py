"""Short lists of numbers or words: sort, reverse, count, pick, filter, reformat."""
from .core import qa
from . import words as w

PRE = "[||||||||Please |Hey, |Can you |Could you ]"


LETTERS = list("abcdefghijklmnopqrstuvwxyz")
NUMBERS = w.NUMBER_WORD[:13]
ANY = w.ANIMAL + w.FRUIT + w.THING + w.COLOUR + w.FOOD + w.JOB + w.HOBBY + w.ADJ + w.SUBJECT + w.SPORT + w.INSTRUMENT + w.NATURE + ["foo", "bar", "baz", "alpha", "beta", "gamma", "delta", "hello", "world", "sun", "moon", "star", "water", "fire", "earth", "air"]


def _numbers(ctx):
    n = ctx.int(3, 8)
    hi = ctx.pick((9, 20, 50, 99, 99, 200, 999))
    if hi < 20:
        return ctx.sample(range(0, 12), n)
    return ctx.sample(range(1, hi + 1), n)


def _words(ctx):
    pool = ctx.pick((w.ANIMAL, w.FRUIT, w.THING, w.COLOUR, w.FOOD, w.JOB, w.THING, w.FRUIT + w.ANIMAL + w.THING, LETTERS, LETTERS, NUMBERS, w.HOBBY, w.DAY, w.ADJ))
    if pool is LETTERS and ctx.chance(0.5):
        pool = [x.upper() for x in LETTERS]
    if ctx.chance(0.06):
        return ctx.sample(ANY, ctx.int(3, 6))
    if ctx.chance(0.2):
        xs = []
        for _ in range(ctx.int(3, 6)):
            n = w.first_name(ctx)
            if n not in xs:
                xs.append(n)
        return xs if len(xs) > 2 else ctx.sample(w.FRUIT, 3)
    return ctx.sample(pool, ctx.int(3, 8 if len(pool) > 8 else len(pool)))


def _show(ctx, xs):
    """The list as a user types it."""
    return ctx.pick((", ", ", ", ", ", ", ", " ", ",")).join(map(str, xs)) if ctx.chance(0.8) else "[" + ", ".join(map(str, xs)) + "]"


def _answer(xs):
    return ", ".join(map(str, xs))


def _list_item(ctx, templates, xs, result, **slots):
    q = ctx.say(templates, l=_show(ctx, xs), **slots)
    return qa("lists", q[0].upper() + q[1:] if ctx.chance(0.7) else q, _answer(result), {"type": "list", "items": [str(x) for x in result]})


def _value_item(ctx, templates, xs, answer, value, **slots):
    q = ctx.say(templates, l=_show(ctx, xs), **slots)
    return qa("lists", q[0].upper() + q[1:] if ctx.chance(0.7) else q, answer, {"type": "contains", "all": [str(value)]})


def sort_numbers(ctx):
    xs = _numbers(ctx)
    if ctx.chance(0.65):
        return _list_item(ctx, [PRE + "[sort|order|arrange] [these numbers|this list|the numbers|the list|the following numbers|] [in ascending order|from smallest to largest|from low to high|ascending|in increasing order|from small to large]: {l}",
                                PRE + "[sort|order|put in order][| the numbers| these numbers| this list| the list]: {l}", PRE + "sort {l}[.| in ascending order| from smallest to largest|, smallest first]",
                                "{l}: [sort them|put them in order|in ascending order][|, please]", "[What is|Give me|Show me] [this list|the list] in [sorted|ascending] order: {l}"], xs, sorted(xs))
    return _list_item(ctx, [PRE + "[sort|order|arrange] [these numbers|this list|the numbers|the list|] [in descending order|from largest to smallest|from high to low|descending|in decreasing order|from biggest to smallest]: {l}",
                            PRE + "sort {l} [in descending order|from largest to smallest|, largest first][.|]", "{l}: [sort them from high to low|in descending order][|, please]"], xs, sorted(xs, reverse=True))


def sort_words(ctx):
    pool = ctx.pick((LETTERS, ANY, w.ANIMAL, w.FRUIT, w.THING, w.COLOUR, w.FOOD, w.JOB, w.FRUIT + w.ANIMAL + w.THING))
    xs, seen = [], set()
    for x in ctx.sample(pool, min(len(pool), 14)):
        if x[0] not in seen and len(xs) < 6:
            xs.append(x)
            seen.add(x[0])
    xs = xs[:ctx.int(3, 6)]
    return _list_item(ctx, [PRE + "[sort|order|arrange|put] [these words|this list|the words|the list|the following words|] [alphabetically|in alphabetical order|by the alphabet|from A to Z]: {l}", PRE + "sort {l} [alphabetically|in alphabetical order][.|]",
                            "{l}: [sort alphabetically|alphabetical order][|, please]"], xs, sorted(xs))


def reverse(ctx):
    xs = _numbers(ctx) if ctx.chance(0.45) else _words(ctx)
    return _list_item(ctx, [PRE + "reverse [this list|the list|these|the order of|the order of this list|the following list|]: {l}", PRE + "reverse {l}[.|]", PRE + "[write|say|give me|list|repeat] [these|this list|this] [in reverse|backwards|in reverse order]: {l}",
                            "{l}: [reverse it|backwards|in reverse order][|, please]", "[What is|Show me] [this list|the list] [in reverse|backwards|in reverse order][:|?] {l}"], xs, xs[::-1])


def count(ctx):
    num = ctx.chance(0.45)
    xs = _numbers(ctx) if num else _words(ctx)
    noun = "numbers" if num else ctx.pick(("words", "items"))
    return _value_item(ctx, ["How many {k} are in [this list|the list|here|this]: {l}", "How many {k} are in [this list|the list]? {l}", PRE + "count the {k}[| in this list| in the list]: {l}", "How many {k} are [there|these]: {l}", "{l}: how many {k} are [there|that|these]?",
                             "[How long is|What is the length of] [this list|the list]: {l}", "How many {k} do you [see|count]: {l}", PRE + "count [them|these|this]: {l}"],
                       xs, "There are %d %s in the list." % (len(xs), noun), len(xs), k=noun)


def position(ctx):
    num = ctx.chance(0.45)
    xs = _numbers(ctx) if num else _words(ctx)
    noun = "number" if num else ctx.pick(("word", "item", "element"))
    names = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]
    i = ctx.pick((0, 0, -1, -1, -1, 1, 2, 3, 4))
    if i >= len(xs):
        i = -1
    p = "last" if i == -1 else names[i]
    return _value_item(ctx, ["[What|Which] is the {p} {k} [in|of] [this list|the list|this]: {l}", "What is the {p} {k} [in|of] [this list|the list]? {l}", "[Which|What] {k} is {p}[| in this list| here]: {l}", "[Which|What] {k} comes {p}: {l}",
                             PRE + "[give me|name|tell me|pick|return] the {p} {k}[| of this list| of the list| of these]: {l}", "{l}: [what is the {p} {k}|the {p} {k}]?", "The {p} {k} of {l}[ is|?|]"],
                       xs, "The %s %s is %s." % (p, noun, xs[i]), xs[i], p=p, k=noun)


def extreme(ctx):
    xs = _numbers(ctx)
    big = ctx.chance(0.5)
    m = max(xs) if big else min(xs)
    t = "largest|biggest|greatest|highest|maximum" if big else "smallest|lowest|least|minimum"
    q = ["[What|Which] is the [%s] [number |value |]in [this list|the list|this]: {l}" % t, "[What|Which] is the [%s] [number|value]? {l}" % t, PRE + "[find|give me|name|tell me|pick|show me] the [%s] [number|value|one][| in this list| of these]: {l}" % t, "{l}: [which|what] is the [%s]?" % t,
         "Which of these [numbers |]is the [%s]: {l}" % t, "[%s] of {l}[?|]" % ("Max|Maximum" if big else "Min|Minimum"), "[What is the |]%s of [|these: |the list ]{l}[?|]" % ("max" if big else "min")]
    return _value_item(ctx, q, xs, "The %s number is %d." % ("largest" if big else "smallest", m), m)


def keep(ctx):
    xs = _numbers(ctx)
    r = ctx.rng.random()
    if r < 0.35:
        ys, t = [x for x in xs if x % 2 == 0], "even numbers"
    elif r < 0.7:
        ys, t = [x for x in xs if x % 2], "odd numbers"
    else:
        k = ctx.pick(xs) + ctx.pick((0, 1, -1))
        if ctx.chance(0.5):
            ys, t = [x for x in xs if x > k], ctx.tell("numbers [greater|larger|bigger] than {k}", k=k)
        else:
            ys, t = [x for x in xs if x < k], ctx.tell("numbers [smaller|less|lower] than {k}", k=k)
    if not ys:
        return keep(ctx)
    return _list_item(ctx, [PRE + "[list|pick|give me|find|show me|select|keep|return][| all| only] the {t}[| in this list| from this list| from the list| among these| of these]: {l}", "[Which|What] are the {t}[| in this list| here]: {l}", "{l}: [list|pick|give me] the {t}[|, please]",
                            "[Which|What] {t} are in [this list|the list|here]: {l}", PRE + "filter [this list|the list|the numbers] to keep [only |]the {t}: {l}"], xs, ys, t=t)


def drop(ctx):
    xs = ctx.sample(LETTERS, ctx.int(3, 6)) if ctx.chance(0.2) else _words(ctx) if ctx.chance(0.6) else _numbers(ctx)
    x = ctx.pick(xs)
    return _list_item(ctx, [PRE + "[remove|delete|drop|take] {x} [from|out of] [this list|the list|]: {l}", PRE + "[repeat|give me|write] [this list|the list] without {x}: {l}", "{l}: [remove|drop] {x}[|, please]"], xs, [y for y in xs if y != x], x=x)


def append(ctx):
    xs = _words(ctx) if ctx.chance(0.6) else _numbers(ctx)
    if len(xs) < 4:
        return append(ctx)
    x, xs = xs[-1], xs[:-1]
    return _list_item(ctx, [PRE + "[add|append|put] {x} [to|at] the end of [this list|the list|]: {l}", PRE + "[add|append] {x} to [this list|the list]: {l}", "{l}: [add|append] {x}[| at the end|, please]"], xs, xs + [x], x=x)


def contains(ctx):
    xs = _words(ctx) if ctx.chance(0.6) else _numbers(ctx)
    yes = ctx.chance(0.5) or len(xs) < 4
    x = ctx.pick(xs)
    if not yes:
        xs = [y for y in xs if y != x]
    q = ctx.say(["Is {x} in [this list|the list|here]: {l}", "Is {x} in [this list|the list]? {l}", "Does [this list|the list] contain {x}: {l}", "Does [this list|the list] contain {x}? {l}", "{l}: is {x} [there|in it|in the list]?", PRE + "check [if|whether] {x} is in [this list|the list]: {l}"], l=_show(ctx, xs), x=x)
    return qa("lists", q[0].upper() + q[1:], "%s, %s is %sin the list." % ("Yes" if yes else "No", x, "" if yes else "not "), {"type": "yesno", "value": yes})


def bullets(ctx):
    xs = _words(ctx)
    num = ctx.chance(0.5)
    q = ctx.say(["[Write|Format|Show|Print|Give me|Make] [this|these|this list|these items] as a %s[| list]: {l}" % ("numbered" if num else "[bulleted|bullet]"), "[Make|Write|Create] a %s list [of|from|with][|:] {l}" % ("numbered" if num else "[bullet|bulleted]"), "{l}: [make|write] a %s list[|, please]" % ("numbered" if num else "[bullet|bulleted]")], l=_show(ctx, xs))
    t = "\n".join("%d. %s" % (i + 1, x) if num else "- %s" % x for i, x in enumerate(xs))
    return qa("lists", q, t, {"type": "equals", "text": t})


def total(ctx):
    """Sum of one-digit numbers; each partial pair is small and always trained."""
    xs = [ctx.int(1, 4) for _ in range(ctx.int(3, 4))]
    while sum(xs) > 12:
        xs.pop()
    q = ctx.say(["[What is|Give me|Compute|Find] the [sum|total] of [this list|these numbers|the list|the numbers]: {l}", "[Sum|Add|Total] [these|the numbers|this list|up these numbers]: {l}", "[Add up|Sum up] {l}[.|]", "{l}: [what is the sum|sum them up]?", "Sum of [|the list ]{l}[?|]"], l=_show(ctx, xs))
    return qa("lists", q, "The sum is %d." % sum(xs), {"type": "number", "value": sum(xs)})


GROUPS = {"fruits": w.FRUIT, "animals": w.ANIMAL, "colors": w.COLOUR, "colours": w.COLOUR, "foods": w.FOOD, "jobs": w.JOB, "professions": w.JOB, "hobbies": w.HOBBY, "sports": w.SPORT, "instruments": w.INSTRUMENT,
          "languages": w.LANGUAGE, "cities": w.CITY, "days": w.DAY, "months": w.MONTH, "numbers": w.NUMBER_WORD[1:], "vegetables": ["carrot", "potato", "onion", "tomato", "cabbage", "pea", "bean", "leek"], "names": w.FIRST}


def enumerate_group(ctx):
    """Name so many things of a sort: always the first ones of the pool."""
    g = ctx.pick(list(GROUPS))
    pool = GROUPS[g]
    n = ctx.int(1, min(8, len(pool)))
    one = {"cities": "city", "hobbies": "hobby"}.get(g, g[:-1])
    if n == 1:
        q = ctx.say([PRE + "[name|tell me|give me|say|pick] [a|one|any] {g}[.|]"], g=one)
        return qa("lists", q[0].upper() + q[1:], pool[0], {"type": "any", "any": [x.lower() for x in pool]})
    q = ctx.say([PRE + "[name|list|give me|tell me|write down|write] {n} {g}[.|]", PRE + "[give me|make|write] a list of {n} {g}[.|]"], n=n if ctx.chance(0.5) else w.number_word(n), g=g)
    return qa("lists", q[0].upper() + q[1:], _answer(pool[:n]), {"type": "list", "items": pool[:n]})


def letters_of(ctx):
    """Spelling: words of the pools only, since the model reads whole words."""
    x = ctx.pick(ANY)
    r = ctx.int(0, 3)
    if r == 0:
        q = ctx.say([PRE + "spell [the word |]{x}[.|]", "How do you spell {x}?", "How is {x} spelled?", PRE + "[list|name|give me|write] the letters of [the word |]{x}[.|]"], x=x)
        return qa("lists", q[0].upper() + q[1:], "-".join(x), {"type": "equals", "text": "-".join(x)})
    if r == 1:
        q = ctx.say(["How many letters [are in|does] [the word |]\"{x}\"[ have|]?", "How many letters are in [the word |]{x}?", PRE + "count the letters [in|of] [the word |]{x}[.|]", "How long is the word {x}?"], x=x)
        return qa("lists", q[0].upper() + q[1:], "The word %s has %d letters." % (x, len(x)), {"type": "number", "value": len(x)})
    if r == 2:
        q = ctx.say([PRE + "[write|convert|turn|put] {x} [in|into|to] [upper case|uppercase|capitals|capital letters][.|]", "Uppercase {x}[.|]", "{x} in [upper case|uppercase|capitals][.|]"], x=x)
        return qa("lists", q[0].upper() + q[1:] if not q.startswith(x) else q, x.upper(), {"type": "equals", "text": x.upper()})
    i = ctx.pick((0, -1))
    q = ctx.say(["[What|Which] is the {p} letter of [the word |]{x}?", "[With|In] which letter does {x} [end|stop]?" if i else "With which letter does {x} [start|begin]?"], p="last" if i else "first", x=x)
    return qa("lists", q, "The %s letter of %s is %s." % ("last" if i else "first", x, x[i]), {"type": "contains", "all": [" is " + x[i]]})


def which_group(ctx):
    """Which of these is a fruit?"""
    colours = ["red", "blue", "green", "yellow", "purple", "pink", "brown", "black", "white"]
    groups = [("fruit", "a fruit", w.FRUIT), ("animal", "an animal", w.ANIMAL), ("colour", ctx.pick(("a color", "a colour")), colours), ("job", "a job", w.JOB), ("sport", "a sport", w.SPORT),
              ("instrument", "an instrument", ["piano", "violin", "guitar", "flute", "trumpet"]), ("thing", "a thing", ["pen", "cup", "chair", "table", "car", "truck", "hammer", "bottle", "spoon", "bicycle"]), ("month", "a month", w.MONTH), ("day", "a day", w.DAY)]
    a, b, c = ctx.sample(groups, 3)
    if a[0] == "thing":
        a, b = b, a
    x = ctx.pick(a[2])
    xs = [x, ctx.pick([y for y in b[2] if y not in a[2]]), ctx.pick([y for y in c[2] if y not in a[2]])]
    ctx.rng.shuffle(xs)
    q = ctx.say(["Which of these is {g}: {l}[?|]", "Which [one |]is {g}: {l}[?|]", "[Find|Name|Pick|Tell me] {g} [in|among|from]: {l}[.|]", "{l}: which [one |]is {g}?", "Which of {m} is {g}?"], g=a[1], l=", ".join(xs), m=w.english_list(xs))
    return qa("lists", q[0].upper() + q[1:] if not q.startswith(xs[0]) else q, "%s is %s." % (x, a[1]), {"type": "contains", "all": ["%s is" % x]})


WEIGHTED = [(sort_numbers, 20), (sort_words, 8), (reverse, 12), (count, 9), (position, 14), (extreme, 12), (keep, 12), (drop, 7), (append, 4), (contains, 6), (bullets, 6), (total, 3),
            (enumerate_group, 9), (letters_of, 8), (which_group, 4)]

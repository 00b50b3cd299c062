"""Questions on facts learnt by heart (capitals, symbols, opposites, days and months, ...)."""
from .core import qa, ALWAYS_TRAIN, NEVER_HELD
from . import facts as f
from . import words as w

PRE = ("[||||||||Please tell me: |Hey, |Quick question: |Can you tell me: |Question: |Do you know: |Tell me: |So, |I wonder: ]")
POST = "[|||||||| Thanks!| Thank you.| Be brief.| Answer in one short sentence.| Please answer briefly.| Answer in one sentence.]"
BARE = ["{q} [Answer with|Reply with|Use|Give] [just |only |]one word[|, please].", "{q} [Just|Only] the [answer|name|word][|, please].",
        "[In one word|Just the answer|One word answer]: {q}", "{q} [(one word)|(just the answer)]"]


def _make(ctx, templates, answer, terse, **slots):
    t = templates if type(templates) is str else ctx.pick(templates)
    judge = {"type": "contains", "all": [terse]}
    if ctx.chance(0.18):
        return qa("recall", ctx.say(ctx.pick(BARE).replace("{q}", t), **slots), terse, judge)
    return qa("recall", ctx.say(PRE + t + POST, **slots), answer, judge)


def capital(ctx):
    c = ctx.pick(list(f.CAPITAL))
    cap = f.CAPITAL[c]
    if ctx.chance(0.22) and c not in ("England", "the United Kingdom"):
        return _make(ctx, ["{p} is the capital of [which|what] country?", "[Which|What] country has {p} as [its|the] capital?",
                           "Of which country is {p} the capital?", "[Name|Tell me] the country whose capital is {p}[.|]",
                           "[Which|What] country's capital is {p}?"],
                     "%s is the capital of %s." % (cap, c), c, p=cap)
    return _make(ctx, ["What is the capital of {c}?", "What's the capital of {c}?", "What is the capital [city |]of {c}?",
                       "[Name|Tell me|Give me|State] the capital [city |]of {c}[.|]", "Which city is the capital of {c}?",
                       "capital of {c}[?|]", "What city is the capital of {c}?", "[Do you know|Can you tell me] the capital of {c}?",
                       "[Can|Could] you name the capital of {c}?", "The capital of {c} is [what|which city]?", "What is {c}'s capital[| city]?",
                       "I [forgot|need] the capital of {c}[.|, what is it?]", "{c}: capital?"],
                 "The capital of %s is %s." % (c, cap.rstrip(".")), cap.rstrip("."), c=c)


def element(ctx):
    e = ctx.pick(list(f.ELEMENT))
    s = f.ELEMENT[e]
    if ctx.chance(0.3):
        return _make(ctx, ["[Which|What] element has the [chemical |]symbol {s}?", "What does the [chemical |]symbol {s} stand for?",
                           "The symbol {s} is which element?", "{s} is the [chemical |]symbol [of|for] [which|what] element?"],
                     "%s is the symbol of %s." % (s, e), e, s=s)
    return _make(ctx, ["What is the [chemical |]symbol [of|for] {e}?", "What's the [chemical |]symbol [of|for] {e}?",
                       "[Give me|Tell me|Name] the [chemical |]symbol [of|for] {e}[.|]", "Which [chemical |]symbol does {e} have?",
                       "chemical symbol for {e}[?|]", "What symbol stands for {e}?", "How is {e} written in the periodic table?"],
                 "The symbol of %s is %s." % (e, s), s, e=e)


def opposite(ctx):
    a = ctx.pick(list(f.OPPOSITE))
    b = f.OPPOSITE[a]
    if ctx.chance(0.4) and b not in f.OPPOSITE:
        a, b = b, a
    return _make(ctx, ["What is the opposite of {a}?", "What's the opposite of [|the word ]{a}?", "[Give me|Tell me|Name] the opposite of {a}[.|]",
                       "opposite of {a}[?|]", "Which word means the opposite of {a}?", "The opposite of {a} is [what|which word]?",
                       "What is an antonym [of|for] {a}?", "[Name|Give me] an antonym [of|for] {a}[.|]"],
                 "The opposite of %s is %s." % (a, b), b, a=a)


def calendar(ctx):
    seq, name = (w.DAY, "day") if ctx.chance(0.5) else (w.MONTH, "month")
    i = ctx.int(0, len(seq) - 1)
    x = seq[i]
    if ctx.chance(0.6):
        y = seq[(i + 1) % len(seq)]
        return _make(ctx, ["[What|Which] {k} comes [after|right after|next after] {x}?", "[What|Which] is the {k} after {x}?",
                           "What comes after {x}?", "[Name|Tell me] the {k} [after|following] {x}[.|]", "[What|Which] {k} follows {x}?"],
                     "%s comes after %s." % (y, x), y, x=x, k=name)
    y = seq[(i - 1) % len(seq)]
    return _make(ctx, ["[What|Which] {k} comes [before|right before|just before] {x}?", "[What|Which] is the {k} before {x}?",
                       "What comes before {x}?", "[Name|Tell me] the {k} [before|preceding] {x}[.|]"],
                 "%s comes before %s." % (y, x), y, x=x, k=name)


def plain(ctx):
    q, a, t = ctx.pick(f.PLAIN)
    return _make(ctx, [q] * 3 + ["[Do you know|Tell me|I want to know|Please tell me][,|:] " + q[0].lower() + q[1:] if q[0] != "[" else q], a, t)


def language(ctx):
    c = ctx.pick(list(f.LANGUAGE_OF))
    return _make(ctx, ["[What|Which] language [do people speak|is spoken|do they speak] in {c}?", "What is the [official |main |]language of {c}?",
                       "[Name|Tell me] the language [of|spoken in] {c}[.|]"],
                 "The language of %s is %s." % (c, f.LANGUAGE_OF[c]), f.LANGUAGE_OF[c], c=c)


def continent(ctx):
    c = ctx.pick(list(f.CONTINENT))
    return _make(ctx, ["[On|In] [which|what] continent is {c}[| located]?", "[Which|What] continent is {c} [on|in|part of]?",
                       "[Name|Tell me] the continent of {c}[.|]"],
                 "%s is in %s." % (c[0].upper() + c[1:], f.CONTINENT[c]), f.CONTINENT[c], c=c)


def currency(ctx):
    c = ctx.pick(list(f.CURRENCY))
    return _make(ctx, ["What is the currency of {c}?", "[What|Which] currency [is used|do people use|do they use|does one pay with] in {c}?", "[What|Which] money [is used|do people use] in {c}?", "[Name|Tell me] the currency of {c}[.|]"],
                 "The currency of %s is the %s." % (c, f.CURRENCY[c]), f.CURRENCY[c], c=c)


def is_capital(ctx):
    """Is Paris the capital of France? Is Paris in Spain?"""
    c = ctx.pick(list(f.CAPITAL))
    cap = f.CAPITAL[c].rstrip(".")
    yes = ctx.chance(0.5)
    d = c if yes else ctx.pick([x for x in f.CAPITAL if f.CAPITAL[x].rstrip(".") != cap])
    if ctx.chance(0.5):
        q = ctx.say(PRE + "[Is {p} the capital of {d}?|Is the capital of {d} {p}?|Is it true that {p} is the capital of {d}?]" + POST, p=cap, d=d)
        a = "Yes, %s is the capital of %s." % (cap, d) if yes else "No, the capital of %s is %s." % (d, f.CAPITAL[d].rstrip("."))
    else:
        q = ctx.say(PRE + "[Is {p} in {d}?|Is the city of {p} in {d}?|Is {p} a city in {d}?]" + POST, p=cap, d=d)
        a = "Yes, %s is in %s." % (cap, d) if yes else "No, %s is in %s." % (cap, next(x for x in f.CAPITAL if f.CAPITAL[x].rstrip(".") == cap))
    return qa("recall", q, a, {"type": "yesno", "value": yes})


def hello(ctx):
    c = ctx.pick(list(f.HELLO))
    return _make(ctx, ["How do you say [hello|\"hello\"] in {c}?", "What is [hello|the word for hello] in {c}?", "Translate hello [to|into] {c}[.|]",
                       "Say hello in {c}[.|]"], "Hello in %s is %s." % (c, f.HELLO[c]), f.HELLO[c], c=c)


WEIGHTED = [(capital, 36), (element, 14), (opposite, 14), (calendar, 12), (plain, 30), (language, 6), (continent, 6), (hello, 3), (currency, 5), (is_capital, 7)]

NEVER_HELD.update(v.lower() for v in f.CAPITAL.values())
for _c in f.CAPITAL:
    ALWAYS_TRAIN.add(("what is the capital of %s" % _c).lower())

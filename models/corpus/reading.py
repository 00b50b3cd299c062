"""Facts given in the prompt: a passage from one sentence to a few thousand tokens, and a question on one entity.

Entities of held-out passages were never seen, so the answer has to be copied out of the context.
"""
from .core import Item, qa
from . import words as w

NOT_STATED = "The text does not say."


def _money(ctx):
    return ctx.int(2, 999)


# A domain: how an entity is drawn, what is called, and its attributes:
# (key, draw value, statement templates, question templates, answer template)
def _place(ctx): return w.place(ctx)
def _job(ctx): return ctx.pick(w.JOB)
def _an(x): return ("an " if x[0] in "aeiou" else "a ") + x


PERSON = ("person", w.person, [
    ("city", _place, ["{e} lives in {v}.", "{e} has a [house|flat] in {v}.", "{e} [moved to|settled in] {v}."],
     ["[Where|In which city|In which town] does {e} live?", "What [city|town] does {e} live in?", "Where is {e}'s home?", "[Tell me|Say] where {e} lives[.|]"], "{e} lives in {v}."),
    ("job", _job, ["{e} works as {av}.", "{e} is {av}.", "{e} earns a living as {av}."],
     ["What [is|does] {e}[ do for a living|'s job| do for work]?", "What does {e} work as?", "What is the [job|profession|occupation] of {e}?", "What is {e}'s [job|profession|occupation]?"], "{e} is {av}."),
    ("age", lambda c: c.int(18, 95), ["{e} is {v} years old.", "{e} turned {v} this year.", "The age of {e} is {v}."],
     ["How old is {e}?", "What is {e}'s age?", "What is the age of {e}?"], "{e} is {v} years old."),
    ("pet", lambda c: c.pick(w.ANIMAL), ["{e} has a pet {v}.", "{e} keeps {av} as a pet.", "{e} owns {av}."],
     ["What pet does {e} [have|own|keep]?", "[Which|What] animal does {e} [have|own|keep]?", "What kind of pet does {e} have?"], "{e} has {av}."),
    ("hobby", lambda c: c.pick(w.HOBBY), ["{e} enjoys {v}.", "{e} likes {v} most of all.", "The hobby of {e} is {v}.", "In the evening {e} goes in for {v}."],
     ["What is {e}'s hobby?", "What is the hobby of {e}?", "What does {e} [like|enjoy][| doing]?", "What hobby does {e} have?"], "{e} enjoys {v}."),
    ("colour", lambda c: c.pick(w.COLOUR), ["{e} likes the colour {v}.", "The favourite colour of {e} is {v}.", "{e}'s favorite color is {v}."],
     ["What is {e}'s favou[r|r]ite colour?", "What is the favorite color of {e}?", "[Which|What] [color|colour] does {e} like[| best| most]?"], "The favourite colour of {e} is {v}."),
    ("food", lambda c: c.pick(w.FOOD), ["{e} loves to eat {v}.", "{e} likes {v} for dinner.", "The favourite food of {e} is {v}."],
     ["What [food |]does {e} [love|like] to eat?", "What is {e}'s favourite food?", "What is the favourite food of {e}?"], "{e} likes to eat {v}."),
    ("birth", lambda c: c.int(1920, 2010), ["{e} was born in {v}.", "{e} came into the world in {v}.", "The year of birth of {e} is {v}."],
     ["When was {e} born?", "In [which|what] year was {e} born?", "What is {e}'s year of birth?"], "{e} was born in {v}."),
    ("studies", lambda c: c.pick(w.SUBJECT), ["{e} studied {v}.", "At university {e} studied {v}.", "{e} has a degree in {v}."],
     ["What did {e} study?", "What subject did {e} study?", "In what subject does {e} have a degree?"], "{e} studied {v}."),
    ("instrument", lambda c: c.pick(w.INSTRUMENT), ["{e} plays the {v}.", "{e} is learning the {v}."],
     ["[What|Which] instrument does {e} play?", "What does {e} play?"], "{e} plays the {v}."),
])
COMPANY = ("company", w.brand, [
    ("city", _place, ["{e} is based in {v}.", "The head office of {e} is in {v}.", "{e} has its main office in {v}."],
     ["Where is {e} based?", "In [which|what] city is {e} based?", "Where is the [head|main] office of {e}?", "In [which|what] city is {e}'s [head|main] office?"], "{e} is based in {v}."),
    ("boss", w.person, ["{e} is led by {v}.", "The director of {e} is {v}.", "{v} is the head of {e}.", "{v} runs {e}."],
     ["Who [leads|runs|is the head of|is the director of|is in charge of] {e}?", "Who is {e}'s director?"], "{e} is led by {v}."),
    ("founded", lambda c: c.int(1850, 2024), ["{e} was founded in {v}.", "{e} opened its doors in {v}.", "{e} has existed since {v}."],
     ["When was {e} founded?", "In [which|what] year was {e} founded?", "Since when has {e} existed?"], "{e} was founded in {v}."),
    ("makes", lambda c: w.plural(c.pick(w.THING)), ["{e} makes {v}.", "{e} sells {v}.", "{e} is known for its {v}."],
     ["What does {e} [make|sell|produce]?", "What is {e} known for?", "Which product does {e} [make|sell]?"], "{e} makes {v}."),
    ("staff", lambda c: c.int(3, 9999), ["{e} has {v} employees.", "{v} people work at {e}.", "{e} employs {v} people."],
     ["How many [people work at|employees work at|people work for] {e}?", "How many [employees|workers] does {e} have?", "How many people does {e} employ?"], "{e} has {v} employees."),
])
PRODUCT = ("product", w.brand, [
    ("price", _money, ["The {e} costs {v} dollars.", "The price of the {e} is {v} dollars.", "You can buy the {e} for {v} dollars."],
     ["How much [does|is] the {e}[ cost|]?", "What is the price of the {e}?", "What does the {e} cost?"], "The {e} costs {v} dollars."),
    ("colour", lambda c: c.pick(w.COLOUR), ["The {e} comes in {v}.", "The {e} is {v}.", "The case of the {e} is {v}."],
     ["What [color|colour] is the {e}?", "[Which|What] [color|colour] does the {e} come in?", "What is the [color|colour] of the {e}?"], "The {e} is {v}."),
    ("weight", lambda c: c.int(2, 900), ["The {e} weighs {v} grams.", "The weight of the {e} is {v} grams."],
     ["How much does the {e} weigh?", "What is the weight of the {e}?", "How heavy is the {e}?"], "The {e} weighs {v} grams."),
    ("warranty", lambda c: c.int(2, 36), ["The {e} has a warranty of {v} months.", "The warranty of the {e} lasts {v} months."],
     ["How long is the warranty of the {e}?", "How [long|many months] does the warranty of the {e} last?", "What is the warranty [of|on|for] the {e}?"], "The warranty of the {e} lasts {v} months."),
    ("stock", lambda c: c.int(2, 800), ["There are {v} pieces of the {e} in stock.", "The shop has {v} of the {e} left."],
     ["How many [pieces |]of the {e} are [in stock|left|available]?", "How many {e} are in stock?"], "There are {v} of the {e} in stock."),
    ("maker", w.brand, ["The {e} is made by {v}.", "{v} makes the {e}.", "The {e} comes from {v}."],
     ["Who makes the {e}?", "[Which|What] company makes the {e}?", "By whom is the {e} made?"], "The {e} is made by {v}."),
])
TOWN = ("town", w.place, [
    ("people", lambda c: c.int(2, 980) * 100, ["{e} has {v} inhabitants.", "About {v} people live in {e}.", "The population of {e} is {v}."],
     ["How many [people live in|inhabitants does|people are in] {e}[ have|]?", "What is the population of {e}?", "How large is the population of {e}?"], "{e} has {v} inhabitants."),
    ("mayor", w.person, ["The mayor of {e} is {v}.", "{v} is the mayor of {e}.", "{e} elected {v} as its mayor."],
     ["Who is the mayor of {e}?", "What is the name of the mayor of {e}?", "Who is {e}'s mayor?", "[Name|Tell me] the mayor of {e}[.|]"], "The mayor of {e} is {v}."),
    ("river", lambda c: c.entity(lambda: w.invented(c)), ["{e} lies on the river {v}.", "The river {v} flows through {e}.", "The river in {e} is called {v}."],
     ["[On|At] [which|what] river is {e}?", "[Which|What] river flows through {e}?", "What is the river in {e} called?"], "{e} lies on the river {v}."),
    ("known", lambda c: c.pick(w.ADJ) + " " + c.pick(w.NATURE), ["{e} is known for its {v}.", "Visitors come to {e} for the {v}.", "{e} is famous for its {v}."],
     ["What is {e} [known|famous] for?", "Why do visitors come to {e}?", "For what is {e} [known|famous]?"], "{e} is known for its {v}."),
    ("founded", lambda c: c.int(400, 1990), ["{e} was founded in {v}.", "People settled in {e} in {v}."],
     ["When was {e} founded?", "In [which|what] year was {e} founded?"], "{e} was founded in {v}."),
])
EVENT = ("event", lambda c: c.entity(lambda: w.invented(c)) + " " + c.pick(("Fair", "Festival", "Meeting", "Race", "Workshop", "Concert", "Conference", "Party")), [
    ("date", lambda c: "%s %d" % (c.pick(w.MONTH), c.int(1, 28)), ["The {e} takes place on {v}.", "The {e} is on {v}.", "The date of the {e} is {v}."],
     ["When [is|does] the {e}[| take place| happen| start]?", "On [which|what] [day|date] is the {e}?", "What is the date of the {e}?"], "The {e} takes place on {v}."),
    ("place", _place, ["The {e} takes place in {v}.", "The {e} is held in {v}.", "The {e} will be in {v}."],
     ["Where [is|does] the {e} [held|take place]?", "Where is the {e}?", "In [which|what] city is the {e}?"], "The {e} takes place in {v}."),
    ("time", lambda c: "%d:%02d" % (c.int(7, 21), c.pick((0, 15, 30, 45))), ["The {e} starts at {v}.", "Doors of the {e} open at {v}.", "The {e} begins at {v}."],
     ["At what time does the {e} [start|begin]?", "When does the {e} [begin|open]?", "What time does the {e} start?"], "The {e} starts at {v}."),
    ("guest", w.person, ["The speaker at the {e} is {v}.", "{v} speaks at the {e}.", "{v} opens the {e}."],
     ["Who [speaks at|opens|is the speaker at] the {e}?", "Who is the guest at the {e}?"], "{v} speaks at the {e}."),
])
CODE = ("code", lambda c: c.pick(("vault", "door", "safe", "locker", "room", "gate", "order", "ticket", "booking", "server")) + " " + (w.place(c) if c.chance(0.5) else c.entity(lambda: w.invented(c))), [
    ("code", w.code, ["The [secret |access |]code [for|of] the {e} is {v}.", "The {e} has the [secret |access |]code {v}."],
     ["What is the [secret |access |]code [for|of] the {e}?", "[Which|What] [secret |access |]code does the {e} have?", "[Tell|Give] me the [secret |access |]code [for|of] the {e}[.|]"], "The code of the {e} is {v}."),
    ("keeper", w.person, ["{v} looks after the {e}.", "The {e} is kept by {v}."],
     ["Who looks after the {e}?", "Who keeps the {e}?"], "{v} looks after the {e}."),
])
SECRET = ("secret", lambda c: c.pick(("secret code", "password", "magic word", "secret number", "code word", "access code", "key phrase", "magic number", "special code", "secret word")), [
    ("secret", lambda c: w.code(c) if c.chance(0.6) else c.entity(lambda: w.invented(c)), ["The {e} is {v}.", "Remember that the {e} is {v}.", "Note: the {e} is {v}."],
     ["What is the {e}?", "[Tell|Give] me the {e}[.|]", "[Which|What] {e} is [given|mentioned][| in the text]?", "What was the {e}?"], "The {e} is {v}."),
])
PLAIN = ("plain", lambda c: c.pick(["code", "password", "key", "number", "answer", "result", "name", "address", "title", "word", "price", "total", "deadline", "date", "winner", "captain", "leader", "owner", "colour", "color", "language", "version", "limit", "budget",
                                    "score", "temperature", "room", "floor", "topic", "capital", "team", "project", "server", "user", "token", "flight", "gate", "seat"] + w.THING), [
    ("value", lambda c: c.pick((w.code, w.brand, w.first_name, lambda x: x.int(1, 9999), lambda x: x.pick(w.COLOUR + w.ANIMAL + w.FRUIT + w.ADJ + w.THING)))(c), ["The {e} is {v}.", "My {e} is {v}.", "Our {e} is {v}.", "The {e} was {v}.", "The {e}: {v}."],
     ["What is [the|my|our] {e}?", "What's the {e}?", "[Tell|Give] me the {e}[.|]", "Which {e} is it?", "What was the {e}?", "The {e}?"], "The {e} is {v}."),
])
DOMAINS = [PERSON, PERSON, PERSON, COMPANY, PRODUCT, TOWN, EVENT, CODE]

FILLER = ["[The|That] [week|month|morning|winter|summer|evening] was [mild|cold|wet|warm|dry|quiet|long].", "The {a} {x} [stood|lay|waited|was seen] [near|behind|beside] the {y}.",
          "[Many|Some|A few|Several] people [liked|saw|visited|painted|remembered] the {a} {y}.", "[Nobody|Everybody|Somebody] [spoke|asked|knew] about the {a} {x}.",
          "[Later|After that|Before noon|In spring|At night] the {x} was [moved|cleaned|sold|repaired|painted {k}].", "It [rained|snowed|was sunny] for {n} days.",
          "[A|One|The] {j} [walked|drove|ran] past the {y} [twice|slowly|in a hurry|without a word].", "The {j} and the {i} [talked|argued|laughed] about {h}.",
          "There was [a lot of|some|no] [noise|traffic|work|music] in the {y}.", "The quick brown {z} jumps over the lazy {m}.", "This [sentence|line|paragraph|remark] [says nothing of interest|is only padding|does not matter|adds nothing]."]


def filler(ctx):
    return ctx.say(FILLER, noise=False, a=ctx.pick(w.ADJ), x=ctx.pick(w.THING), y=ctx.pick(w.NATURE), k=ctx.pick(w.COLOUR), n=ctx.int(2, 9), j=ctx.pick(w.JOB), i=ctx.pick(w.JOB),
                   h=ctx.pick(w.HOBBY), z=ctx.pick(w.ANIMAL), m=ctx.pick(w.ANIMAL))


def _facts(ctx, n):
    """n facts on distinct (entity, attribute): list of (domain, entity, attribute, value, sentence)."""
    out, used = [], set()
    doms = ctx.sample([PERSON, COMPANY, PRODUCT, TOWN, EVENT, CODE], ctx.pick((1, 1, 2, 3)))
    while len(out) < n:
        dom = ctx.pick(doms)
        e = dom[1](ctx)
        if e.lower() in used:
            continue
        used.add(e.lower())
        for key, draw, st, qu, an in ctx.sample(dom[2], min(len(dom[2]), ctx.pick((1, 1, 2, 3, 4)))):
            v = draw(ctx)
            av = _an(v) if isinstance(v, str) else v
            out.append((dom, e, (key, draw, st, qu, an), v, av, ctx.say(st, noise=False, e=e, v=v, av=av)))
    return out


def _length(ctx):
    """Number of facts: mostly short passages, some of two to three thousand tokens."""
    r = ctx.rng.random()
    return ctx.int(1, 4) if r < 0.50 else ctx.int(4, 14) if r < 0.86 else ctx.int(14, 50) if r < 0.97 else ctx.int(50, 170)


FRAME = ["{t}\n\n{q}", "{t}\n{q}", "{t} {q}", "Context:\n{t}\n\nQuestion: {q}", "Context: {t}\nQuestion: {q}", "Text: {t}\n\nQuestion: {q}", "Read the text [and answer the question|and answer]:\n{t}\n\n{q}",
         "Use the [context|text|passage|notes] [below|here] to answer.\n\n{t}\n\nQuestion: {q}", "[Notes|Facts|Passage|Document|Information]:\n{t}\n\n{q}", "{q}\n\n{t}", "Question: {q}\nContext: {t}",
         "Here are [some|a few] [notes|facts]. {t} {q}", "Given [this text|the following]: {t}\n{q}", "\"{t}\"\n\n{q}"]


def _layout(ctx, lines):
    r = ctx.rng.random()
    if r < 0.65 or len(lines) < 2:
        return " ".join(lines)
    if r < 0.75:
        return "\n".join("- " + s for s in lines)
    if r < 0.85:
        return "\n".join("[%d] %s" % (i + 1, s) for i, s in enumerate(lines))
    if r < 0.93:
        return "\n".join(lines)
    step = ctx.int(3, 6)
    return "\n\n".join(" ".join(lines[i:i + step]) for i in range(0, len(lines), step))


def _question(ctx, f):
    dom, e, (key, draw, st, qu, an), v, av, _ = f
    q = ctx.say("[|||||Tell me, |Please tell me, |According to the text, |Now, |Hey, ]" + ctx.pick(qu), e=e)
    return q[0].upper() + q[1:] if ctx.chance(0.7) and not q.startswith(e) else q


def _judge(v):
    return {"type": "contains", "all": [str(v)]}


def reading(ctx):
    r = ctx.rng.random()
    if r < 0.22:
        return needle(ctx)
    if r < 0.30:
        return where_is(ctx)
    facts = _facts(ctx, _length(ctx))
    lines = [f[5] for f in facts]
    if ctx.chance(0.25):
        for _ in range(ctx.int(1, 1 + len(lines) // 2)):
            lines.append(filler(ctx))
    if ctx.chance(0.5):
        ctx.rng.shuffle(lines)
    text = _layout(ctx, lines)
    turns = 1 if ctx.held else ctx.pick((1, 1, 1, 2, 3, 5))
    in_system = ctx.chance(0.15)
    messages = []
    for i in range(turns):
        if ctx.chance(0.08):                       # a question that the text leaves open
            dom, e, attr, v, av, s = ctx.pick(facts)
            other = dom[1](ctx)
            if any(other.lower() in x.lower() or x.lower() in other.lower() for x in lines) or dom is SECRET:
                continue
            q, a, judge = ctx.say(ctx.pick(attr[3]), e=other), NOT_STATED, {"type": "any", "any": ["does not say", "not stated", "not mention"]}
        else:
            f = ctx.pick(facts)
            q = _question(ctx, f)
            a, judge = ctx.tell(f[2][4], e=f[1], v=f[3], av=f[4]), _judge(f[3])
            a = a[0].upper() + a[1:] if not a.startswith(f[1]) else a
            if ctx.chance(0.12):
                q2 = ctx.say(["{q} [Answer with|Give] [just|only] the [answer|value][|, please].", "[Just|Only] the answer, please: {q}", "{q} (just the answer)"], noise=False, q=q) if not ctx.held else q
                if q2 != q:
                    q, a = q2, str(f[3])
        if i == 0 and not in_system:
            q = ctx.say(ctx.pick(FRAME), noise=False, t=text, q=q)
        messages += [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
    if not messages:
        return reading(ctx)
    system = None
    if in_system or messages[0]["content"].find(lines[0][:20]) < 0:
        system = text if ctx.chance(0.5) or ctx.held else ctx.pick(("Answer from the context.\n", "Context:\n", "Use these facts:\n", "You know the following. ")) + text
    return Item("reading", messages, judge, system=system)


def needle(ctx):
    """One fact in a heap of padding."""
    dom = SECRET if ctx.chance(0.4) else PLAIN if ctx.chance(0.4) else ctx.pick(DOMAINS)
    e = dom[1](ctx)
    key, draw, st, qu, an = attr = ctx.pick(dom[2])
    v = draw(ctx)
    av = _an(v) if isinstance(v, str) else v
    fact = ctx.say(st, noise=False, e=e, v=v, av=av)
    r = ctx.rng.random()
    n = 0 if r < 0.15 else ctx.int(0, 6) if r < 0.55 else ctx.int(6, 30) if r < 0.9 else ctx.int(30, 220)
    if ctx.chance(0.3):
        one = filler(ctx)
        pad = [one] * n
    else:
        pad = [filler(ctx) for _ in range(n)]
    pad.insert(ctx.int(0, len(pad)), fact)
    q = _question(ctx, (dom, e, attr, v, av, fact))
    a = ctx.tell(an, e=e, v=v, av=av)
    a = a if a.startswith(str(e)) and dom not in (SECRET, PLAIN) else a[0].upper() + a[1:]
    q = ctx.say(ctx.pick(FRAME), noise=False, t=_layout(ctx, pad), q=q)
    return qa("reading", q, a, _judge(v))


def where_is(ctx):
    """Things are moved; the last place counts."""
    spots = ctx.sample(["box", "bag", "drawer", "basket", "kitchen", "garden", "garage", "office", "cellar", "hall", "bathroom", "bedroom", "shed", "attic", "car", "cupboard"], 5)
    things = ctx.sample(w.THING[:30], ctx.int(1, 3))
    at, lines = {}, []
    for x in things + [ctx.pick(things) for _ in range(ctx.int(0, 3))]:
        n, s = w.first_name(ctx), ctx.pick(spots)
        if at.get(x) == s:
            continue
        lines.append(ctx.say(["{n} [put|left|placed] the {x} in the {s}."] if x not in at else ["[Then |Later |]{n} [moved|took|carried] the {x} to the {s}."], noise=False, n=n, x=x, s=s))
        at[x] = s
    x = ctx.pick(list(at))
    q = ctx.say(["Where is the {x}[| now]?", "[Where can I find|In which place is] the {x}[| now]?", "[Tell me|Say] where the {x} is[| now][.|]"], x=x)
    return qa("reading", ctx.say(["{t} {q}", "{t}\n{q}", "{t}\n\n{q}"], noise=False, t=" ".join(lines), q=q), "The %s is in the %s." % (x, at[x]), _judge(at[x]))


WEIGHTED = [(reading, 1)]

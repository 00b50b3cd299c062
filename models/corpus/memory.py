"""Conversations: what was said earlier is asked later, and follow-up questions."""
from .core import Item, pair_held
from . import arithmetic, dialogue, facts, recall
from . import words as w


def _t(q, a):
    return [{"role": "user", "content": q}, {"role": "assistant", "content": a}]


# what is told, the answer to it, how it is asked later, the later answer; {v} is the value
THINGS = [
    (w.first_name, ["[My name is|I am|I'm|Call me] {v}[.|!|]", "[Hi|Hello|Hey], [my name is|I am|I'm|this is] {v}[.|!|]"], "Hello {v}! Nice to meet you. How can I help you?",
     ["What is my name?", "What's my name?", "[Do you|Can you] [remember|recall|know] my name?", "Who am I?", "[Tell me|Say|What was|Repeat] my name[.|?| again| please]", "What did I say my name [is|was]?", "[And|So|Now,] what is my name[| again]?", "What name did I [give|tell] you?", "How am I called?"], "Your name is {v}."),
    (lambda c: c.int(2, 999), ["[Remember|Note|Keep in mind][| that| this:] my [lucky |favourite |favorite |secret |]number is {v}[.|]", "My [lucky |favourite |favorite |secret |]number is {v}[.|]", "[Please remember|Remember|Keep] the number {v}[.|]"], "I will remember the number {v}.",
     ["What is my [|lucky |favourite |favorite |secret ]number?", "[What|Which] number did I [tell|give] you?", "[Tell me|Repeat|Say|What was] [the|my] number[.|?| again| please]", "[What|Which] number should you remember?", "Do you [remember|recall] [my|the] number?"], "The number is {v}."),
    (lambda c: c.pick(w.COLOUR), ["My favou[r|r]ite colour is {v}[.|]", "My favorite color is {v}[.|]", "I like the [color|colour] {v}[| best| most][.|]", "I love {v}, it is my favourite colour[.|]"], "{V} is a nice colour.",
     ["What is my favou[r|r]ite colour?", "What is my favorite color?", "[What|Which] [color|colour] do I like[| best| most]?", "Do you remember my favou[r|r]ite colour?", "[Tell me|Say] my favorite color[.|]"], "Your favourite colour is {v}."),
    (w.place, ["I live in {v}[.|]", "I am from {v}[.|]", "My home is [in |]{v}[.|]", "I come from {v}[.|]"], "{v} sounds nice.",
     ["Where do I live?", "[Which|What] [city|town] do I live in?", "Where am I from?", "Where do I come from?", "What is my home town?", "[Tell me|Do you remember] where I live[.|?]"], "You live in {v}."),
    (lambda c: c.pick(w.ANIMAL) + " called " + w.first_name(c), ["I have a {v}[.|]", "My pet is a {v}[.|]", "At home I have a {v}[.|]"], "A pet is good company.",
     ["[What|Which] pet do I have?", "What is my pet[| called]?", "What is the name of my pet?", "[Do you remember|Tell me about] my pet[.|?]", "What animal do I have?"], "You have a {v}."),
    (lambda c: c.pick([j for j in w.JOB if j[0] not in "aeiou"]), ["I work as a {v}[.|]", "I am a {v}[.|]", "My job is {v}[.|]", "I am a {v} by profession[.|]"], "That is an interesting job.",
     ["What is my job?", "What do I do for a living?", "What do I work as?", "What is my profession?", "[Tell me|Do you remember] my job[.|?]"], "You are a {v}."),
    (w.code, ["[Remember|Note|Keep in mind][| that|:] the [secret |]code is {v}[.|]", "The [secret |]code is {v}[.|]", "The password is {v}[.|]", "My booking code is {v}[.|]"], "I will remember that.",
     ["What is the [secret |]code?", "[Which|What] code did I [give|tell] you?", "What was the [secret |]code[| again]?", "[Tell me|Repeat] the code[.|]", "What is the password?", "What was the password?", "What is my booking code?"], "It is {v}."),
    (lambda c: c.pick(w.FOOD), ["I like [to eat |]{v}[.|]", "My favou[r|r]ite food is {v}[.|]", "I love {v}[.|]"], "{V} is tasty.", ["What [do I|food do I] like[| to eat]?", "What is my favou[r|r]ite food?", "What do I love[| to eat]?"], "You like {v}."),
]


REPLIES = ["OK.", "Noted.", "Hello {v}!", "Hi {v}.", "Nice to meet you, {v}!", "Nice to meet you.", "Hello {v}! Nice to meet you.", "Got it.", "Thanks for telling me.", "Good to know.", "Hello!", "Hi! How can I help?", "I see.", "Sure.", "All right.",
           "I will remember that.", "{v}, noted.", "Great!", "Thank you, {v}.", "Hello {v}, how are you?", "OK, {v}.", "Understood.", "Hi {v}! What can I do for you?", "Welcome, {v}.", "Interesting.", "Okay, I will keep it in mind.", "Yes.", "Good."]


def _loosen(ctx, messages, values):
    """Replace answers in the middle by ones that another assistant might have given; these are not trained."""
    for m in messages[:-1]:
        if m["role"] == "assistant" and ctx.chance(0.8):
            said = m["content"]
            shown = [str(v) for v in values if str(v) in said]
            if shown:
                m["content"] = ctx.pick(REPLIES).replace("{v}", shown[0] if shown[0][0].isupper() else "there")
            elif " = " in said:
                m["content"] = said.split(" = ")[-1] if ctx.chance(0.7) else "The answer is " + said.split(" = ")[-1]
            elif not any(c.isdigit() for c in said) and len(said) < 60 and ctx.chance(0.3):
                m["content"] = ctx.pick(REPLIES[:1] + ["Sure!", "Here you go.", "OK."])
            if m["content"] != said:
                m["scripted"] = True


def _distract(ctx):
    """An unrelated exchange in between."""
    f = ctx.pick((dialogue.small_talk, arithmetic.add, arithmetic.subtract, arithmetic.multiply, recall.capital, recall.opposite, recall.plain, recall.calendar, dialogue.echo))
    if ctx.held and f in (recall.capital, recall.opposite, recall.plain, recall.calendar, dialogue.small_talk):
        f = ctx.pick((arithmetic.add, arithmetic.subtract, dialogue.echo))
    return f(ctx).messages


def remember(ctx):
    """Tell one to three things, talk of something else, ask for one of them."""
    told, messages = [], []
    for thing in ctx.sample(THINGS, ctx.pick((1, 1, 2, 3))):
        draw, tell, ack, ask, answer = thing
        v = draw(ctx)
        s = ctx.say(tell, v=v)
        messages += _t(s[0].upper() + s[1:] if not str(v) == s[:len(str(v))] else s, ack.replace("{v}", str(v)).replace("{V}", str(v).capitalize()))
        told.append((thing, v))
        for _ in range(ctx.pick((0, 0, 1, 1, 2))):
            messages += _distract(ctx)
    if ctx.chance(0.12):                            # a correction counts
        (draw, tell, ack, ask, answer), old = ctx.pick(told)
        for i, (t, v) in enumerate(told):
            if v == old:
                new = draw(ctx)
                said = {"Your name is {v}.": "[Sorry, my name is|No, my name is|Actually my name is|I meant to say my name is] {v}[.|]", "The number is {v}.": "[Sorry, the number is|No, my number is|Actually the number is] {v}[.|]", "You live in {v}.": "[Now I live in|I moved to|Actually I live in|No, I live in] {v}[.|]",
                        "It is {v}.": "[Sorry, the code is|The code is now|Actually the code is] {v}[.|]"}.get(t[4])
                if said:
                    messages += _t(ctx.say(said, v=new), ack.replace("{v}", str(new)).replace("{V}", str(new).capitalize()))
                    told[i] = (t, new)
                break
    asked = told if ctx.chance(0.4) and not ctx.held else [ctx.pick(told)]
    judge = None
    for (draw, tell, ack, ask, answer), v in asked:
        messages += _t(ctx.say(ask), answer.replace("{v}", str(v)))
        judge = {"type": "contains", "all": [str(v)]}
    if ctx.chance(0.4) and len(asked) == 1:
        _loosen(ctx, messages, [v for _, v in told])
    return Item("multiturn", messages, judge)


def at_once(ctx):
    """Told and asked in one message."""
    thing, other = ctx.sample(THINGS, 2)
    v, u = thing[0](ctx), other[0](ctx)
    told = [ctx.say(thing[1], noise=False, v=v)]
    if ctx.chance(0.5):
        told.append(ctx.say(other[1], noise=False, v=u))
        ctx.rng.shuffle(told)
    told = [t if t[-1] in ".!" else t + "." for t in told]
    if len(told) == 2 and ctx.chance(0.4):
        joined = told[0][:-1] + " and " + (told[1] if told[1].startswith("I ") else told[1][0].lower() + told[1][1:])
        if ctx.fits(joined):
            told = [joined]
    q = " ".join(told + [ctx.say(thing[3])])
    return Item("multiturn", _t(q, thing[4].replace("{v}", str(v))), {"type": "contains", "all": [str(v)]})


def not_told(ctx):
    """Asked for something that was never said."""
    a, b = ctx.sample(THINGS, 2)
    v = b[0](ctx)
    messages = _t(ctx.say(b[1], v=v), b[2].replace("{v}", str(v)).replace("{V}", str(v).capitalize())) if ctx.chance(0.7) else []
    messages += _t(ctx.say(a[3]), "You did not tell me that.")
    return Item("multiturn", messages, {"type": "any", "any": ["did not", "not told", "didn't", "do not know"]})


def running_sum(ctx):
    """A sum, then steps on its result."""
    a, b = ctx.pair(lambda: (ctx.int(2, 60), ctx.int(2, 60)))
    r = a + b
    messages = _t(ctx.say(arithmetic.ADD, a=a, b=b), "%d + %d = %d." % (a, b, r))
    for _ in range(ctx.int(1, 3)):
        op = ctx.pick("++-*" if r < 60 else "+-")
        if op == "+":
            _, c = ctx.pair(lambda: (r, ctx.int(1, 60)))
            q, s = ctx.say(["[Now |And |Then |Please |]add {c}[| to that| to it| to the result| more][.|]", "[And |Now |]plus {c}[?|.|]", "What [if I add|is that plus|do I get if I add] {c}[| more]?", "Plus another {c}[?|.|]"], c=c), r + c
        elif op == "-":
            _, c = ctx.pair(lambda: (r, ctx.int(1, max(1, min(r, 60)))))
            q, s = ctx.say(["[Now |And |Then |Please |]subtract {c}[| from that| from it| from the result][.|]", "[And |Now |]minus {c}[?|.|]", "[Now |Then |]take away {c}[.|]", "What is that minus {c}?"], c=c), r - c
        else:
            c = 2
            ctx.pair(lambda: (r, 2)) if not ctx.held else None
            q, s = ctx.say(["[Now |And |Then |Please |]double [it|that|the result][.|]", "[And |Now |Then |]times 2[?|.|]", "[Now |Then |]multiply [it|that] by 2[.|]", "What is twice that?"]), r * 2
            if pair_held(r, 2) != ctx.held:
                continue
        messages += _t(q, "%d %s %d = %d." % (r, op, c, s))
        r = s
    if len(messages) < 4:
        return running_sum(ctx)
    return Item("multiturn", messages, {"type": "number", "value": r})


def follow_up(ctx):
    """And of Spain? - the question is carried over (learnt facts, so never held out)."""
    cs = ctx.sample(list(facts.CAPITAL), ctx.int(2, 4))
    m = []
    for i, c in enumerate(cs):
        a = "The capital of %s is %s." % (c, facts.CAPITAL[c].rstrip("."))
        m += _t(ctx.say(["What is the capital of {c}?", "[Name|Tell me] the capital of {c}[.|]"] if i == 0 else ["And of {c}?", "And {c}?", "[What|How] about {c}?", "And the capital of {c}?", "Now {c}[.|]", "And what about {c}?"], c=c), a)
    return Item("multiturn", m, {"type": "contains", "all": [facts.CAPITAL[cs[-1]].rstrip(".")]})


def earlier(ctx):
    """Ask for the first or the last answer, or to repeat it."""
    f = [arithmetic.add(ctx), dialogue.echo(ctx)][ctx.int(0, 1)]
    m = list(f.messages)
    q = ctx.say(["[Say|Repeat] that again[.|, please|]", "[Can you |Please |Could you ]repeat that[?|.|]", "[What did you say|What was that|Once more|Again|Sorry, what]?", "[Repeat|Say again] your [last |]answer[.|, please]", "I did not [get|hear|understand] that[.|, once more please|]"])
    return Item("multiturn", m + _t(q, m[-1]["content"]), {"type": "contains", "all": [m[-1]["content"].rstrip(".")]})


WEIGHTED = [(remember, 62), (at_once, 8), (not_told, 6), (running_sum, 14), (follow_up, 10), (earlier, 8)]

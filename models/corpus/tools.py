"""Tool calls in LFM2's form: <|tool_call_start|>[f(a="x", n=1)]<|tool_call_end|>, then an answer from the result."""
import json

from .core import Item, Retry
from . import arithmetic, dialogue, recall
from . import words as w

NO_TOOL = "I do not have a tool for that."


def _str(desc, **kw):
    return {"type": "string", "description": desc, **kw}


def _int(desc, **kw):
    return {"type": "integer", "description": desc, **kw}


def tool(name, description, properties, required=None):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": {
        "type": "object", "properties": properties, "required": list(properties) if required is None else required}}}


def render_calls(calls):
    """[f(a="x", n=1)] for a list of (name, arguments)."""
    def value(v):
        return {True: "True", False: "False", None: "None"}[v] if v is None or isinstance(v, bool) else json.dumps(v, ensure_ascii=False)
    return "[" + ", ".join("%s(%s)" % (n, ", ".join("%s=%s" % (k, value(v)) for k, v in a.items())) for n, a in calls) + "]"


class Use:
    """One use of one tool: the request, the call, the tool's result and the closing answer."""

    def __init__(self, spec, ask, args, result, answer, keys):
        self.spec, self.ask, self.args, self.result, self.answer, self.keys = spec, ask, args, result, answer, keys


PLEASE = "[|||||||Please |Hey, |Can you |Could you |I want you to ]"


def _q(ctx, templates, **slots):
    q = ctx.say(templates, **slots)
    return q[0].upper() + q[1:] if ctx.chance(0.7) else q


def weather(ctx):
    key = ctx.pick(("city", "location", "city", "place"))
    spec = tool(ctx.pick(("get_weather", "get_weather", "get_weather", "weather", "current_weather", "get_current_weather")), ctx.pick(("Get the weather of a city", "Get the current weather for a location", "Returns the weather", "Get current weather")), {key: _str(ctx.pick(("The city", "Name of the city", "City name", "The location")))})
    if ctx.chance(0.25):
        spec["function"]["parameters"]["properties"]["unit"] = _str("Unit", enum=["celsius", "fahrenheit"])
        spec["function"]["parameters"]["required"] = [key]
    c = w.place(ctx)
    t, s = ctx.int(-9, 39), ctx.pick(("sunny", "cloudy", "rainy", "windy", "foggy", "clear", "snowy"))
    q = _q(ctx, ["[What is|What's|How is|How's] the weather [like |][in|for|at] {c}[| today| now| right now]?", PLEASE + "[tell me|check|get|show me|look up] the [current |]weather [in|for] {c}[.|]", "Weather in {c}[?|.| please]", "Is it [raining|sunny|cold|warm|windy] in {c}[| today| now]?", "What is the temperature in {c}[| today| now]?", "How [warm|cold|hot] is it in {c}[| today| now]?", "Do I need an umbrella in {c}[| today]?"], c=c)
    args = {key: c}
    if "unit" in spec["function"]["parameters"]["properties"] and ctx.chance(0.5):
        u = ctx.pick(("celsius", "fahrenheit"))
        q = q.rstrip("?. ") + " in %s%s" % (u, "?" if ctx.chance(0.6) else "")
        args["unit"] = u
        if not ctx.fits(q):
            raise Retry
    r = ctx.int(0, 3)
    tk, sk = ctx.pick(("temperature", "temp", "degrees", "temperature_c", "temp_c")), ctx.pick(("condition", "weather", "sky", "conditions", "description"))
    result = {tk: t, sk: s} if r < 2 else {"city": c, tk: t, sk: s} if r == 2 else "%s, %d degrees" % (s, t)
    if ctx.chance(0.12):
        return Use(spec, q, args, {tk: t}, "It is %d degrees in %s." % (t, c), [str(t)])
    if ctx.chance(0.12):
        return Use(spec, q, args, {sk: s} if ctx.chance(0.6) else s, "It is %s in %s." % (s, c), [s])
    return Use(spec, q, args, result, "It is %d degrees and %s in %s." % (t, s, c), [str(t), s])


def clock(ctx):
    key = ctx.pick(("city", "location", "timezone"))
    spec = tool(ctx.pick(("get_time", "get_time", "current_time", "get_current_time")), ctx.pick(("Get the current time in a city", "Returns the local time", "Get the time")), {key: _str("The city")})
    c = w.place(ctx)
    t = "%02d:%02d" % (ctx.int(0, 23), ctx.int(0, 59))
    return Use(spec, _q(ctx, ["What time is it in {c}[| now| right now]?", "[What is|What's] the [current |local |]time in {c}?", PLEASE + "[tell me|check|get] the [current |local |]time in {c}[.|]", "Time in {c}[?|]"], c=c), {key: c},
               {"time": t} if ctx.chance(0.8) else t, "It is %s in %s." % (t, c), [t])


def add_tool(ctx):
    op, sign, word = ctx.pick((("add", "+", "plus"), ("multiply", "*", "times"), ("subtract", "-", "minus"), ("add", "+", "plus")))
    ka, kb = ctx.pick((("a", "b"), ("a", "b"), ("x", "y"), ("first", "second"), ("left", "right")))
    spec = tool(ctx.pick((op, op, op + "_numbers")), op.capitalize() + " two numbers", {ka: _int("First number"), kb: _int("Second number")})
    a, b = ctx.pair(lambda: (ctx.int(2, 9999) if ctx.chance(0.3) else ctx.int(2, 99), ctx.int(2, 9999) if ctx.chance(0.3) else ctx.int(2, 99)))
    r = a + b if op == "add" else a * b if op == "multiply" else a - b
    ask = {"add": ["Add {a} and {b}", "What is {a} + {b}", "What is {a} plus {b}", "Compute {a} + {b}", "What is the sum of {a} and {b}", "Sum {a} and {b}"],
           "multiply": ["Multiply {a} and {b}", "Multiply {a} by {b}", "What is {a} * {b}", "What is {a} times {b}", "Compute {a} * {b}", "What is the product of {a} and {b}"],
           "subtract": ["Subtract {b} from {a}", "What is {a} - {b}", "What is {a} minus {b}", "Compute {a} - {b}"]}[op]
    q = _q(ctx, [t + "[?|.|| with the tool| using the tool|, use the tool]" for t in ask], a=a, b=b)
    rk = ctx.pick(("result", "result", "answer", "value", op))
    return Use(spec, q, {ka: a, kb: b}, {rk: r} if ctx.chance(0.7) else str(r), "The result is %d." % r, [str(r)])


def calculate(ctx):
    key = ctx.pick(("expression", "expression", "expr", "formula"))
    spec = tool(ctx.pick(("calculate", "calculator", "eval", "compute")), ctx.pick(("Evaluate an arithmetic expression", "Calculate the value of an expression")), {key: _str("The expression")})
    a, b = ctx.pair(lambda: (ctx.int(2, 9999), ctx.int(2, 999)))
    s, word = ctx.pick((("+", "plus"), ("-", "minus"), ("*", "times")))
    r = a + b if s == "+" else a - b if s == "-" else a * b
    e = "%d %s %d" % (a, s, b)
    q = _q(ctx, ["[What is|Calculate|Compute|Evaluate|Work out] {e}[?|.|]", "[What is|Calculate|Compute] {a} {x} {b}[?|.|]", "Use the [calculator|tool] [to compute|for|on] {e}[.|]"], e=e, a=a, b=b, x=word)
    return Use(spec, q, {key: e}, {"result": r} if ctx.chance(0.7) else str(r), "The result is %d." % r, [str(r)])


def search(ctx):
    spec = tool(ctx.pick(("search", "web_search", "search_web")), ctx.pick(("Search the web", "Search for information", "Look something up")), {"query": _str("The search query")})
    a = w.place(ctx) if ctx.chance(0.5) else w.brand(ctx)
    t = ctx.pick(("hotels in %s", "history of %s", "%s opening hours", "%s reviews", "news about %s", "the population of %s", "%s", "restaurants in %s", "%s prices", "jobs in %s")) % a
    v = ctx.tell("{x} {y} found", x=ctx.int(2, 99), y=ctx.pick(("results", "pages", "entries")))
    return Use(spec, _q(ctx, ["Search [the web |online |]for {t}[.|]", PLEASE + "[look up|search for|find|google] {t}[.|]", "Find information [on|about] {t}[.|]"], t=t), {"query": t}, {"result": v}, "The search result is: %s." % v, [v])


def mail(ctx):
    n = w.first_name(ctx)
    spec = tool(ctx.pick(("send_email", "send_message", "send_mail")), "Send a message to a person", {"to": _str("The recipient"), "message": _str("The text")})
    t = ctx.tell("[I am late|The {a} is ready|See you on {d}|Bring the {a}|The meeting is at {n}|Call me on {d}|Happy birthday|I will come at {n}|Please buy {m} {p}|The {a} is broken]", a=ctx.pick(w.THING), d=ctx.pick(w.DAY), n=ctx.int(1, 12), m=ctx.int(2, 20), p=w.plural(ctx.pick(w.FRUIT)))
    return Use(spec, _q(ctx, ["[Send|Write] [a message|an email|a mail] to {n}[:| saying| that says] {t}", "[Tell|Message|Email|Write] {n}[:| that| saying] {t}", "Send \"{t}\" to {n}[.|]"], n=n, t=t), {"to": n, "message": t}, {"status": "sent"} if ctx.chance(0.7) else "ok", "I sent the message to %s." % n, [n])


def convert(ctx):
    a, b = ctx.sample(["USD", "EUR", "GBP", "JPY", "CHF", "CAD", "SEK", "INR"], 2)
    names = ctx.pick((("amount", "from", "to"), ("amount", "from_currency", "to_currency"), ("value", "source", "target")))
    spec = tool(ctx.pick(("convert_currency", "convert", "exchange")), "Convert money from one currency to another", {names[0]: _int("The amount"), names[1]: _str("Source currency"), names[2]: _str("Target currency")})
    x, y = ctx.int(1, 999), ctx.int(1, 9999)
    return Use(spec, _q(ctx, ["[Convert|Change|Exchange] {x} {a} [to|into|in] {b}[.|]", "How much is {x} {a} in {b}?", "What is {x} {a} in {b}?", "How many {b} [is|are|do I get for] {x} {a}?"], x=x, a=a, b=b), {names[0]: x, names[1]: a, names[2]: b}, {"result": y} if ctx.chance(0.6) else {"amount": y, "currency": b}, "%d %s is %d %s." % (x, a, y, b), [str(y)])


def timer(ctx):
    u = ctx.pick(("minutes", "seconds"))
    spec = tool(ctx.pick(("set_timer", "start_timer")), "Set a timer", {u: _int("Length in " + u)})
    n = ctx.int(1, 90)
    return Use(spec, _q(ctx, ["[Set|Start] a timer [for|of] {n} {u}[.|]", "[Set|Start] a {n} {v} timer[.|]", "Timer: {n} {u}", "[Wake|Remind] me in {n} {u}[.|]"], n=n, u=u, v=u[:-1]), {u: n}, {"status": "ok"} if ctx.chance(0.6) else "started", "The timer is set for %d %s." % (n, u), [str(n)])


def light(ctx):
    room = ctx.pick(("kitchen", "bedroom", "bathroom", "office", "hall", "garden", "garage", "living room", "cellar", "attic"))
    on = ctx.chance(0.5)
    spec = tool(ctx.pick(("set_light", "switch_light", "control_light")), "Switch a light on or off", {"room": _str("The room"), "on": {"type": "boolean", "description": "True for on"}})
    s = "on" if on else "off"
    return Use(spec, _q(ctx, ["[Turn|Switch] {s} the {r} light[|s][.|]", "[Turn|Switch] the light[|s] in the {r} {s}[.|]", "[Turn|Switch] the {r} light[|s] {s}[.|]", "Light {s} in the {r}[.|]", PLEASE + "[turn|switch] {s} the light[|s] in the {r}[.|]"], s=s, r=room), {"room": room, "on": on}, {"status": "ok"} if ctx.chance(0.7) else "done", "The light in the %s is %s." % (room, s), [s])


def stock(ctx):
    key = ctx.pick(("symbol", "ticker", "company"))
    b = w.brand(ctx) if key == "company" else ctx.entity(lambda: "".join(ctx.pick("ABCDEFGHKLMNPRSTVWXYZ") for _ in range(ctx.int(3, 4))))
    spec = tool(ctx.pick(("get_stock_price", "stock_price", "get_price")), "Get the price of a stock", {key: _str("The " + key)})
    p = ctx.int(2, 999)
    return Use(spec, _q(ctx, ["[What is|What's] the [stock |share |]price of {b}?", "How much is {b}[| stock] [worth|trading at]?", PLEASE + "[get|check|tell me|look up] the [stock |]price of {b}[.|]", "{b} [stock|share] price[?|]"], b=b), {key: b}, {"price": p}, "The price of %s is %d." % (b, p), [str(p)])


def event(ctx):
    t = ctx.pick(("meeting with %s", "lunch with %s", "call with %s", "dinner with %s", "interview with %s")) % w.first_name(ctx)
    d, h = ctx.pick(w.DAY), "%d:%02d" % (ctx.int(7, 20), ctx.pick((0, 30, 15)))
    spec = tool(ctx.pick(("create_event", "add_event", "schedule")), "Add an event to the calendar", {"title": _str("Title"), "day": _str("Day of the week"), "time": _str("Start")})
    return Use(spec, _q(ctx, ["[Add|Schedule|Create|Plan] a {t} on {d} at {h}[.|]", "[Put|Enter] a {t} [in|into] my calendar[,| for] {d} at {h}[.|]", "{t} on {d} at {h}, [please add it|add it to my calendar][.|]"], t=t, d=d, h=h), {"title": t, "day": d, "time": h}, {"status": "created"} if ctx.chance(0.6) else {"ok": True}, "I added the %s on %s at %s." % (t, d, h), [d, h])


def file(ctx):
    path = ctx.entity(lambda: w.invented(ctx, False).lower()) + ctx.pick((".txt", ".md", ".csv", ".py", ".json", ".log"))
    spec = tool(ctx.pick(("read_file", "open_file", "cat")), "Read a file", {"path": _str("Path of the file")})
    text = ctx.tell("[the {a} {x}|{n} {p}|buy {p}|call {y}|todo: {x}]", a=ctx.pick(w.ADJ), x=ctx.pick(w.THING), n=ctx.int(2, 99), p=w.plural(ctx.pick(w.FRUIT)), y=ctx.pick(w.JOB))
    return Use(spec, _q(ctx, ["[Read|Open|Show me|Print] [the file |]{f}[.|]", "What [is in|does] [|the file ]{f}[ say|]?", "[Show|Give] me the [content|contents] of {f}[.|]"], f=path), {"path": path}, {"content": text} if ctx.chance(0.6) else text, "The file %s says: %s" % (path, text), [text])


_VERBS = "get fetch find lookup read check query load show".split()
_ATTR = "price status owner size address score rank level code colour age height weight length date phone email rating speed balance".split()


def generic(ctx):
    """An invented tool: get_<attribute> of a thing, by name or number. Its name is an entity of the split."""
    attr, thing = ctx.pick(_ATTR), ctx.pick(w.THING + w.ANIMAL + w.JOB + ["user", "order", "account", "product", "customer", "project", "invoice", "team", "server", "device"])
    name = ctx.entity(lambda: ctx.pick((ctx.pick(_VERBS) + "_" + thing + "_" + attr, thing + "_" + attr, ctx.pick(_VERBS) + "_" + attr + "_of_" + thing, ctx.pick(_VERBS) + "_" + w.invented(ctx, False).lower())))
    key = ctx.pick(("id", "name", thing, "key", "ref", thing + "_id"))
    number = key == "id" or key.endswith("_id") or ctx.chance(0.1)
    v = ctx.int(1, 9999) if number else ctx.entity(lambda: w.invented(ctx)) if ctx.chance(0.7) else w.code(ctx)
    spec = tool(name, ctx.tell("[Get|Returns|Look up|Find|Read] the {a} of [a|one] {t}", a=attr, t=thing), {key: (_int if number else _str)(ctx.pick(("The " + key, key + " of the " + thing, "Which " + thing)))})
    r = ctx.int(1, 9999) if ctx.chance(0.5) else ctx.pick(w.COLOUR + w.ADJ)
    q = _q(ctx, ["[What is|What's] the {a} of [|the ]{t} {v}?", PLEASE + "[get|find|look up|tell me|check|show me|fetch] the {a} of [|the ]{t} {v}[.|]", "{t} {v}: what is [the|its] {a}?", "[Which|What] {a} does [|the ]{t} {v} have?", "I need the {a} of [|the ]{t} {v}[.|]"], a=attr, t=thing, v=v)
    rk = attr if ctx.chance(0.7) else ctx.pick(("result", "value", "answer"))
    return Use(spec, q, {key: v}, {rk: r} if ctx.chance(0.8) else str(r), "The %s of %s %s is %s." % (attr, thing, v, r), [str(r)])


def action(ctx):
    """An invented tool that does something and reports success."""
    verb, thing = ctx.pick("create delete start stop open close order book cancel rent clean paint move print share copy lock unlock".split()), ctx.pick(w.THING + ["room", "file", "account", "server", "project", "table", "ticket"])
    name = ctx.entity(lambda: ctx.pick((verb + "_" + thing, verb + "_" + thing, thing + "_" + verb)))
    v = w.place(ctx) if ctx.chance(0.3) else w.brand(ctx) if ctx.chance(0.6) else w.first_name(ctx)
    n = ctx.int(2, 60) if ctx.chance(0.4) else None
    key, nk = ctx.pick(("name", "target", "label", thing)), ctx.pick(("count", "amount", "size", "number"))
    props = {key: _str("The " + key)}
    args = {key: v}
    if n is not None:
        props[nk] = _int("The " + nk)
        args[nk] = n
    q = _q(ctx, [PLEASE + "{v} [the|a] {t} {x}" + ("[ with|, with] {k} {n}" if n is not None else "") + "[.|]", "I want to {v} [the|a] {t} {x}" + (" [with|and use] {k} {n}" if n is not None else "") + "[.|]"], v=verb, t=thing, x=v, n=n, k=nk)
    return Use(tool(name, ctx.tell("{v} [a|one] {t}", v=verb.capitalize(), t=thing), props), q, args, ctx.pick(({"status": "ok"}, {"success": True}, "done", {"result": "ok"})), "Done.", ["done"])


def record(ctx):
    """An invented tool whose arguments are the fields of a sentence: strings, numbers, booleans, lists."""
    from .jsonkind import _record
    text, rows, _ = _record(ctx)
    noun = ctx.pick(("person", "entry", "record", "item", "contact", "note", "row", "data", "order", "profile"))
    name = ctx.entity(lambda: ctx.pick(("save", "store", "add", "create", "register", "insert", "submit", "log", "put", "post")) + "_" + (noun if ctx.chance(0.5) else w.invented(ctx, False).lower()))
    keys = {}
    for k, v, ty in rows:
        keys[k] = {"type": "array", "items": {"type": "string"}, "description": "List of " + k} if ty == "array" else {"type": ty, "description": ctx.pick(("The " + k, k.capitalize()))}
    if len(keys) != len(rows):
        raise Retry
    q = ctx.say(["[Save|Store|Register|Record|Add|Note|Log] this: {t}", "[Please |]{n}: {t}", "{t} [Save|Store|Register|Record|Add] [this|it|that][, please|.|]", "Use {f} [for|with]: {t}", "[Save|Store|Add] the {n}: {t}"], noise=False, t=text, n=ctx.pick(("save", "store", "add", "register")) + " " + noun, f=name)
    return Use(tool(name, ctx.tell("[Save|Store|Register] [a|one|the] {n}", n=noun), keys), q, {k: v for k, v, ty in rows}, ctx.pick(({"status": "ok"}, {"success": True}, "done", {"id": ctx.int(1, 9999)}, {"status": "saved"})), "Done.", ["done"])


USES = [record, record, weather, weather, weather, clock, add_tool, calculate, search, mail, convert, timer, light, stock, event, file, generic, generic, generic, generic, action, action]


def _content(result):
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _tools_with(ctx, specs, sources):
    """The needed tools among zero to five others that do other things, in random order.

    sources: the functions that drew `specs`; no other tool comes from them.
    """
    names = {s["function"]["name"] for s in specs}
    sources = set(sources) | ({add_tool, calculate} if {add_tool, calculate} & set(sources) else set())
    out = list(specs)
    for _ in range(ctx.pick((0, 0, 1, 1, 2, 3, 5))):
        f = ctx.pick(USES)
        if f in sources:
            continue
        s = f(ctx).spec
        if f not in (generic, action, record):
            sources.add(f)
        if s["function"]["name"] not in names:
            names.add(s["function"]["name"])
            out.append(s)
    ctx.rng.shuffle(out)
    return out


def _call_text(calls):
    return "<|tool_call_start|>" + render_calls(calls) + "<|tool_call_end|>"


def _call_judge(calls):
    return {"type": "tool", "calls": [{"name": n, "arguments": a} for n, a in calls]}


def single(ctx):
    """One call; in half of the items its result and the closing answer follow."""
    f = ctx.pick(USES)
    u = f(ctx)
    calls = [(u.spec["function"]["name"], u.args)]
    m = [{"role": "user", "content": u.ask}, {"role": "assistant", "content": _call_text(calls), "calls": calls}]
    judge = _call_judge(calls)
    if not ctx.held or ctx.chance(0.4):
        result, answer, keys = u.result, u.answer, u.keys
        if ctx.chance(0.06):                       # the tool fails
            e = ctx.pick(("not found", "timeout", "access denied", "no connection", "invalid argument", "unknown", "service down", "too many requests", "internal error"))
            result, answer, keys = ctx.pick(({"error": e}, {"status": "error", "message": e}, "error: " + e)), "The tool reported an error: %s." % e, [e]
        m += [{"role": "tool", "content": _content(result)}, {"role": "assistant", "content": answer}]
        judge = {"type": "contains", "all": keys}
    return Item("tools", m, judge, tools=_tools_with(ctx, [u.spec], [f]))


def parallel(ctx):
    """Two requests in one message: two calls in one list."""
    if ctx.chance(0.5):
        for _ in range(60):                        # the same tool twice
            f = ctx.pick((weather, clock))
            a, b = f(ctx), f(ctx)
            key = list(a.spec["function"]["parameters"]["properties"])[0]
            x, y = list(a.args.values())[0], list(b.args.values())[0]
            if x != y and len(a.args) == 1 and len(a.spec["function"]["parameters"]["properties"]) == 1:
                break
        else:
            raise Retry
        name = a.spec["function"]["name"]
        calls = [(name, {key: x}), (name, {key: y})]
        ask = ["[What is|What's|How is] the {w} in {x} and [in |]{y}?", PLEASE + "[tell me|check|get|compare] the {w} in {x} and [in |]{y}[.|]", "{w} in {x} and {y}[?|]", "[What is|What's] the {w} in {x}, and in {y}?"]
        q = _q(ctx, ask, w="weather" if f is weather else "time", x=x, y=y)
        specs, sources = [a.spec], [f]
    else:
        fa, fb = ctx.pick(USES), ctx.pick(USES)
        a, b = fa(ctx), fb(ctx)
        if fa is fb or {fa, fb} == {add_tool, calculate} or a.spec["function"]["name"] == b.spec["function"]["name"]:
            raise Retry
        calls = [(a.spec["function"]["name"], a.args), (b.spec["function"]["name"], b.args)]
        q = a.ask.rstrip(".? ") + ctx.pick((", and ", " and ", ". Also, ", " and also ")) + b.ask[0].lower() + b.ask[1:]
        if ctx.held and ". " in q or not ctx.fits(q):
            q = None
            for j in (" and ", ", and ", " and also ", ", then ", "; also ", ", also ", ", and then "):
                t = a.ask.rstrip(".? ") + j + b.ask[0].lower() + b.ask[1:]
                q = t if ctx.fits(t) else q
            if q is None:
                raise Retry
        specs, sources = [a.spec, b.spec], [fa, fb]
    m = [{"role": "user", "content": q}, {"role": "assistant", "content": _call_text(calls), "calls": calls}]
    judge = _call_judge(calls)
    if not ctx.held:
        m += [{"role": "tool", "content": _content(a.result)}, {"role": "tool", "content": _content(b.result)}, {"role": "assistant", "content": a.answer + " " + b.answer}]
    return Item("tools", m, judge, tools=_tools_with(ctx, specs, sources))


def no_call(ctx):
    """Tools are offered, but the request needs none of them."""
    f = ctx.pick((weather, clock, search, mail, timer, light, stock, event, file, generic, action))
    tools = _tools_with(ctx, [f(ctx).spec], [f])
    tools = [t for t in tools if t["function"]["name"] not in ("calculate", "calculator", "eval", "compute", "search", "web_search", "search_web") and not t["function"]["name"].startswith(("add", "multiply", "subtract", "get_capital"))]
    if not tools:
        raise Retry
    r = ctx.rng.random()
    if r < 0.55:
        f = ctx.pick((dialogue.small_talk, dialogue.introduce, arithmetic.add, arithmetic.multiply, recall.capital, recall.opposite, dialogue.echo))
        if ctx.held and f in (recall.capital, recall.opposite, dialogue.small_talk):
            f = ctx.pick((dialogue.introduce, arithmetic.add))
        it = f(ctx)
        return Item("tools", it.messages, {"type": "no_call", "inner": it.judge}, tools=tools)
    u = ctx.pick((weather, clock, mail, convert, timer, light, stock, event, file, generic))(ctx)
    words = u.spec["function"]["name"].split("_")
    if any(x in t["function"]["name"] for t in tools for x in words if len(x) > 3) or any(set(u.args) & set(t["function"]["parameters"]["properties"]) for t in tools):
        raise Retry
    return Item("tools", [{"role": "user", "content": u.ask}, {"role": "assistant", "content": NO_TOOL}], {"type": "no_call", "inner": {"type": "any", "any": ["do not have", "no tool", "cannot", "don't have"]}}, tools=tools)


WEIGHTED = [(single, 66), (parallel, 16), (no_call, 18)]

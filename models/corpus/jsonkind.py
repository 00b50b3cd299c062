"""JSON answers: fields out of a sentence, by a list of keys or by a JSON schema in the prompt."""
import json

from .core import Item
from . import words as w

# A record: sentence templates and the fields they mention (key variants, value drawer, type).
RECORDS = [
    (["{name} is {age} years old and lives in {city}.", "{name}, {age}, lives in {city}.", "{name} from {city} is {age} years old.", "My name is {name}, I am {age} and I live in {city}.", "I am {name}, {age} years old, from {city}."],
     {"name": (("name",), w.person, "string"), "age": (("age",), lambda c: c.int(18, 95), "integer"), "city": (("city", "town"), w.place, "string")}),
    (["{name} is {age} years old.", "{name} is {age}.", "{name} ({age})", "My name is {name} and I am {age}.", "There is {name}, who is {age} years old."],
     {"name": (("name", "person"), w.person, "string"), "age": (("age",), lambda c: c.int(1, 99), "integer")}),
    (["{name} lives in {city}.", "{name} comes from {city}.", "{name} moved to {city}."], {"name": (("name", "person"), w.person, "string"), "city": (("city", "place", "location"), w.place, "string")}),
    (["{name} works as a {job} at {company}.", "{name} is a {job} and works for {company}.", "The {job} {name} works at {company}."],
     {"name": (("name",), w.person, "string"), "job": (("job", "profession", "occupation"), lambda c: c.pick([j for j in w.JOB if j[0] not in "aeiou"]), "string"), "company": (("company", "employer"), w.brand, "string")}),
    (["The {product} costs {price} dollars and comes in {color}.", "The {color} {product} costs {price} dollars.", "You can buy the {product} in {color} for {price} dollars."],
     {"product": (("product", "name", "item"), w.brand, "string"), "price": (("price", "cost"), lambda c: c.int(2, 999), "integer"), "color": (("color", "colour"), lambda c: c.pick(w.COLOUR), "string")}),
    (["{name} ordered {count} {item}.", "{name} bought {count} {item}.", "An order by {name}: {count} {item}.", "{count} {item} for {name}."],
     {"name": (("name", "customer", "buyer"), w.person, "string"), "count": (("count", "quantity", "amount"), lambda c: c.int(2, 99), "integer"), "item": (("item", "product"), lambda c: w.plural(c.pick(w.THING + w.FRUIT)), "string")}),
    (["The {event} is on {date} in {city}.", "The {event} takes place in {city} on {date}.", "On {date} the {event} is held in {city}."],
     {"event": (("event", "name", "title"), lambda c: c.entity(lambda: w.invented(c)) + " " + c.pick(("Fair", "Festival", "Meeting", "Race", "Concert")), "string"),
      "date": (("date", "day"), lambda c: "%s %d" % (c.pick(w.MONTH), c.int(1, 28)), "string"), "city": (("city", "place", "location"), w.place, "string")}),
    (["{name} has a {animal} called {pet}.", "The {animal} of {name} is called {pet}.", "{pet} is the {animal} of {name}."],
     {"name": (("owner", "name"), w.first_name, "string"), "animal": (("animal", "species"), lambda c: c.pick([a for a in w.ANIMAL if a[0] not in "aeiou"]), "string"), "pet": (("pet", "pet_name"), w.first_name, "string")}),
    (["{name} is {age} years old and is {neg}married.", "{name}, {age}, is {neg}married."], {"name": (("name",), w.person, "string"), "age": (("age",), lambda c: c.int(18, 95), "integer"), "married": (("married", "is_married"), lambda c: c.chance(0.5), "boolean")}),
    (["It is {temp} degrees and {sky} in {city}.", "{city}: {sky}, {temp} degrees.", "In {city} it is {sky} with {temp} degrees."],
     {"city": (("city", "location"), w.place, "string"), "temp": (("temperature", "temp", "degrees"), lambda c: c.int(1, 39), "integer"), "sky": (("condition", "weather", "sky"), lambda c: c.pick(("sunny", "cloudy", "rainy", "windy", "foggy", "clear")), "string")}),
    (["The book {title} was written by {name} in {year}.", "{name} wrote the book {title} in {year}.", "{title} ({year}) is a book by {name}."],
     {"title": (("title", "book"), lambda c: "The " + c.pick(w.ADJ).capitalize() + " " + c.entity(lambda: w.invented(c)), "string"), "name": (("author", "writer"), w.person, "string"), "year": (("year",), lambda c: c.int(1800, 2024), "integer")}),
    (["{name} likes {likes}.", "The hobbies of {name} are {likes}.", "{name} enjoys {likes}."],
     {"name": (("name", "person"), w.person, "string"), "likes": (("hobbies", "likes", "interests"), lambda c: c.sample(w.HOBBY, c.int(2, 4)), "array")}),
    (["{name} has {items} in the bag.", "In the bag of {name} there are {items}.", "{name} bought {items}."],
     {"name": (("name", "owner"), w.person, "string"), "items": (("items", "things", "objects"), lambda c: [w.plural(x) for x in c.sample(w.THING + w.FRUIT, c.int(2, 4))], "array")}),
    (["You can write to {name} at {mail} or call {phone}.", "{name}: {mail}, {phone}", "The mail address of {name} is {mail} and the phone number is {phone}."],
     {"name": (("name", "contact"), w.person, "string"), "mail": (("email", "mail"), lambda c: c.entity(lambda: w.invented(c, False)).lower() + "@" + c.pick(("mail", "post", "example", "office")) + c.pick((".com", ".org", ".net")), "string"),
      "phone": (("phone", "phone_number"), lambda c: "%d-%04d" % (c.int(200, 999), c.int(0, 9999)), "string")}),
    (["The capital of {country} is {capital}.", "{capital} is the capital of {country}."], {"country": (("country",), lambda c: c.entity(lambda: w.invented(c) if c.chance(0.8) else w.invented(c) + "ia"), "string"), "capital": (("capital", "city"), w.place, "string")}),
]
KEYS = ["[Return|Give me|Extract|Write|Output|Answer with|Respond with|Reply with|Produce|Create|Make] [a |]JSON[| object] with [the |][keys|fields] {k}[.| for this text| from this text| from the text]: {t}",
        "[Extract|Get|Pull out|Find] {k} [from the text |from this |from the sentence |]as [a |]JSON[| object][:|.] {t}", "{t} [Return|Give me|Extract|Output|Answer with|Respond with] [a |]JSON[| object] with [the |]{k}[.|]",
        "{t} [Extract|Return] {k} as JSON[.|]", "{t}\n[Return|Write|Output] [this|it|that] as JSON with [the |][keys|fields] {k}[.|]", "[Convert|Turn|Change|Transform] [this|the text|the sentence] [in|]to JSON with [the |][keys|fields] {k}: {t}",
        "Text: {t}\nJSON [keys|fields]: {k}", "{t}\n\n[Answer in JSON|Reply as JSON|JSON only|As JSON] with {k}[.|]"]
SCHEMA = ["[Answer|Reply|Respond] [in|with] JSON [that follows|matching|according to] this schema: {j}\n{t}", "{t}\n[Answer|Reply|Respond|Fill] [in|with|as] JSON [matching|following] [the|this] schema[:|] {j}",
          "[Extract the data|Fill the schema|Extract the fields] [from the text|from this text]: {t}\nSchema: {j}", "Schema: {j}\nText: {t}", "{j}\n{t}"]


def _dump(v):
    return json.dumps(v, ensure_ascii=False)


def _record(ctx):
    """Draw a record: the sentence, and a list of (key, value, type)."""
    templates, fields = ctx.pick(RECORDS)
    values = {k: f[1](ctx) for k, f in fields.items()}
    slots = {k: (w.english_list(v) if isinstance(v, list) else v) for k, v in values.items()}
    slots["neg"] = "" if values.get("married") else "not "
    t = ctx.say(templates, noise=False, **slots)
    out = [(ctx.pick(f[0]) if ctx.chance(0.5) else f[0][0], values[k], f[2]) for k, f in fields.items()]
    return t, out, fields


def schema_of(rows, ctx):
    props = {k: ({"type": ty} if ty != "array" else {"type": "array", "items": {"type": "string"}}) for k, v, ty in rows}
    s = {"type": "object", "properties": props}
    if ctx.chance(0.6):
        s["required"] = [k for k, v, ty in rows]
    if ctx.chance(0.2):
        s["additionalProperties"] = False
    return s


def extract(ctx):
    t, rows, fields = _record(ctx)
    if ctx.chance(0.35):
        rows = ctx.sample(rows, len(rows))
    if len(rows) > 2 and ctx.chance(0.25):
        rows = rows[:2]
    obj = {k: v for k, v, ty in rows}
    if len(obj) != len(rows):
        return extract(ctx)
    system = None
    r = ctx.rng.random()
    if r < 0.28:
        j = _dump(schema_of(rows, ctx))
        if ctx.chance(0.3) and not ctx.held:
            system = ctx.say("[Answer|Reply|Respond] [in|with] JSON [that follows|matching|according to] this schema: {j}", noise=False, j=j)
            q = t
        else:
            q = ctx.say(SCHEMA, noise=False, j=j, t=t)
    elif r < 0.36 and not ctx.held:
        system = ctx.say("[Answer|Reply|Respond|Always answer] [in|with|as] JSON with [the |][keys|fields] {k}.", noise=False, k=w.english_list(obj))
        q = t
    else:
        names = list(obj)
        if ctx.chance(0.15):
            names = ['"%s"' % n for n in names]
        k = w.english_list(names) if ctx.chance(0.7) else ", ".join(names)
        q = ctx.say(KEYS, noise=ctx.chance(0.3), k=k, t=t)
    return Item("json", [{"role": "user", "content": q}, {"role": "assistant", "content": _dump(obj)}], {"type": "json", "value": obj}, system=system)


def plain_json(ctx):
    """Keys follow from the text: name and age, city and so on."""
    t, rows, fields = _record(ctx)
    rows = [(f[0][0], v, ty) for f, (k, v, ty) in zip(fields.values(), rows)]
    obj = {k: v for k, v, ty in rows}
    q = ctx.say(["[Convert|Turn|Change|Transform|Translate] [this|the sentence|this text|the text] [in|]to [a |]JSON[| object]: {t}", "{t} [As JSON|As a JSON object|Give me that as JSON|Write that as JSON|Return JSON][, please|.|]", "JSON for: {t}"], noise=False, t=t)
    return Item("json", [{"role": "user", "content": q}, {"role": "assistant", "content": _dump(obj)}], {"type": "json", "value": obj})


def list_json(ctx):
    """A JSON array of words or numbers, or an object around it."""
    xs = ctx.sample(w.FRUIT + w.ANIMAL + w.THING, ctx.int(2, 6)) if ctx.chance(0.5) else [ctx.int(0, 99) for _ in range(ctx.int(2, 6))]
    l = ", ".join(map(str, xs)) if ctx.chance(0.5) else w.english_list(map(str, xs))
    if ctx.chance(0.6):
        q = ctx.say(["[Write|Return|Give me|Output|Show|Convert|Turn] [this list|these|these items|the list] [as|to|into] [a |]JSON [array|list]: {l}", "[Make|Write|Create] a JSON [array|list] [of|from|with][|:] {l}[.|]", "{l} as [a |]JSON [array|list][.|, please]"], l=l)
        obj = xs
    else:
        k = ctx.pick(("items", "values", "list", "data", "result", "words" if isinstance(xs[0], str) else "numbers"))
        q = ctx.say(["[Write|Return|Give me|Output] a JSON object with [the |][key|field] {k} [holding|containing|and] the list {l}[.|]", "[Put|Write] {l} into a JSON object under [the key |]{k}[.|]", "JSON object, key {k}, values {l}[.|]"], k=k, l=l)
        obj = {k: xs}
    return Item("json", [{"role": "user", "content": q}, {"role": "assistant", "content": _dump(obj)}], {"type": "json", "value": obj})


def pairs_json(ctx):
    """Explicit pairs: name = Anna, age = 31."""
    _, rows, _ = _record(ctx)
    obj = {k: v for k, v, ty in rows if not isinstance(v, list)}
    sep = ctx.pick((" = ", ": ", "=", " is "))
    l = ctx.pick((", ", "; ", ", ", "\n")).join("%s%s%s" % (k, sep, _dump(v) if isinstance(v, bool) else v) for k, v in obj.items())
    q = ctx.say(["[Write|Return|Give me|Output|Make|Create] [a |]JSON[| object][ with|:|] {l}", "[Convert|Turn|Change|Put] [this |these |]into [a |]JSON[| object]: {l}", "{l}\nas JSON[| please]", "JSON: {l}"], noise=False, l=l)
    return Item("json", [{"role": "user", "content": q}, {"role": "assistant", "content": _dump(obj)}], {"type": "json", "value": obj})


def many(ctx):
    """Several people in one text: an array of objects."""
    n = ctx.int(2, 4)
    rows = [(w.first_name(ctx), ctx.int(1, 99)) for _ in range(n)]
    t = " ".join(ctx.say(["{a} is {b} years old.", "{a} is {b}.", "{a} turned {b}."], noise=False, a=a, b=b) for a, b in rows)
    q = ctx.say(["[Return|Write|Give me|Output|Extract] a JSON [array|list] of objects with name and age[.|:] {t}", "{t} [Return|Give me|Write] [the people|them|everyone] as a JSON [array|list] [of objects |]with name and age[.|]", "[Extract|List] all [people|persons] as JSON [array |]with name and age: {t}"], noise=False, t=t)
    obj = [{"name": a, "age": b} for a, b in rows]
    return Item("json", [{"role": "user", "content": q}, {"role": "assistant", "content": _dump(obj)}], {"type": "json", "value": obj})


FREE = [("a person", {"name": "Anna", "age": 31}), ("a user", {"name": "Anna", "age": 31}), ("a city", {"name": "Paris", "country": "France"}), ("a book", {"title": "The Old Key", "author": "Clara Marlow"}), ("a car", {"color": "red", "doors": 4}),
        ("an animal", {"name": "Pip", "species": "dog"}), ("a product", {"name": "lamp", "price": 20}), ("a fruit", {"name": "apple", "color": "red"}), ("an object", {"name": "Anna", "age": 31}), ("an example", {"name": "Anna", "age": 31}), ("", {"name": "Anna", "age": 31})]


def free(ctx):
    """JSON with no data given: always the same example."""
    what, obj = ctx.pick(FREE)
    q = ctx.say(["[Give me|Write|Generate|Return|Make|Output|Create|Show me] [a |some |an example of |valid ]JSON[| object][.|]", "[An example|A sample] of JSON[, please|.|]"] if not what else
                ["[Give me|Write|Generate|Return|Make|Output|Create|Describe|Show me] {x} [as|in] [a |]JSON[| object| format][.|]", "[Give me|Write|Generate|Return|Make|Output|Create] [a |]JSON[| object] [for|describing|of|about] {x}[.|]", "{x} as JSON[, please|.|]", "[Invent|Imagine|Make up] {x} and [return|give] [it|me] [as |]JSON[.|]"], x=what)
    return Item("json", [{"role": "user", "content": q[0].upper() + q[1:]}, {"role": "assistant", "content": _dump(obj)}], {"type": "json", "value": obj})


def literal(ctx):
    """The user writes the JSON out."""
    obj = {}
    for _ in range(ctx.int(1, 4)):
        k = ctx.pick(("ok", "status", "name", "id", "value", "result", "count", "error", "x", "y", "a", "b", "items", "type", "done", "message", "n", "key"))
        obj[k] = ctx.pick((True, False, None, ctx.int(0, 999), ctx.pick(w.THING + w.COLOUR), [ctx.int(0, 9) for _ in range(ctx.int(0, 4))], w.string(ctx)))
    j = _dump(obj) if ctx.chance(0.7) else json.dumps(obj, ensure_ascii=False, separators=(",", ":"))
    q = ctx.say(["[Return|Output|Print|Write|Repeat|Echo|Say|Give me|Reply with|Answer with|Respond with] [exactly |][the JSON |this JSON |JSON |the object |this: |: |]{j}[.|]", "{j}: [repeat|return|print] [it|this][.|]"], noise=False, j=j)
    return Item("json", [{"role": "user", "content": q}, {"role": "assistant", "content": _dump(obj)}], {"type": "json", "value": obj})


WEIGHTED = [(extract, 58), (plain_json, 10), (list_json, 12), (pairs_json, 12), (many, 8), (free, 5), (literal, 7)]

"""Small Python functions from templates; names and constants vary, answers are judged by running them."""
import re

from .core import qa, ALWAYS_TRAIN
from . import words as w

ASK = ["[Write|Create|Make|Give me|Define|Implement|I need|Please write|Can you write|Could you write|Show me|Code] [a|a short|a small|a simple|one] [Python |Python |python |]function [|called {f} |named {f} ]that {d}[.|]",
       "[Write|Create|Define|Implement|Please write|Code] [a|the] [Python |python |]function [{f}|`{f}`] [that|which] {d}[.|]", "[In Python|Python|In python|Using Python], [write|define|implement] [a function|{f}|a function {f}] [that|which] {d}[.|]",
       "[Python|python] function [|{f} |called {f} ][that|which] {d}[|, please]", "[Write|Give me|Show me] [|some |the ][Python|python] code for a function [|{f} ][that|which] {d}[.|]",
       "[How do I write|How would you write|What does it look like to write] a [Python |]function [|{f} ]that {d}?"]
TO = ["[Write|Create|Make|Give me|Define|Implement|I need|Please write|Can you write|Could you write|Show me|Code] [a|a short|a small|a simple|one] [Python |Python |python |]function [|called {f} |named {f} ]to {d}[.|]",
      "[Python|python] function [|{f} ]to {d}[|, please]", "[How do I|How can I] {d} in [Python|python]?", "[Write|Give me|Show me] [|some |the ][Python|python] code to {d}[.|]", "[Write|Create|Define] a [Python |]function [{f}|`{f}`] to {d}[.|]"]
SIG = ["[Write|Implement|Complete|Define|Fill in] {sig}[| in Python| in python] [so that it|which|that] {d}[.|]", "[Complete|Finish] [this|the] [|Python |python ]function: def {sig}: it {d}[.|]"]

# default name, parameters, description, body lines, tests (arguments, result); K is a constant, s a separator
FUNCS = [
    ("add", "a b", "[adds two numbers|returns the sum of two numbers|adds {a} and {b}|returns {a} + {b}|returns {a} plus {b}|takes two numbers and returns their sum|sums two numbers]", ["return {a} + {b}"], [((2, 3), 5), ((-4, 9), 5)]),
    ("subtract", "a b", "[subtracts two numbers|returns the difference of two numbers|subtracts {b} from {a}|returns {a} - {b}|returns {a} minus {b}]", ["return {a} - {b}"], [((7, 3), 4)]),
    ("multiply", "a b", "[multiplies two numbers|returns the product of two numbers|multiplies {a} and {b}|multiplies {a} by {b}|returns {a} * {b}|returns {a} times {b}]", ["return {a} * {b}"], [((4, 5), 20)]),
    ("divide", "a b", "[divides two numbers|divides {a} by {b}|returns {a} / {b}|returns the quotient of two numbers]", ["return {a} / {b}"], [((9, 3), 3)]),
    ("maximum", "a b", "[returns the larger of two numbers|returns the maximum of two numbers|finds the bigger of two numbers|returns the larger of {a} and {b}|returns the maximum of {a} and {b}]", ["return max({a}, {b})"], [((4, 9), 9)]),
    ("minimum", "a b", "[returns the smaller of two numbers|returns the minimum of two numbers|finds the smaller of two numbers|returns the smaller of {a} and {b}|returns the minimum of {a} and {b}]", ["return min({a}, {b})"], [((4, 9), 4)]),
    ("max_of_three", "a b c", "[returns the largest of three numbers|returns the maximum of three numbers|finds the biggest of three numbers]", ["return max({a}, {b}, {c})"], [((4, 9, 2), 9)]),
    ("add_three", "a b c", "[adds three numbers|returns the sum of three numbers|adds {a}, {b} and {c}]", ["return {a} + {b} + {c}"], [((4, 9, 2), 15)]),
    ("square", "n", "[squares a number|returns the square of a number|returns {n} squared|returns the square of {n}]", ["return {n} * {n}"], [((7,), 49)]),
    ("cube", "n", "[cubes a number|returns the cube of a number|returns the cube of {n}]", ["return {n} * {n} * {n}"], [((3,), 27)]),
    ("double", "n", "[doubles a number|returns twice a number|returns the double of {n}|returns twice {n}]", ["return {n} * 2"], [((7,), 14)]),
    ("half", "n", "[halves a number|returns half of a number|returns half of {n}]", ["return {n} / 2"], [((8,), 4)]),
    ("power", "a b", "[raises {a} to the power of {b}|returns {a} to the power of {b}|computes the power of two numbers]", ["return {a} ** {b}"], [((2, 5), 32)]),
    ("remainder", "a b", "[returns the remainder of {a} divided by {b}|returns {a} modulo {b}|computes the remainder of two numbers]", ["return {a} % {b}"], [((17, 5), 2)]),
    ("average", "a b", "[returns the average of two numbers|computes the mean of two numbers|averages {a} and {b}]", ["return ({a} + {b}) / 2"], [((4, 8), 6)]),
    ("absolute", "n", "[returns the absolute value of a number|returns the absolute value of {n}|computes the absolute value of a number]", ["return abs({n})"], [((-7,), 7)]),
    ("negate", "n", "[negates a number|returns the negative of a number|returns minus {n}]", ["return -{n}"], [((7,), -7)]),
    ("is_even", "n", "[checks if a number is even|returns True if a number is even|tells whether {n} is even|checks whether {n} is even]", ["return {n} % 2 == 0"], [((4,), True), ((5,), False)]),
    ("is_odd", "n", "[checks if a number is odd|returns True if a number is odd|tells whether {n} is odd|checks whether {n} is odd]", ["return {n} % 2 == 1"], [((4,), False), ((5,), True)]),
    ("is_positive", "n", "[checks if a number is positive|returns True if a number is positive|tells whether {n} is positive]", ["return {n} > 0"], [((4,), True), ((-5,), False)]),
    ("add_k", "n", "[adds {k} to a number|returns a number plus {k}|adds {k} to {n}|returns {n} plus {k}|returns {n} + {k}]", ["return {n} + {k}"], "add"),
    ("multiply_by_k", "n", "[multiplies a number by {k}|returns a number times {k}|multiplies {n} by {k}|returns {n} * {k}]", ["return {n} * {k}"], "mul"),
    ("subtract_k", "n", "[subtracts {k} from a number|returns a number minus {k}|subtracts {k} from {n}|returns {n} - {k}]", ["return {n} - {k}"], "sub"),
    ("is_divisible_by_k", "n", "[checks if a number is divisible by {k}|returns True if a number is divisible by {k}|checks whether {n} is divisible by {k}]", ["return {n} % {k} == 0"], "div"),
    ("is_greater_than_k", "n", "[checks if a number is greater than {k}|returns True if a number is larger than {k}|checks whether {n} is greater than {k}]", ["return {n} > {k}"], "gt"),
    ("always_k", "", "[always returns {k}|returns {k}|returns {k}|returns the number {k}|returns the constant {k}]", ["return {k}"], "const"),
    ("factorial", "n", "[computes the factorial of a number|returns the factorial of a number|calculates the factorial of {n}|returns {n} factorial|computes a factorial]",
     ["result = 1", "for i in range(2, {n} + 1):", "    result *= i", "return result"], [((5,), 120), ((0,), 1)]),
    ("fibonacci", "n", "[returns the nth Fibonacci number|computes the nth Fibonacci number|calculates Fibonacci numbers|returns Fibonacci number {n}]",
     ["a, b = 0, 1", "for _ in range({n}):", "    a, b = b, a + b", "return a"], [((7,), 13), ((1,), 1)]),
    ("is_prime", "n", "[checks if a number is prime|returns True if a number is prime|tells whether {n} is prime|checks whether {n} is a prime number]",
     ["if {n} < 2:", "    return False", "for i in range(2, int({n} ** 0.5) + 1):", "    if {n} % i == 0:", "        return False", "return True"], [((7,), True), ((9,), False), ((1,), False)]),
    ("sum_to", "n", "[adds the numbers from 1 to {n}|returns the sum of the numbers from 1 to {n}|sums all integers up to {n}]", ["return sum(range(1, {n} + 1))"], [((4,), 10)]),
    ("gcd", "a b", "[returns the greatest common divisor of two numbers|computes the gcd of {a} and {b}|computes the greatest common divisor of {a} and {b}]", ["while {b}:", "    {a}, {b} = {b}, {a} % {b}", "return {a}"], [((12, 18), 6)]),
    ("reverse_string", "s", "[reverses a string|returns a string reversed|reverses the string {s}|returns the reverse of a string|returns a string backwards]", ["return {s}[::-1]"], [(("abc",), "cba")]),
    ("is_palindrome", "s", "[checks if a string is a palindrome|returns True if a string is a palindrome|tells whether {s} is a palindrome|checks whether a word is a palindrome]", ["return {s} == {s}[::-1]"], [(("anna",), True), (("ab",), False)]),
    ("count_vowels", "s", "[counts the vowels in a string|returns the number of vowels in a string|counts vowels|counts the vowels in {s}]", ['return sum(1 for c in {s}.lower() if c in "aeiou")'], [(("Banana",), 3)]),
    ("to_upper", "s", "[converts a string to upper case|returns a string in upper case|makes a string uppercase|converts {s} to uppercase]", ["return {s}.upper()"], [(("ab",), "AB")]),
    ("to_lower", "s", "[converts a string to lower case|returns a string in lower case|makes a string lowercase|converts {s} to lowercase]", ["return {s}.lower()"], [(("AB",), "ab")]),
    ("string_length", "s", "[returns the length of a string|counts the characters in a string|returns the length of {s}]", ["return len({s})"], [(("abcd",), 4)]),
    ("count_words", "s", "[counts the words in a string|returns the number of words in a sentence|counts the words in {s}]", ["return len({s}.split())"], [(("a b c",), 3)]),
    ("first_char", "s", "[returns the first character of a string|returns the first letter of {s}|returns the first letter of a string]", ["return {s}[0]"], [(("abc",), "a")]),
    ("last_char", "s", "[returns the last character of a string|returns the last letter of {s}|returns the last letter of a string]", ["return {s}[-1]"], [(("abc",), "c")]),
    ("repeat_string", "s n", "[repeats a string {n} times|returns {s} repeated {n} times]", ["return {s} * {n}"], [(("ab", 3), "ababab")]),
    ("join_strings", "a b", "[joins two strings|concatenates two strings|concatenates {a} and {b}]", ["return {a} + {b}"], [(("x", "y"), "xy")]),
    ("sum_list", "xs", "[sums a list of numbers|returns the sum of a list|adds up all numbers in a list|returns the sum of the numbers in {xs}]", ["return sum({xs})"], [(([1, 2, 3],), 6)]),
    ("max_list", "xs", "[returns the largest number in a list|finds the maximum of a list|returns the maximum of {xs}]", ["return max({xs})"], [(([1, 7, 3],), 7)]),
    ("min_list", "xs", "[returns the smallest number in a list|finds the minimum of a list|returns the minimum of {xs}]", ["return min({xs})"], [(([4, 1, 3],), 1)]),
    ("average_list", "xs", "[returns the average of a list|computes the mean of a list of numbers|averages a list of numbers]", ["return sum({xs}) / len({xs})"], [(([2, 4, 6],), 4)]),
    ("reverse_list", "xs", "[reverses a list|returns a list in reverse order|returns {xs} reversed]", ["return {xs}[::-1]"], [(([1, 2, 3],), [3, 2, 1])]),
    ("sort_list", "xs", "[sorts a list|returns a sorted list|sorts the list {xs}|sorts a list of numbers]", ["return sorted({xs})"], [(([3, 1, 2],), [1, 2, 3])]),
    ("count_items", "xs", "[counts the items in a list|returns the length of a list|returns the number of elements in {xs}]", ["return len({xs})"], [(([3, 1],), 2)]),
    ("even_numbers", "xs", "[returns the even numbers in a list|filters the even numbers from a list|keeps only the even numbers of {xs}]", ["return [x for x in {xs} if x % 2 == 0]"], [(([1, 2, 4],), [2, 4])]),
    ("odd_numbers", "xs", "[returns the odd numbers in a list|filters the odd numbers from a list|keeps only the odd numbers of {xs}]", ["return [x for x in {xs} if x % 2 == 1]"], [(([1, 2, 3],), [1, 3])]),
    ("square_all", "xs", "[squares every number in a list|returns the squares of a list of numbers|squares all numbers in {xs}]", ["return [x * x for x in {xs}]"], [(([1, 2, 3],), [1, 4, 9])]),
    ("greater_than_k", "xs", "[returns the numbers in a list that are greater than {k}|keeps the numbers greater than {k} in a list|filters a list to numbers larger than {k}]", ["return [x for x in {xs} if x > {k}]"], "filter"),
    ("first_item", "xs", "[returns the first item of a list|returns the first element of {xs}]", ["return {xs}[0]"], [(([5, 6],), 5)]),
    ("last_item", "xs", "[returns the last item of a list|returns the last element of {xs}]", ["return {xs}[-1]"], [(([5, 6],), 6)]),
    ("unique", "xs", "[removes duplicates from a list|returns the unique items of a list|removes duplicates from {xs}]", ["return list(dict.fromkeys({xs}))"], [(([1, 1, 2],), [1, 2])]),
    ("count_value", "xs x", "[counts how often {x} occurs in a list|counts {x} in {xs}|returns how often {x} occurs in {xs}]", ["return {xs}.count({x})"], [(([1, 1, 2], 1), 2)]),
    ("contains", "xs x", "[checks if {x} is in a list|checks whether a list contains {x}|returns True if {x} is in {xs}]", ["return {x} in {xs}"], [(([1, 2], 2), True)]),
    ("greet", "name", "[greets a person by name|returns a greeting for a name|returns Hello and the {name}|greets {name}]", ['return "Hello, " + {name} + "!"'], [(("Al",), "Hello, Al!")]),
    ("celsius_to_fahrenheit", "c", "[converts Celsius to Fahrenheit|converts a temperature from Celsius to Fahrenheit]", ["return {c} * 9 / 5 + 32"], [((100,), 212)]),
    ("fahrenheit_to_celsius", "f", "[converts Fahrenheit to Celsius|converts a temperature from Fahrenheit to Celsius]", ["return ({f} - 32) * 5 / 9"], [((212,), 100)]),
    ("circle_area", "r", "[computes the area of a circle|returns the area of a circle with radius {r}]", ["return 3.14159 * {r} * {r}"], [((1,), 3.14159)]),
    ("rectangle_area", "a b", "[computes the area of a rectangle|returns the area of a rectangle with sides {a} and {b}]", ["return {a} * {b}"], [((4, 5), 20)]),
]
PARAMS = {"a": ("a", "a", "a", "x", "p", "left", "first"), "b": ("b", "b", "b", "y", "q", "right", "second"), "c": ("c", "z", "third"), "n": ("n", "n", "n", "x", "number", "value", "num", "k"),
          "s": ("s", "s", "text", "word", "string"), "xs": ("xs", "numbers", "items", "values", "lst"), "x": ("x", "item", "value"), "name": ("name",), "f": ("f",), "r": ("r", "radius")}
_VERB = "get make do run calc find build use apply try compute work solve handle give produce eval".split()


_NAME = re.compile(r"\w+")


def infinitive(d):
    """[adds two numbers|returns ...] -> [add two numbers|return ...]"""
    return "[" + "|".join(re.sub(r"^((?:always )?\w+?)s\b", r"\1", t).replace(" and returns", " and return") for t in d.strip("[]").split("|")) + "]"


def function_name(ctx, default):
    """The default, or a name that the user makes up (an entity of the split)."""
    if not ctx.held and ctx.chance(0.3):
        return default
    return ctx.entity(lambda: ctx.pick((
        ctx.pick(_VERB) + "_" + ctx.pick(w.THING + w.ANIMAL + w.FRUIT), ctx.pick(w.ANIMAL + w.FRUIT + w.THING) + "_" + ctx.pick(_VERB), w.invented(ctx, False).lower(),
        ctx.pick(_VERB) + "_" + w.invented(ctx, False).lower(), "my_" + ctx.pick(w.THING + w.ANIMAL), ctx.pick(("foo", "bar", "f", "g", "baz", "func", "solve", "run", "helper", "process", "main", "compute")), ctx.pick(_VERB) + ctx.pick(w.THING).capitalize())))


def _tests(spec, k):
    if spec == "add":
        return [((5,), 5 + k), ((-1,), k - 1)]
    if spec == "mul":
        return [((5,), 5 * k)]
    if spec == "sub":
        return [((5,), 5 - k)]
    if spec == "div":
        return [((3 * k,), True), ((3 * k + 1,), k == 1)]
    if spec == "gt":
        return [((k + 1,), True), ((k,), False)]
    if spec == "const":
        return [((), k)]
    if spec == "filter":
        return [(([k - 1, k, k + 1, k + 5],), [k + 1, k + 5])]
    return spec


def function(ctx):
    name, params, d, body, tests = ctx.pick(FUNCS)
    k = ctx.int(2, 12) if name == "is_divisible_by_k" else ctx.int(2, 99)
    asked = name.replace("_k", "_%d" % k) if name.endswith("_k") else name
    slots = {"k": k}
    for p in params.split():
        slots[p] = ctx.pick(PARAMS[p]) if ctx.chance(0.35) else p
    if len(set(slots[p] for p in params.split())) != len(params.split()):
        for p in params.split():
            slots[p] = p
    if name == "fibonacci" and slots["n"] in ("a", "b"):
        slots["n"] = "n"
    fname = function_name(ctx, asked)
    if ctx.chance(0.2):                            # the signature is given
        sig = fname + "(" + ", ".join(slots[p] for p in params.split()) + ")"
        q = ctx.say([t.replace("{d}", d) for t in SIG], sig=sig, **slots)
        used = True
    else:
        asks = [t.replace("{d}", d) for t in ASK] if ctx.chance(0.7) else [t.replace("{d}", infinitive(d)) for t in TO]
        q = ctx.say(asks, **{**slots, "f": fname})
        seen = _NAME.findall(q)
        if any(slots[p] not in seen for p in params.split()):
            # a parameter that the question does not name has its usual name
            slots.update((p, p) for p in params.split())
            q = ctx.say(asks, **{**slots, "f": fname})
        used = fname in q
    if ctx.held and not used:
        return function(ctx)
    if not used:
        fname = asked
    head = "def %s(%s):" % (fname, ", ".join(slots[p] for p in params.split()))
    lines = [ctx.tell(line.replace("[", "\x01").replace("]", "\x02"), **slots).replace("\x01", "[").replace("\x02", "]") for line in body]
    code = head + "\n" + "\n".join("    " + line for line in lines)
    t = _tests(tests, k)
    return qa("code", q[0].upper() + q[1:] if not q.startswith(fname) else q, "```python\n" + code + "\n```", {"type": "code", "entry": fname, "tests": [[list(a), r] for a, r in t]})


def snippet(ctx):
    """Lines that are no function: a loop, a print, an assignment."""
    r = ctx.int(0, 5)
    if r == 0:
        n = ctx.int(2, 99)
        q = ctx.say(["[Write|Show me|Give me] a [Python |python ][|for ]loop that prints [the |]numbers [from |]1 to {n}[.|]", "[Write|Give me] [Python|python] code that prints [the |]numbers [from |]1 to {n}[.|]", "[How do I|How can I] print the numbers [from |]1 to {n} in Python?"], n=n)
        code, out = "for i in range(1, %d):\n    print(i)" % (n + 1), "\n".join(map(str, range(1, n + 1)))
    elif r == 1:
        t = ctx.tell("{a} {b}", a=ctx.pick(w.ADJ), b=ctx.pick(w.THING + w.ANIMAL)) if ctx.chance(0.6) else w.first_name(ctx)
        if ctx.chance(0.25) and not ctx.held:
            t = ctx.pick(("Hello, world!", "Hello, World!", "hello world", "Hello World", "Hello world", "hello", "Hello, World!", "Hi"))
        q = ctx.say(["[Write|Show me|Give me] [a |][Python|python] [code|program|line|script] that prints [|the text ]\"{t}\"[.|]", "[How do I|How can I] print \"{t}\" in Python?", "Print \"{t}\" in [Python|python][.|]"], t=t)
        code, out = 'print("%s")' % t, t
    elif r == 2:
        xs = ctx.sample(w.FRUIT + w.ANIMAL + w.THING, ctx.int(2, 5))
        v = ctx.pick(("items", "words", "names", "xs", "values"))
        q = ctx.say(["[Write|Show me|Give me] a [Python|python] list [called|named] {v} with {l}[.|]", "[Make|Create|Define] a [Python|python] list {v} [with|of|containing] {l}[.|]"], v=v, l=w.english_list(xs))
        code, out = "%s = [%s]" % (v, ", ".join('"%s"' % x for x in xs)), ""
    elif r == 3:
        n, v = ctx.int(0, 999), ctx.pick(w.THING + w.ANIMAL + ["x", "y", "n", "count", "total", "size", "age"])
        q = ctx.say(["[Set|Assign] [the |][Python |]variable {v} to {n}[| in Python| in python][.|]", "[Write|Show me] [a |][Python|python] [line|code|assignment] that sets {v} to {n}[.|]", "In [Python|python], set {v} to {n}[.|]"], n=n, v=v)
        code, out = "%s = %d" % (v, n), ""
    elif r == 4:
        n = ctx.int(2, 20)
        t = ctx.pick(w.THING + w.ANIMAL + w.FRUIT)
        q = ctx.say(["[Write|Show me|Give me] [Python|python] code that prints \"{t}\" {n} times[.|]", "[How do I|How can I] print \"{t}\" {n} times in Python?", "Print \"{t}\" {n} times [with a loop |]in [Python|python][.|]"], n=n, t=t)
        code, out = 'for _ in range(%d):\n    print("%s")' % (n, t), "\n".join([t] * n)
    else:
        a = ctx.pick(w.ANIMAL + w.FRUIT + w.THING)
        k = w.plural(a)
        q = ctx.say(["[Write|Show me|Give me] a [Python |python ]loop over [the list |]{k} that prints each {a}[.|]", "[Loop|Iterate] over [the list |]{k} and print each {a}[,| in Python| in python][.|]"], a=a, k=k)
        code, out = "for %s in %s:\n    print(%s)" % (a, k if k != a else a + "_list", a), None
    if not ctx.held and ctx.chance(0.03):
        q = ctx.say(["[Write|Print|Show me|Give me|Make] [a |][hello world|Hello World|\"Hello, world!\"][| program| script| example] in [Python|python][.|]", "[Python|python] [hello world|Hello World][| program]", "hello world in python"])
        code, out = 'print("Hello, world!")', "Hello, world!"
    judge = {"type": "output", "text": out} if out else {"type": "contains", "all": [code]}
    return qa("code", q, "```python\n" + code + "\n```", judge)


ALWAYS_TRAIN.update(("write a python function that adds two numbers", "write a function that adds two numbers", "write a python function that reverses a string", "write a python function that checks if a number is prime"))
WEIGHTED = [(function, 80), (snippet, 20)]

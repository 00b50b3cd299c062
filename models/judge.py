"""Is an answer right? One function per kind of judge that a held-out item can name."""
import ast
import contextlib
import io
import json
import keyword
import re

_RESERVED = re.compile(r"([(,] ?)(%s)=" % "|".join(keyword.kwlist))   # Python's own words occur as argument names
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def _code(answer):
    """The code of an answer: the fenced block, or all of it."""
    m = re.search(r"```(?:python)?\n(.*?)```", answer, re.S)
    return m.group(1) if m else answer


_MODULES = {"math", "functools", "itertools", "string"}


def _safe(source):
    """True for code without imports of other modules, private names or ways to reach the system."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(a.name not in _MODULES for a in node.names):
            return False
        if isinstance(node, ast.ImportFrom) and node.module not in _MODULES:
            return False
        if isinstance(node, ast.Name) and node.id in ("open", "exec", "eval", "compile", "__import__", "input", "globals", "getattr", "setattr", "breakpoint"):
            return False
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return False
        if isinstance(node, ast.While) and not any(isinstance(x, (ast.Assign, ast.AugAssign, ast.Break, ast.Return)) for x in ast.walk(node)):
            return False
    return True


def _run(source):
    """Run the code; (names, output) or None."""
    if not _safe(source):
        return None
    names, out = {}, io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(source, "answer", "exec"), names)
    except Exception:
        return None
    return names, out.getvalue()


def _same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        try:
            return abs(a - b) <= 1e-3 * max(1.0, abs(b))
        except TypeError:
            return False
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _flat(text):
    return " ".join(text.split())


def parse_calls(text):
    """[f(a="x", n=1), g()] -> list of {"name", "arguments"}; None if it is no such list."""
    m = re.search(r"<\|tool_call_start\|>(.*?)<\|tool_call_end\|>", text, re.S)
    source = _RESERVED.sub(r"\1reserved_\2=", (m.group(1) if m else text).strip())
    try:
        tree = ast.parse(source, mode="eval").body
        return [{"name": ast.unparse(c.func), "arguments": {k.arg.replace("reserved_", "", 1): ast.literal_eval(k.value) for k in c.keywords}} for c in tree.elts]
    except (SyntaxError, ValueError, AttributeError):
        return None


def judge(spec, answer, calls=None):
    """spec: the item's judge; answer: the text; calls: tool calls as [{"name", "arguments"}] if the server parsed any."""
    answer = answer or ""
    low, kind = answer.lower(), spec["type"]
    if kind in ("number", "first_number"):
        found = _NUMBER.findall(answer.replace("−", "-"))
        return bool(found) and float(found[0 if kind == "first_number" else -1]) == spec["value"]
    if kind == "yesno":
        return low.lstrip().startswith("yes" if spec["value"] else "no")
    if kind == "contains":
        return all(str(x).lower() in low for x in spec["all"])
    if kind == "any":
        return any(x.lower() in low for x in spec["any"])
    if kind == "equals":
        return _flat(answer) == _flat(spec["text"])
    if kind == "list":
        return [x.strip().lower() for x in answer.strip().rstrip(".").split(",")] == [str(x).lower() for x in spec["items"]]
    if kind == "story":
        return all(x.lower() in low for x in spec["all"]) and len(answer.split()) >= spec["words"] and low.rstrip()[-1:] in ".!?\""
    if kind == "json":
        try:
            return json.loads(answer) == spec["value"]
        except ValueError:
            return False
    if kind == "code":
        ran = _run(_code(answer))
        if ran is None or spec["entry"] not in ran[0]:
            return False
        try:
            return all(_same(ran[0][spec["entry"]](*args), result) for args, result in spec["tests"])
        except Exception:
            return False
    if kind == "output":
        ran = _run(_code(answer))
        return ran is not None and ran[1].strip() == spec["text"].strip()
    if kind == "tool":
        got = calls if calls else parse_calls(answer)
        return got == spec["calls"]
    if kind == "no_call":
        return not calls and "<|tool_call_start|>" not in answer and judge(spec["inner"], answer)
    raise ValueError("unknown judge %r" % kind)

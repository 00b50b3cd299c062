"""LFM2's ChatML: messages and tools to token ids, with the loss weight of every token."""
import json

from corpus.tools import render_calls
from tokenizer import BOS, IM_END, IM_START, TOOL_CALL, TOOL_LIST, TOOL_RESPONSE


def calls_of(message):
    """The calls of an assistant message as (name, arguments)."""
    if message.get("calls"):
        return message["calls"]
    return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message.get("tool_calls") or []]


def encode_chat(tok, messages, tools=None, generation=False, context_weight=0.1):
    """(ids, weights): weight 1 on what the assistant says and on its <|im_end|>, context_weight elsewhere."""
    ids, weights = [BOS], [0.0]

    def put(new, weight):
        ids.extend(new)
        weights.extend([weight] * len(new))
    system = ""
    if messages and messages[0]["role"] == "system":
        system, messages = messages[0]["content"], messages[1:]
    if system or tools:
        text = "system\n" + system
        if tools:
            put([IM_START] + tok.encode(text + ("\n" if system else "") + "List of tools: ") + [TOOL_LIST[0]], context_weight)
            put(tok.encode("[" + ", ".join(json.dumps(t, ensure_ascii=False) for t in tools) + "]") + [TOOL_LIST[1]], context_weight)
        else:
            put([IM_START] + tok.encode(text), context_weight)
        put([IM_END] + tok.encode("\n"), context_weight)
    for m in messages:
        role, content = m["role"], m.get("content") or ""
        if role == "assistant":
            put([IM_START] + tok.encode("assistant\n"), context_weight)
            calls = calls_of(m)
            if calls:
                put([TOOL_CALL[0]] + tok.encode(render_calls(calls)) + [TOOL_CALL[1]], 1.0)
            else:
                put(tok.encode(content), context_weight if m.get("scripted") else 1.0)
            put([IM_END], context_weight if m.get("scripted") else 1.0)
        elif role == "tool":
            put([IM_START] + tok.encode("tool\n") + [TOOL_RESPONSE[0]] + tok.encode(content) + [TOOL_RESPONSE[1], IM_END], context_weight)
        else:
            put([IM_START] + tok.encode(role + "\n" + content) + [IM_END], context_weight)
        put(tok.encode("\n"), context_weight)
    if generation:
        put([IM_START] + tok.encode("assistant\n"), context_weight)
    return ids, weights

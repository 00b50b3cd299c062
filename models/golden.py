"""Golden logits of the shipped model, from PyTorch alone.

    python3 golden.py sluice-mini-Q4_K_M.gguf ../tests/golden

Everything is F32, on the dequantised weights of the file. A float64 run of the same graph is printed for comparison.
"""
import argparse
import json
import os

import torch

import model
from chat import encode_chat
from corpus.core import Ctx
from generate import conversation
from gguf import Reader
from tokenizer import Tokenizer

STEP = {0: 1, 1: 4, 2: 8}                           # every n-th position is kept


def cases(tok):
    """Three token sequences: a short chat, some 200 tokens of mixed turns, some 600 tokens."""
    short = encode_chat(tok, [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": "The capital of France is Paris."}])[0]
    out = [short]
    for want, seed in ((200, "golden 200"), (600, "golden 600")):
        ctx, ids = Ctx(seed), []
        while not 0.9 * want <= len(ids) <= 1.15 * want:
            messages, tools = conversation(ctx)
            ids = encode_chat(tok, messages, tools)[0] if len(messages) >= 4 else []
        out.append(ids)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("gguf")
    p.add_argument("out")
    a = p.parse_args()
    r = Reader(a.gguf)
    tok = Tokenizer.load(a.gguf)
    w = {n: torch.tensor(r.tensor(n)) for n in r.tensors}
    result = {"model": os.path.basename(a.gguf), "vocab": model.CONFIG["vocab"], "cases": []}
    for i, ids in enumerate(cases(tok)):
        with torch.no_grad():
            z = model.logits(w, model.CONFIG, ids)
            exact = model.logits(w, model.CONFIG, ids, torch.float64)
        positions = sorted(set(range(0, len(ids), STEP[i])) | {len(ids) - 1})
        name = "mini.%d.logits.f32" % len(ids)
        z[positions].numpy().astype("<f4").tofile(os.path.join(a.out, name))
        result["cases"].append({"tokens": ids, "positions": positions, "logits": name})
        print("%d tokens, %d positions: differs from float64 by at most %.1e, logits spread %.2f" % (len(ids), len(positions), (z - exact).abs().max(), z.std()))
    with open(os.path.join(a.out, "mini.json"), "w") as f:
        json.dump(result, f)
        f.write("\n")


if __name__ == "__main__":
    main()

"""Training on one GPU, from conversations that worker processes generate while it runs.

    python3 train.py --vocab vocab.json --heldout heldout.jsonl --out DIR --seconds 500

The length is a time budget: the learning rate falls to zero at its end. In the last part the forward pass
uses the weights as the Q4_K_M file will hold them (straight-through gradients).
Matrices are trained with Muon, everything else with Adam.
"""
import argparse
import json
import math
import multiprocessing as mp
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import model
import quant
from chat import encode_chat
from tokenizer import Tokenizer


# ---- data ----
def worker(queue, vocab, seed, size, docs, context):
    """Put packed batches (tokens, weights, positions, starts) into the queue for ever."""
    from corpus.core import Ctx
    from generate import conversation
    tok, ctx = Tokenizer.load(vocab), Ctx(seed)
    while True:
        tokens, weights, pos = np.zeros(size, np.int16), np.zeros(size, np.uint8), np.zeros(size, np.int16)
        cu, n = [0], 0
        while n < size and len(cu) < docs:
            ids, w = encode_chat(tok, *conversation(ctx))
            k = min(len(ids), context, size - n)
            tokens[n:n + k] = ids[:k]
            weights[n:n + k - 1] = np.round(np.array(w[1:k]) * 100)   # of the token that is predicted
            pos[n:n + k] = np.arange(k)
            n += k
            cu.append(n)
        if n < size:
            continue
        queue.put((tokens, weights, pos, np.array(cu + [size] * (docs + 1 - len(cu)), np.int32)))


def heldout_batches(path, tok, size):
    """Held-out items packed for a forward pass: (kinds, tokens, positions, starts, spans of the answers)."""
    groups, cur = [], []
    n = 0
    for line in open(path):
        it = json.loads(line)
        last = {"role": "assistant", "content": it["answer"]}
        if it["judge"]["type"] == "tool":
            last["calls"] = [(x["name"], x["arguments"]) for x in it["judge"]["calls"]]
        ids, _ = encode_chat(tok, it["messages"] + [last], it.get("tools"))
        start = len(encode_chat(tok, it["messages"], it.get("tools"), generation=True)[0])
        if n + len(ids) > size:
            groups.append(cur)
            cur, n = [], 0
        cur.append((it["kind"], ids, start, len(ids) - 1))          # without the line break after <|im_end|>
        n += len(ids)
    groups.append(cur)
    out = []
    for g in groups:
        ids = sum((x[1] for x in g), [])
        pos = sum((list(range(len(x[1]))) for x in g), [])
        pad = size - len(ids)
        cu = np.cumsum([0] + [len(x[1]) for x in g] + [pad]).tolist()
        out.append((g, ids + [0] * pad, pos + list(range(pad)), cu))
    return out


# ---- optimizer ----
def orthogonal(m):
    """Newton-Schulz iteration on a batch of matrices [n, rows, cols]."""
    x = m.bfloat16() if m.is_cuda else m
    flip = x.shape[1] > x.shape[2]
    if flip:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if flip else x).float()


class Weights:
    """Master weights in F32, one flat buffer per GGUF type, and the working copies of the forward pass."""

    def __init__(self, c, start, device, work_dtype):
        self.types, self.shapes = model.types(c), model.shapes(c)
        self.flat, self.work_flat, self.work, self.master = {}, {}, {}, {}
        for kind in sorted(set(self.types.values())):
            names = [n for n in self.types if self.types[n] == kind]
            flat = torch.cat([start[n].reshape(-1) for n in names]).float().to(device)
            work = flat.to(flat.dtype if kind == quant.F32 else work_dtype).clone()
            self.flat[kind], self.work_flat[kind] = flat, work
            at = 0
            for n in names:
                k = math.prod(self.shapes[n])
                self.master[n] = flat[at:at + k].view(self.shapes[n])
                self.work[n] = work[at:at + k].view(self.shapes[n]).detach()
                at += k
        self.trained = [n for n in self.types if not n.endswith("bias")]
        for n in self.trained:
            self.work[n].requires_grad_()

    def refresh(self, rounding):
        """Copy the masters into the working copies, rounded as in the file if asked for."""
        with torch.no_grad():
            for kind, flat in self.flat.items():
                self.work_flat[kind].copy_(quant.rounded(flat, kind) if rounding else flat)


class Optimizer:
    def __init__(self, weights, muon_lr, adam_lr, decay):
        self.w, self.muon_lr, self.adam_lr, self.decay = weights, muon_lr, adam_lr, decay
        self.groups = {}
        self.adam = []
        for n in weights.trained:
            s = weights.shapes[n]
            if len(s) >= 2 and "embd" not in n and "shortconv.conv" not in n and "gate_inp" not in n:
                rows, cols = s[-2:]
                part = 3 if "in_proj" in n else 1
                self.groups.setdefault((rows // part, cols), []).append((n, part))
            else:
                self.adam.append(n)
        dev = weights.flat[quant.F32].device
        self.momentum = {k: torch.zeros(sum(math.prod(weights.shapes[n]) for n, _ in v) // (k[0] * k[1]), *k, device=dev) for k, v in self.groups.items()}
        self.moments = {n: (torch.zeros(weights.shapes[n], device=dev), torch.zeros(weights.shapes[n], device=dev)) for n in self.adam}
        self.t = 0
        self.orth = torch.compile(orthogonal) if dev.type == "cuda" else orthogonal

    @torch.no_grad()
    def step(self, scale):
        w, self.t = self.w, self.t + 1
        beta = min(0.95, 0.85 + 0.1 * self.t / 300)
        for shape, members in self.groups.items():
            g = torch.cat([w.work[n].grad.reshape(-1, *shape) for n, _ in members]).float()
            m = self.momentum[shape]
            m.lerp_(g, 1 - beta)
            u = self.orth(g.lerp(m, beta)) * (self.muon_lr * scale * max(1.0, shape[0] / shape[1]) ** 0.5)
            at = 0
            for n, _ in members:
                p = w.master[n]
                k = p.numel() // (shape[0] * shape[1])
                p.mul_(1 - self.muon_lr * scale * self.decay).sub_(u[at:at + k].reshape(p.shape))
                at += k
        for n in self.adam:
            g = w.work[n].grad.float()
            a, b = self.moments[n]
            a.lerp_(g, 0.1)
            b.lerp_(g.square(), 0.03)
            lr = self.adam_lr * scale
            p = w.master[n]
            if "embd.weight" in n:
                p.mul_(1 - lr * 0.02)
            p.sub_(lr * (a / (1 - 0.9 ** self.t)) / ((b / (1 - 0.97 ** self.t)).sqrt() + 1e-8))
        for n in w.trained:
            w.work[n].grad = None


def save(path, weights, piece=15_000_000):
    """The masters as f32 pieces that are easy to move: path.00, path.01 ..."""
    raw = torch.cat([weights.master[n].reshape(-1) for n in weights.types]).cpu().numpy().tobytes()
    for i in range(0, len(raw), piece):
        with open("%s.%02d" % (path, i // piece), "wb") as f:
            f.write(raw[i:i + piece])


def load(path, c):
    """Tensors by name from the pieces that `save` wrote."""
    raw, i = b"", 0
    while os.path.exists("%s.%02d" % (path, i)):
        raw += open("%s.%02d" % (path, i), "rb").read()
        i += 1
    flat, at, out = torch.frombuffer(bytearray(raw), dtype=torch.float32), 0, {}
    for n, s in model.shapes(c).items():
        out[n] = flat[at:at + math.prod(s)].view(s).clone()
        at += math.prod(s)
    assert at == len(flat)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--vocab", required=True)
    p.add_argument("--heldout", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seconds", type=float, default=500)
    p.add_argument("--batch", type=int, default=131072, help="tokens in a step")
    p.add_argument("--workers", type=int, default=12)
    p.add_argument("--start", help="continue from a checkpoint")
    p.add_argument("--seed", default="1")
    p.add_argument("--lr", type=float, default=1.0, help="factor on both learning rates")
    p.add_argument("--rounding", type=float, default=0.7, help="share of the time after which weights are rounded")
    p.add_argument("--steps", type=int, default=10**9)
    p.add_argument("--device", default="cuda")
    p.add_argument("--eval-every", type=float, default=60)
    p.add_argument("--layers", type=int)
    a = p.parse_args()
    c = dict(model.CONFIG)
    if a.layers:
        c["layers"] = a.layers
    cuda = a.device == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    docs = max(64, a.batch // 128)
    queue = mp.Queue(maxsize=24)
    workers = [mp.Process(target=worker, args=(queue, a.vocab, "train:%s:%d" % (a.seed, i), a.batch, docs, c["context"]), daemon=True) for i in range(a.workers)]
    for x in workers:
        x.start()
    tok = Tokenizer.load(a.vocab)
    weights = Weights(c, load(a.start, c) if a.start else model.init(c), a.device, dtype)
    optim = Optimizer(weights, 0.016 * a.lr, 0.003 * a.lr, 0.05)
    bias_names = [n for n in weights.types if n.endswith("bias")]
    longest = c["context"]

    def loss_of(work, tokens, target, weight, pos, cu):
        h, loads = model.forward(work, c, tokens, pos, cu, longest, dtype)
        z = h @ work["token_embd.weight"].t()
        ce = F.cross_entropy(z.float(), target, reduction="none")
        return (ce * weight).sum() / weight.sum(), loads

    def hidden_of(work, tokens, pos, cu):
        h, _ = model.forward(work, c, tokens, pos, cu, longest, dtype)
        return (h @ work["token_embd.weight"].t()).argmax(-1)
    if cuda:
        torch.set_float32_matmul_precision("high")
        loss_of, hidden_of = torch.compile(loss_of), torch.compile(hidden_of)
    held = heldout_batches(a.heldout, tok, a.batch)
    dev = a.device

    def evaluate(rounding):
        """Share of held-out answers that greedy decoding reproduces token for token."""
        weights.refresh(rounding)
        hit, total = {}, {}
        with torch.no_grad():
            for g, ids, pos, cu in held:
                cu = cu + [len(ids)] * (docs + 1 - len(cu))     # one shape, compiled once
                best = hidden_of(weights.work, torch.tensor(ids, device=dev), torch.tensor(pos, device=dev), torch.tensor(cu, dtype=torch.int32, device=dev)).tolist()
                at = 0
                for kind, ids, start, end in g:
                    total[kind] = total.get(kind, 0) + 1
                    hit[kind] = hit.get(kind, 0) + (best[at + start - 1:at + end - 1] == ids[start:end])
                    at += len(ids)
        return " ".join("%s %.2f" % (k, hit[k] / total[k]) for k in total) + " | all %.3f" % (sum(hit.values()) / sum(total.values()))

    def on_device(b):
        tokens, weight, pos, cu = b
        t = torch.from_numpy(tokens.astype(np.int64)).to(dev, non_blocking=True)
        wt = torch.from_numpy(weight).to(dev).float() / 100
        return t, torch.roll(t, -1), wt, torch.from_numpy(pos.astype(np.int64)).to(dev), torch.from_numpy(cu).to(dev)

    start, first = None, time.time()
    shown = last_eval = first
    step, half, running, balance = 0, False, None, 0.002
    while step < a.steps:
        frac = 0.0 if start is None else (time.time() - start) / a.seconds
        if frac >= 1:
            break
        rounding = frac >= a.rounding
        weights.refresh(rounding)
        batch = on_device(queue.get())
        loss, loads = loss_of(weights.work, *batch)
        loss.backward()
        scale = min(1.0, (step + 1) / 150) * (min(1.0, (1 - frac) / 0.85) if not a.start else (1 - frac))
        optim.step(scale)
        with torch.no_grad():                         # steer the routers towards even use of the experts
            if frac < 0.9:
                for i, n in enumerate(bias_names):
                    weights.master[n].add_(balance * (1 - frac) * (loads[i].mean() - loads[i]).sign())
        step += 1
        if start is None and step == 5:               # compiled by now
            if cuda:
                torch.cuda.synchronize()
            start = shown = last_eval = time.time()
            print("first steps took %.1f s" % (start - first), flush=True)
        if step % 20 == 0:
            v = loss.item()
            running = v if running is None else 0.8 * running + 0.2 * v
            if start and time.time() - shown > 10:
                shown = time.time()
                used = (loads / loads.sum(1, keepdim=True)).float()
                print("step %d  %.0f s  loss %.4f  %.2f Mtok/s  queue %d  expert share %.2f..%.2f%s" % (
                    step, shown - start, running, (step - 5) * a.batch / (shown - start) / 1e6, queue.qsize(), used.min(), used.max(), "  rounded" if rounding else ""), flush=True)
            if start and time.time() - last_eval > a.eval_every:
                last_eval = time.time()
                print("  held out:", evaluate(rounding), flush=True)
            if frac > 0.5 and not half:
                half = True
                save(os.path.join(a.out, "weights"), weights)
    for x in workers:
        x.terminate()
    print("final, exact:  ", evaluate(False), flush=True)
    print("final, rounded:", evaluate(True), flush=True)
    save(os.path.join(a.out, "weights"), weights)
    print("%d steps, %.0f M tokens" % (step, step * a.batch / 1e6), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()

"""LFM2-MoE in PyTorch: packed sequences for training, plain F32 for golden logits.

Weights are a flat dictionary with GGUF names; matrices are [out, in] as in PyTorch.
"""
import inspect

import torch
import torch.nn.functional as F

import quant

CONFIG = {
    "vocab": 4096, "hidden": 256, "layers": 12, "attention": (2, 5, 8, 10), "heads": 4, "kv_heads": 2, "head_dim": 64,
    "dense": 2, "dense_ff": 512, "experts": 4, "used": 2, "ff": 256, "context": 8192, "theta": 1e6, "eps": 1e-5,
}

try:
    from torch.nn.attention.varlen import varlen_attn
    _CAUSAL = {"window_size": (-1, 0)} if "window_size" in inspect.signature(varlen_attn).parameters else {"is_causal": True}
except ImportError:
    varlen_attn = None


def shapes(c):
    """name -> shape of every tensor."""
    h, kv = c["hidden"], c["kv_heads"] * c["head_dim"]
    out = {"token_embd.weight": (c["vocab"], h), "token_embd_norm.weight": (h,)}
    for i in range(c["layers"]):
        p = "blk.%d." % i
        out[p + "attn_norm.weight"] = (h,)
        out[p + "ffn_norm.weight"] = (h,)
        if i in c["attention"]:
            out[p + "attn_q.weight"] = (h, h)
            out[p + "attn_k.weight"] = (kv, h)
            out[p + "attn_v.weight"] = (kv, h)
            out[p + "attn_output.weight"] = (h, h)
            out[p + "attn_q_norm.weight"] = (c["head_dim"],)
            out[p + "attn_k_norm.weight"] = (c["head_dim"],)
        else:
            out[p + "shortconv.conv.weight"] = (h, 3)
            out[p + "shortconv.in_proj.weight"] = (3 * h, h)
            out[p + "shortconv.out_proj.weight"] = (h, h)
        if i < c["dense"]:
            out[p + "ffn_gate.weight"] = (c["dense_ff"], h)
            out[p + "ffn_up.weight"] = (c["dense_ff"], h)
            out[p + "ffn_down.weight"] = (h, c["dense_ff"])
        else:
            out[p + "ffn_gate_inp.weight"] = (c["experts"], h)
            out[p + "exp_probs_b.bias"] = (c["experts"],)
            out[p + "ffn_gate_exps.weight"] = (c["experts"], c["ff"], h)
            out[p + "ffn_up_exps.weight"] = (c["experts"], c["ff"], h)
            out[p + "ffn_down_exps.weight"] = (c["experts"], h, c["ff"])
    return out


def types(c):
    """name -> GGUF type in the Q4_K_M mix."""
    def more(i, n):
        return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2
    out = {}
    for name, shape in shapes(c).items():
        kind = quant.Q4_K
        if len(shape) == 1 or "shortconv.conv" in name or "ffn_gate_inp" in name:
            kind = quant.F32
        elif name == "token_embd.weight":
            kind = quant.Q6_K
        elif "ffn_down" in name:
            kind = quant.Q6_K if more(int(name.split(".")[1]), c["layers"]) else quant.Q4_K
        elif "attn_v" in name:
            kind = quant.Q6_K if more(c["attention"].index(int(name.split(".")[1])), len(c["attention"])) else quant.Q4_K
        out[name] = kind
    return out


def init(c, seed=0):
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in shapes(c).items():
        if "norm" in name:
            out[name] = torch.ones(shape)
        elif name.endswith("bias") or any(k in name for k in ("out_proj", "attn_output", "ffn_down")):
            out[name] = torch.zeros(shape)
        elif "shortconv.conv" in name:
            out[name] = torch.randn(shape, generator=g) * 0.3 + torch.tensor([0.0, 0.0, 0.6])
        else:
            out[name] = torch.randn(shape, generator=g) * (0.03 if "embd" in name else 0.03 if "gate_inp" in name else shape[-1] ** -0.5)
    return out


def rms(x, w, eps):
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


def _rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _attend(q, k, v, cu, longest):
    """q, k, v [tokens, heads, 64], causal inside each packed sequence."""
    if q.is_cuda:
        return varlen_attn(q, k, v, cu, cu, longest, longest, **_CAUSAL)
    out = torch.empty_like(q)
    for a, b in zip(cu.tolist(), cu.tolist()[1:]):
        if a == b:
            continue
        s = torch.einsum("qhd,khd->hqk", q[a:b], k[a:b]) * q.shape[-1] ** -0.5
        s = s.masked_fill(torch.ones(b - a, b - a).triu(1).bool(), float("-inf"))
        out[a:b] = torch.einsum("hqk,khd->qhd", s.softmax(-1), v[a:b])
    return out


def forward(w, c, tokens, pos, cu, longest, dtype=torch.float32):
    """w: weights; tokens, pos [t]; cu: starts of the packed sequences. Returns hidden states [t, hidden] after the final
    norm, and per MoE layer how often every expert was chosen. Matrix products run in `dtype`, all else in F32 at least."""
    wide = torch.promote_types(dtype, torch.float32)
    eps, dh = c["eps"], c["head_dim"]
    h = F.embedding(tokens, w["token_embd.weight"]).to(wide)
    inv = c["theta"] ** (-torch.arange(0, dh, 2, device=tokens.device).to(wide) / dh)
    angle = pos.to(wide)[:, None] * inv
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    has1, has2 = (pos >= 1)[:, None], (pos >= 2)[:, None]
    loads = []
    for i in range(c["layers"]):
        p = "blk.%d." % i
        x = rms(h, w[p + "attn_norm.weight"], eps).to(dtype)
        if i in c["attention"]:
            q = (x @ w[p + "attn_q.weight"].t()).view(-1, c["heads"], dh)
            k = (x @ w[p + "attn_k.weight"].t()).view(-1, c["kv_heads"], dh)
            v = (x @ w[p + "attn_v.weight"].t()).view(-1, c["kv_heads"], dh)
            q = _rope(rms(q, w[p + "attn_q_norm.weight"], eps), cos, sin).to(dtype)
            k = _rope(rms(k, w[p + "attn_k_norm.weight"], eps), cos, sin).to(dtype)
            g = c["heads"] // c["kv_heads"]
            o = _attend(q, k.repeat_interleave(g, 1), v.repeat_interleave(g, 1), cu, longest)
            h = h + (o.reshape(-1, c["hidden"]) @ w[p + "attn_output.weight"].t()).to(wide)
        else:
            b, cc, u = (x @ w[p + "shortconv.in_proj.weight"].t()).to(wide).chunk(3, -1)
            u = b * u
            k = w[p + "shortconv.conv.weight"]
            y = u * k[:, 2] + F.pad(u, (0, 0, 1, 0))[:-1] * has1 * k[:, 1] + F.pad(u, (0, 0, 2, 0))[:-2] * has2 * k[:, 0]
            h = h + ((cc * y).to(dtype) @ w[p + "shortconv.out_proj.weight"].t()).to(wide)
        xf = rms(h, w[p + "ffn_norm.weight"], eps)
        x = xf.to(dtype)
        if i < c["dense"]:
            y = F.silu(x @ w[p + "ffn_gate.weight"].t()) * (x @ w[p + "ffn_up.weight"].t())
            h = h + (y @ w[p + "ffn_down.weight"].t()).to(wide)
        else:
            e, ff = c["experts"], c["ff"]
            prob = torch.sigmoid(xf @ w[p + "ffn_gate_inp.weight"].t())
            chosen = (prob + w[p + "exp_probs_b.bias"]).topk(c["used"], dim=-1).indices
            mask = torch.zeros_like(prob).scatter(1, chosen, 1.0)
            loads.append(mask.sum(0))
            share = prob * mask
            share = share / (share.sum(-1, keepdim=True) + 1e-6)
            y = F.silu(x @ w[p + "ffn_gate_exps.weight"].reshape(e * ff, -1).t()) * (x @ w[p + "ffn_up_exps.weight"].reshape(e * ff, -1).t())
            y = (y.view(-1, e, ff) * share.to(dtype)[..., None]).view(-1, e * ff)
            h = h + (y @ w[p + "ffn_down_exps.weight"].permute(0, 2, 1).reshape(e * ff, -1)).to(wide)
    return rms(h, w["token_embd_norm.weight"], eps).to(dtype), torch.stack(loads) if loads else None


def logits(w, c, tokens, dtype=torch.float32):
    """Logits [t, vocab] of one sequence, everything in `dtype`."""
    w = {n: t.to(dtype) for n, t in w.items()}
    tokens = torch.as_tensor(tokens)
    n = len(tokens)
    h, _ = forward(w, c, tokens, torch.arange(n), torch.tensor([0, n]), n, dtype)
    return h @ w["token_embd.weight"].t()

"""Q4_K and Q6_K: rounding for training, packing and unpacking for GGUF files.

`q4k` and `q6k` choose the block parameters in torch, so that training rounds exactly as the file does.
Rows are cut into blocks of 256 values.
"""
import numpy as np
import torch

F32, F16, Q4_K, Q6_K = 0, 1, 12, 14
BYTES = {F32: (1, 4), F16: (1, 2), Q4_K: (256, 144), Q6_K: (256, 210)}


def _half(x):
    return x.half().float()


def q4k(w):
    """w [n, 256] f32 -> d [n, 1], dmin [n, 1], sc [n, 8], m [n, 8], q [n, 8, 32]; value = d*sc*q - dmin*m."""
    x = w.view(-1, 8, 32)
    lo = (-x.amin(2)).clamp(min=0)
    hi = x.amax(2)
    best = None
    for f in (1.0, 0.94, 0.88, 0.82):               # a narrower range clips the extremes and rounds the rest finer
        low = lo * f
        scale = ((hi * f + low) / 15).clamp(min=1e-10)
        q = ((x + low[..., None]) / scale[..., None]).round().clamp(0, 15)
        e = (q * scale[..., None] - low[..., None] - x).square().sum(2)
        if best is None:
            best = [e, scale, low]
        else:
            take = e < best[0]
            best = [torch.where(take, e, best[0]), torch.where(take, scale, best[1]), torch.where(take, low, best[2])]
    scale, low = best[1], best[2]
    d = _half(scale.amax(1, keepdim=True) / 63)
    dmin = _half(low.amax(1, keepdim=True) / 63)
    sc = (scale / d.clamp(min=1e-10)).round().clamp(0, 63)
    m = (low / dmin.clamp(min=1e-10)).round().clamp(0, 63)
    step = (d * sc)[..., None]
    q = ((x + (dmin * m)[..., None]) / step.clamp(min=1e-10)).round().clamp(0, 15)
    return d, dmin, sc, m, q


def q4k_value(d, dmin, sc, m, q):
    return ((d * sc)[..., None] * q - (dmin * m)[..., None]).view(-1, 256)


def q6k(w):
    """w [n, 256] f32 -> d [n, 1], sc [n, 16], q [n, 16, 16] in -32..31; value = d*sc*q."""
    x = w.view(-1, 16, 16)
    scale = x.abs().amax(2) / 31.5
    d = _half(scale.amax(1, keepdim=True) / 127)
    sc = (scale / d.clamp(min=1e-10)).round().clamp(0, 127)
    q = (x / (d * sc)[..., None].clamp(min=1e-10)).round().clamp(-32, 31)
    return d, sc, q


def q6k_value(d, sc, q):
    return ((d * sc)[..., None] * q).view(-1, 256)


def rounded(w, kind):
    """w as a file of type `kind` would hold it."""
    if kind == F32:
        return w
    flat = w.reshape(-1, 256)
    out = q4k_value(*q4k(flat)) if kind == Q4_K else q6k_value(*q6k(flat))
    return out.view(w.shape)


def pack(w, kind):
    """The bytes of a tensor in a GGUF file."""
    if kind in (F32, F16):
        return w.detach().cpu().numpy().astype(np.float32 if kind == F32 else np.float16).tobytes()
    flat = w.detach().cpu().float().reshape(-1, 256)
    n = flat.shape[0]
    if kind == Q4_K:
        d, dmin, sc, m, q = (t.numpy() for t in q4k(flat))
        out = np.zeros((n, 144), np.uint8)
        out[:, 0:2] = d.astype(np.float16).view(np.uint8)
        out[:, 2:4] = dmin.astype(np.float16).view(np.uint8)
        s, m = sc.astype(np.uint8), m.astype(np.uint8)
        out[:, 4:8] = s[:, :4] | (s[:, 4:] >> 4) << 6
        out[:, 8:12] = m[:, :4] | (m[:, 4:] >> 4) << 6
        out[:, 12:16] = (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4
        q = q.astype(np.uint8).reshape(n, 4, 2, 32)
        out[:, 16:] = (q[:, :, 0] | q[:, :, 1] << 4).reshape(n, 128)
        return out.tobytes()
    d, sc, q = (t.numpy() for t in q6k(flat))
    out = np.zeros((n, 210), np.uint8)
    q = (q.reshape(n, 2, 4, 32) + 32).astype(np.uint8)  # [half][quarter][32]
    out[:, :128] = np.concatenate([(q[:, :, 0] & 15) | (q[:, :, 2] & 15) << 4, (q[:, :, 1] & 15) | (q[:, :, 3] & 15) << 4], 2).reshape(n, 128)
    out[:, 128:192] = (q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6).reshape(n, 64)
    out[:, 192:208] = sc.astype(np.int8).view(np.uint8)
    out[:, 208:210] = d.astype(np.float16).view(np.uint8)
    return out.tobytes()


def unpack(raw, kind, count):
    """The inverse of `pack`: a flat f32 array of `count` values."""
    if kind in (F32, F16):
        return np.frombuffer(raw, np.float32 if kind == F32 else np.float16).astype(np.float32)
    b = np.frombuffer(raw, np.uint8).reshape(-1, BYTES[kind][1])
    n = b.shape[0]
    if kind == Q4_K:
        d, dmin = (b[:, i:i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
        a, c, e = b[:, 4:8], b[:, 8:12], b[:, 12:16]
        sc = np.concatenate([a & 63, (e & 15) | (a >> 6) << 4], 1).astype(np.float32)
        m = np.concatenate([c & 63, (e >> 4) | (c >> 6) << 4], 1).astype(np.float32)
        q = b[:, 16:].reshape(n, 4, 1, 32)
        q = np.concatenate([q & 15, q >> 4], 2).reshape(n, 8, 32).astype(np.float32)
        return ((d * sc)[..., None] * q - (dmin * m)[..., None]).reshape(-1)
    ql, qh = b[:, :128].reshape(n, 2, 2, 32), b[:, 128:192].reshape(n, 2, 1, 32)
    sc = b[:, 192:208].copy().view(np.int8).astype(np.float32)
    d = b[:, 208:210].copy().view(np.float16).astype(np.float32)
    low = np.concatenate([ql & 15, ql >> 4], 2)          # [half][4][32]
    high = np.concatenate([qh >> s & 3 for s in (0, 2, 4, 6)], 2)
    q = (low | high << 4).astype(np.float32) - 32
    return ((d * sc)[..., None] * q.reshape(n, 16, 16)).reshape(-1)

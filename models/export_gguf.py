"""Write a trained checkpoint as a GGUF file.

    python3 export_gguf.py --weights DIR/weights --vocab vocab.json --type Q4_K_M sluice-mini-Q4_K_M.gguf

Types: F32, F16 (matrices in half precision), Q4_K_M (the mix that training rounds to).
"""
import argparse
import os

import gguf
import model
import quant
from gguf import ARRAY, BOOL, F32_T, I32, STRING, U32
from tokenizer import CONTROL, Tokenizer
from train import load


def metadata(c, tok, file_type):
    a = "lfm2moe."
    template = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "chat_template.jinja")).read()
    n = len(tok.tokens)
    return [
        ("general.architecture", STRING, "lfm2moe"), ("general.type", STRING, "model"), ("general.name", STRING, "sluice mini"), ("general.size_label", STRING, "12.6M"),
        (a + "block_count", U32, c["layers"]), (a + "context_length", U32, c["context"]), (a + "embedding_length", U32, c["hidden"]),
        (a + "feed_forward_length", U32, c["dense_ff"]), (a + "attention.head_count", U32, c["heads"]),
        (a + "attention.head_count_kv", (ARRAY, I32), [c["kv_heads"] if i in c["attention"] else 0 for i in range(c["layers"])]),
        (a + "rope.freq_base", F32_T, c["theta"]), (a + "attention.layer_norm_rms_epsilon", F32_T, c["eps"]),
        (a + "expert_count", U32, c["experts"]), (a + "expert_used_count", U32, c["used"]), (a + "expert_feed_forward_length", U32, c["ff"]),
        (a + "leading_dense_block_count", U32, c["dense"]), (a + "expert_gating_func", U32, 2), (a + "vocab_size", U32, n), (a + "shortconv.l_cache", U32, 3),
        ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "lfm2"), ("tokenizer.ggml.tokens", (ARRAY, STRING), tok.tokens),
        ("tokenizer.ggml.token_type", (ARRAY, I32), [3] * len(CONTROL) + [1] * (n - len(CONTROL))),
        ("tokenizer.ggml.merges", (ARRAY, STRING), [" ".join(m) for m in tok.merges]),
        ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 7), ("tokenizer.ggml.padding_token_id", U32, 0),
        ("tokenizer.ggml.add_bos_token", BOOL, True), ("tokenizer.ggml.add_eos_token", BOOL, False), ("tokenizer.chat_template", STRING, template),
        ("general.quantization_version", U32, 2), ("general.file_type", U32, file_type),
    ]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--weights", required=True)
    p.add_argument("--vocab", required=True)
    p.add_argument("--type", choices=("F32", "F16", "Q4_K_M"), default="F16")
    p.add_argument("out")
    a = p.parse_args()
    c = model.CONFIG
    mix = model.types(c)
    tensors = []
    for name, w in load(a.weights, c).items():
        kind = mix[name]
        if a.type != "Q4_K_M" and kind != quant.F32:
            kind = quant.F32 if a.type == "F32" else quant.F16
        tensors.append((name, tuple(w.shape)[::-1], kind, quant.pack(w, kind)))
    gguf.write(a.out, metadata(c, Tokenizer.load(a.vocab), {"F32": 0, "F16": 1, "Q4_K_M": 15}[a.type]), tensors)
    print(a.out, os.path.getsize(a.out), "bytes")


if __name__ == "__main__":
    main()

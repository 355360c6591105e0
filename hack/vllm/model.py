#!/usr/bin/env python3
"""model.py DIR: makes a tiny Llama of the tokenizer in DIR (see ../guidellm/tokenizer.py).

It writes what a server reads before the weights: config.json, and a chat
template. There are no weights: vLLM invents them with --load-format dummy. What
such a model says is nonsense; that it is computed, batched, queued and counted
as any other model is what it is for.
"""

import json
import pathlib
import sys


def write(path, content):
    """Writes a file whole: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
    temporary.replace(path)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    longest = 8192  # tokens of a prompt and its answer
    tokenizer = directory / "tokenizer_config.json"
    write(tokenizer, json.loads(tokenizer.read_text(encoding="utf-8")) | {
        "model_max_length": longest,
        "chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
    })
    words = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    # last: who finds it finds everything
    write(directory / "config.json", {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": longest,
        "vocab_size": -(-len(words) // 64) * 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    })


if __name__ == "__main__":
    main()

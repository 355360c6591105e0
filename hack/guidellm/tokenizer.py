#!/usr/bin/env python3
"""tokenizer.py DIR [TEXT...]: makes a tokenizer of words for guidellm.

One word between white space is one token, as `step simulate` counts, so that a
prompt of 128 asked tokens is one of 128 counted tokens and no model hub is
needed. AutoTokenizer of transformers 4 and 5 loads the directory.

The vocabulary is the numbers to 9999, the words of Python's own manual, and those
of the TEXT files. A word outside it is read as the ordinary word "other": if it
were a special token, guidellm, which decodes what it has encoded, would lose
it and send prompts that are too short.
"""

import json
import pathlib
import pydoc_data.topics
import re
import sys


def vocabulary(text):
    """Words in their plain, capitalised and punctuated forms, numbered."""
    words = {"other"} | {str(n) for n in range(10_000)} | set(text.split())
    for word in set(re.findall(r"[A-Za-z]+", text)):
        for form in (word, word.lower(), word.capitalize()):
            words.update(form + mark for mark in ("", ".", ",", ";", "?", "!"))
    return {word: number for number, word in enumerate(sorted(words))}


def write(directory, name, content):
    """Writes a file whole: a reader never sees half of it."""
    temporary = directory / f".{name}.partial"
    temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    temporary.replace(directory / name)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    texts = [pathlib.Path(name).read_text(encoding="utf-8") for name in sys.argv[2:]]
    # The files are written here rather than by save_pretrained, because what
    # transformers 5 saves names a class that transformers 4 does not have.
    write(directory, "tokenizer.json", {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,  # joins tokens with a space
        "model": {
            "type": "WordLevel",
            "vocab": vocabulary(" ".join([*pydoc_data.topics.topics.values(), *texts])),
            "unk_token": "other",
        },
    })
    write(directory, "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,  # would join "word ." to one word
    })


if __name__ == "__main__":
    main()

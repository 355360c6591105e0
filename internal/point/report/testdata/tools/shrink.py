#!/usr/bin/env python3
"""shrink.py FROM TO: copies the files of load generators under FROM, gzipped, without
the texts of prompts and answers, and without the names of directories.

It needs PyYAML.
"""

import gzip
import json
import pathlib
import re
import sys

import yaml

WANTED = re.compile(
    r"profile_export(_aiperf)?\.(jsonl|json|csv)$|lifecycle_metrics\.json$|config\.yaml$|partial\.stage_\d+\.yaml$"
    r"|^(det|sum)-\d+\.json$|^run=\d+\.json$|\.jsonl$|^r\.(json|yaml|csv|html)$|^summary\.json$"
)
TEXTS = {"request", "response", "response_chunks", "generated_texts", "generated_text", "cli_command", "output", "prompt", "request_args"}
# Of AIPerf's export and guidellm's page only what a reader may meet, not all.
LARGE = {"warmup_metrics", "telemetry_data", "server_metrics"}


def shrink(value):
    if isinstance(value, dict):
        return {
            k: ("" if isinstance(v, str) else []) if k in TEXTS and isinstance(v, (str, list)) else shrink(v)
            for k, v in value.items()
            if k not in LARGE
        }
    if isinstance(value, list):
        return [shrink(v) for v in value]
    return value


def main():
    source, target = map(pathlib.Path, sys.argv[1:])
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if not path.is_file() or not WANTED.search(path.name) or {"phases", "aggregate", "sweep_aggregate"} & set(inside.parts):
            continue
        text = path.read_text()
        if path.suffix == ".json":
            text = json.dumps(shrink(json.loads(text)))
        elif path.suffix == ".jsonl":
            text = "".join(json.dumps(shrink(json.loads(line))) + "\n" for line in text.splitlines())
        elif path.suffix == ".yaml":
            text = yaml.safe_dump(shrink(yaml.safe_load(text)), sort_keys=False)
        elif path.suffix == ".html":
            text = re.sub(r'"samples": \[.*?\n +\]', '"samples": []', text, flags=re.DOTALL)
        text = re.sub(r"(/[\w.~-]+)+/(?=(tokenizer|run|results|aiperf|iperf)\b)", "", text)
        to = target / inside.parent / (path.name + ".gz")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()

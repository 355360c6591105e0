#!/usr/bin/env python3
"""Shrinks genuine guidellm reports to what the tests need.

    python3 shrink.py DIRECTORY_OF_REPORTS

Of a sweep the benchmarks with 1 and 4 streams are kept. What the reader never
looks at and what makes up most of the bytes goes: statistics per modality, and,
where every request is kept, the prompts and the fields that repeat. Numbers are
left as they are. The rest is compressed.
"""
import gzip
import json
import pathlib
import sys

MODALITIES = ("text", "image", "video", "audio", "tool_call")
REPEATED = ("input_metrics", "output_metrics", "request_args", "output")

source, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
for path in sorted(source.glob("v*.json")):
    report = json.loads(path.read_text())

    def streams(benchmark):
        return (benchmark.get("config") or benchmark["args"])["strategy"]["streams"]

    if "sweep" in path.name:
        report["benchmarks"] = [b for b in report["benchmarks"] if streams(b) in (1, 4)]
    for benchmark in report["benchmarks"]:
        for name in MODALITIES:
            benchmark["metrics"].pop(name, None)
        for rows in benchmark["requests"].values():
            for row in rows or ():
                (row.get("info") or {}).pop("traceback", None)
                if len(rows) > 3:
                    for name in REPEATED:
                        row.pop(name, None)
    text = json.dumps(report, indent=4 if "metadata" not in report and "args" not in report else None)
    (here / (path.name + ".gz")).write_bytes(gzip.compress((text + "\n").encode(), mtime=0))
for path in source.glob("v0.[37]*console.log"):
    (here / path.name).write_bytes(path.read_bytes())

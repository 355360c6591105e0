#!/usr/bin/env python3
"""read-back.py planner|benchmark-report FILE: has a consumer's own code read what
step render has written, and says what it found.

planner            the loader and the schema of llm-d-planner
benchmark-report   the types of Benchmark Report 0.2.1 that inference-perf carries
"""

import importlib.util
import json
import pathlib
import sqlite3
import sys
import sysconfig


def module(*parts):
    """A module by its file: its package wants more than is installed."""
    path = pathlib.Path(sysconfig.get_paths()["purelib"], *parts)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def planner(text):
    loader = module("planner", "knowledge_base", "loader.py")
    data = json.loads(text)
    assert loader.extract_metadata(data)["confidence_level"] == "benchmarked"
    schema = pathlib.Path(sysconfig.get_paths()["purelib"], "planner", "data", "schema.sql").read_text()
    database = sqlite3.connect(":memory:")
    database.row_factory = sqlite3.Row
    database.executescript(schema)
    columns = {row["name"] for row in database.execute("PRAGMA table_info(exported_summaries)")}
    for benchmark in data["benchmarks"]:
        assert not set(benchmark) - columns, set(benchmark) - columns
    stats = loader._insert_benchmarks(database, data["benchmarks"], **loader.extract_metadata(data))
    count, = database.execute("SELECT count(*) FROM exported_summaries WHERE ttft_p95 >= ttft_mean * 0.5 AND tokens_per_second > 0").fetchone()
    return f"{count} of {len(data['benchmarks'])} benchmarks in the database, {stats}"


def benchmark_report(text):
    import yaml
    from inference_perf.reportgen.br.v0_2.schema_v0_2_1 import BenchmarkReportV021

    reports = [BenchmarkReportV021(**document) for document in yaml.safe_load_all(text)]
    return f"{len(reports)} reports of version {reports[0].version}"


if len(sys.argv) != 3 or sys.argv[1] not in ("planner", "benchmark-report"):
    sys.exit(__doc__)
print({"planner": planner, "benchmark-report": benchmark_report}[sys.argv[1]](pathlib.Path(sys.argv[2]).read_text()))

#!/usr/bin/env python3
"""read-back.py planner|benchmark-report|aibrix|dynamo FILE: has a consumer's own code read what
step render has written, and says what it found.

planner            the loader and the schema of llm-d-planner
benchmark-report   the types of Benchmark Report 0.2.1 that inference-perf carries
aibrix             the profile reader and the type of AIBrix's GPU optimizer
dynamo             what Dynamo's planner makes of the raw data of prefill and decode
"""

import importlib.util
import json
import pathlib
import sqlite3
import sys
import sysconfig
import tempfile
import types


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


def package(name, *parts):
    """A package without what its __init__ imports."""
    made = types.ModuleType(name)
    made.__path__ = [str(pathlib.Path(sysconfig.get_paths()["purelib"], *parts))]
    sys.modules[name] = made
    return made


def aibrix(text):
    optimizer = ("aibrix", "gpu_optimizer", "optimizer")
    package("aibrix", "aibrix")
    package("aibrix.gpu_optimizer", "aibrix", "gpu_optimizer")
    package("aibrix.gpu_optimizer.optimizer", *optimizer).GPUProfile = module(*optimizer, "types.py").GPUProfile
    reader = module("aibrix", "gpu_optimizer", "load_monitor", "profile_reader.py")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        (profile,) = reader.FileProfileReader([file.name]).read()
    rows, columns = profile.indexes  # output tokens, input tokens: optimizer/profiling/gen_profile.py
    assert profile.gpu and len(profile.tputs) == len(rows) and all(len(row) == len(columns) for row in profile.tputs)
    # What its own profiler writes has the same fields.
    published = json.loads(pathlib.Path(sysconfig.get_paths()["purelib"], *optimizer, "profiling", "result", "simulator-llama2-7b-a100.json").read_text())
    assert set(published) <= set(json.loads(text)), set(published) - set(json.loads(text))
    assert set(published["slos"]) <= set(json.loads(text)["slos"]), published["slos"]
    # A longer prompt or answer leaves room for fewer requests.
    assert all(a >= b for row in profile.tputs for a, b in zip(row, row[1:])) and all(a >= b for one, two in zip(profile.tputs, profile.tputs[1:]) for a, b in zip(one, two))
    return f"{len(rows)} x {len(columns)} rates of {profile.gpu}"


def dynamo(text):
    for name in (("dynamo",), ("dynamo", "common"), ("dynamo", "planner"), ("dynamo", "planner", "config"), ("dynamo", "planner", "monitoring")):
        package(".".join(name), *name)
    from dynamo.planner.config.defaults import SubComponentType
    from dynamo.planner.monitoring import perf_metrics

    data = json.loads(text)
    with tempfile.TemporaryDirectory() as at:
        for part in ("prefill_raw_data", "decode_raw_data"):
            pathlib.Path(at, part + ".json").write_text(json.dumps(data[part]))
        prefill = perf_metrics._convert_prefill_profiling(at)
        decode = perf_metrics._convert_decode_profiling(at)
    assert SubComponentType.PREFILL and all(0 < m.wall_time < 60 for m in prefill + decode)
    batches = sorted({m.scheduled_requests.num_decode_requests for m in decode})
    return f"{len(prefill)} prompts, {len(decode)} points of decode, {' '.join(map(str, batches))} requests"


formats = {"planner": planner, "benchmark-report": benchmark_report, "aibrix": aibrix, "dynamo": dynamo}
if len(sys.argv) != 3 or sys.argv[1] not in formats:
    sys.exit(__doc__)
print(formats[sys.argv[1]](pathlib.Path(sys.argv[2]).read_text()))

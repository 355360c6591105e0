#!/usr/bin/env python3
"""Writes the worked example of the two-run recipe as a pair of reports in the
form of guidellm 0.3.1: ITL 7.0 and 8.7 ms, TTFT 15.0 and 26.0 ms at 1 and 64
streams, 128/128 tokens, 360 s each. The numbers stand in the metric summaries;
no request is kept (--output-sampling 0).

    python3 make.py
"""
import json
import pathlib

START = 1760000000.0
SECONDS = 360.0
PERCENTILES = ("p001", "p01", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p999")


def same(value, count):
    """A distribution in which every request had the same value."""
    return {
        "mean": value, "median": value, "mode": value, "variance": 0.0, "std_dev": 0.0,
        "min": value, "max": value, "count": count, "total_sum": value * count,
        "percentiles": {p: value for p in PERCENTILES}, "cumulative_distribution_function": None,
    }


def metric(value, count):
    return {"successful": same(value, count), "errored": same(0.0, 0), "incomplete": same(0.0, 0), "total": same(value, count)}


def report(strategy, streams, itl, ttft):
    latency = (ttft + 127 * itl) / 1000  # s
    n = int(SECONDS / latency) * streams
    totals = {"successful": n, "errored": 0, "incomplete": 0, "total": n}
    kept = {"successful": 0, "errored": 0, "incomplete": 0, "total": None}
    profile = {"type_": strategy["type_"], "completed_strategies": 1, "measured_rates": [n / SECONDS],
               "measured_concurrencies": [float(streams)], "strategy_types": [strategy["type_"]]}
    return {"benchmarks": [{
        "type_": "generative_benchmark",
        "args": {"profile": profile, "strategy_index": 0, "strategy": strategy, "max_number": None, "max_duration": SECONDS,
                 "warmup_number": None, "warmup_duration": None, "cooldown_number": None, "cooldown_duration": None},
        "worker": {"type_": "generative_requests_worker", "backend_type": "openai_http", "backend_target": "http://vllm:8000",
                   "backend_model": "unsloth/Meta-Llama-3.1-8B", "backend_info": {}},
        "request_loader": {"type_": "generative_request_loader", "data": "prompt_tokens=128,output_tokens=128",
                           "data_args": None, "processor": "unsloth/Meta-Llama-3.1-8B", "processor_args": None},
        "extras": {}, "start_time": START, "end_time": START + SECONDS,
        "request_totals": totals, "request_samples": kept,
        "requests": {"successful": [], "errored": [], "incomplete": [], "total": None},
        "metrics": {
            "requests_per_second": metric(n / SECONDS, n), "request_concurrency": metric(float(streams), n),
            "request_latency": metric(latency, n), "prompt_token_count": metric(128.0, n), "output_token_count": metric(128.0, n),
            "time_to_first_token_ms": metric(ttft, n), "time_per_output_token_ms": metric(127 * itl / 128, n),
            "inter_token_latency_ms": metric(itl, n), "output_tokens_per_second": metric(128 * n / SECONDS, n),
            "tokens_per_second": metric(256 * n / SECONDS, n),
        },
        "duration": SECONDS,
    }]}


here = pathlib.Path(__file__).parent
for name, strategy, streams, itl, ttft in (
    ("synchronous", {"type_": "synchronous", "start_time": START}, 1, 7.0, 15.0),
    ("throughput", {"type_": "throughput", "start_time": START, "max_concurrency": 64}, 64, 8.7, 26.0),
):
    (here / f"{name}.json").write_text(json.dumps(report(strategy, streams, itl, ttft), indent=4) + "\n")

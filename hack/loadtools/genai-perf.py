"""genai-perf.py DIR: files as GenAI-Perf 0.0.16 writes them, of numbers that follow a law.

Its statistics, configuration and exporters are its own, as PyPI has them; its load
generator, perf_analyzer, is in no package. Testdata of internal/point/report are made so:
ITL 10 + 0.5 n ms, TTFT 30 + 0.01 * 64 n ms.
"""

import pathlib
import random
import sys
import types

from genai_perf.config.input.config_command import ConfigCommand
from genai_perf.export_data.csv_exporter import CsvExporter
from genai_perf.export_data.exporter_config import ExporterConfig
from genai_perf.export_data.json_exporter import JsonExporter
from genai_perf.metrics import LLMMetrics, Statistics

out = pathlib.Path(sys.argv[1])
for n in (1, 2, 4, 8, 16):
    random.seed(n)
    m, k = 20 * n, 32
    itl = [int(1e6 * (10 + 0.5 * n) * random.gauss(1, 0.02)) for _ in range(m)]
    ttft = [int(1e6 * (30 + 0.01 * 64 * n) * random.gauss(1, 0.03)) for _ in range(m)]
    lat = [t + (k - 1) * i for t, i in zip(ttft, itl)]
    seconds = sum(lat) / n / 1e9
    metrics = LLMMetrics(request_throughputs=[m / seconds], request_latencies=lat, time_to_first_tokens=ttft, time_to_second_tokens=itl,
        inter_token_latencies=itl, output_token_throughputs=[m * k / seconds], output_token_throughputs_per_user=[1e9 / i for i in itl],
        output_sequence_lengths=[k] * m, input_sequence_lengths=[64] * m)
    stats = Statistics(metrics)
    stats.scale_data()
    config = ConfigCommand({"model_name": "sim"})
    config.endpoint.streaming = True
    config.input.synthetic_tokens.mean = 64
    config.input.output_tokens.mean = 32
    config.perf_analyzer.stimulus = {"concurrency": n}
    directory = out / f"concurrency{n}"
    directory.mkdir(parents=True, exist_ok=True)
    analyzer = types.SimpleNamespace(get_artifact_directory=lambda directory=directory: directory)
    export = ExporterConfig(stats=stats.stats_dict, metrics=metrics, config=config, perf_analyzer_config=analyzer, extra_inputs={})
    JsonExporter(export).export()
    CsvExporter(export).export()

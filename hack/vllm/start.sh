#!/usr/bin/env bash
# start.sh [--port N] [--max-num-seqs N] [--max-model-len N] [ANY OPTION OF VLLM...]:
# runs the vLLM that install.sh has installed, with a tiny Llama of invented
# weights named "tiny", until it is interrupted. Installs it where it is not.
#
#   hack/vllm/start.sh --port 8000 --max-num-seqs 8
#   bin/step wait --target http://127.0.0.1:8000 --model tiny --timeout 5m
#
# It is ready 45-90 s later. WFGEN_VLLM: the version; otherwise install.sh's own.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=$("$here/install.sh" ${WFGEN_VLLM:+"$WFGEN_VLLM"})
model=$(cd "$(dirname "$python")/../../model" && pwd)

# The same flags as for a calibration (docs/vllm.md), and what a machine without
# a GPU and without a model hub needs. Options given later win.
unset VLLM_PORT # Kubernetes sets it to a URL where a Service is named vllm
export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} # GiB
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
# The command named vllm asks for the version of a package named vllm; here it
# is vllm-cpu.
exec "$python" -m vllm.entrypoints.openai.api_server \
  --model "$model" --served-model-name tiny --load-format dummy --enforce-eager --dtype bfloat16 \
  --no-enable-prefix-caching --host 127.0.0.1 --port 8000 --max-num-seqs 64 --max-model-len 4096 "$@"

#!/usr/bin/env bash
# install.sh [TOOL[=VERSION]...]: installs load generators whose files step reads, unmodified,
# from the Python package index, each into a virtual environment in the cache of
# this user. Prints for each the path of its environment's Python.
#
#   hack/loadtools/install.sh                # all: aiperf inference-perf sglang, and consumers
#   hack/loadtools/install.sh aiperf aiperf=0.11.0
#
# Of sglang only the load generator: its server wants a GPU. llm-d-planner, aibrix and
# ai-dynamo are consumers: their code reads what step render writes.
# guidellm and vllm have installers of their own beside this directory.
#
# WFGEN_CACHE   where (default: $XDG_CACHE_HOME/wfgen, or ~/.cache/wfgen)
# PYTHON        which Python, 3.12 or newer (default: python3.12, python3.13, or python3)
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${WFGEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wfgen}
root=$cache/loadtools
log=$root/install.log

venv=
fail() {
  echo "install.sh: $*" >&2
  [ -z "$venv" ] || [ -e "$venv/.complete" ] || rm -rf "$venv"
  [ ! -s "$log" ] || tail -n 15 "$log" | sed 's/^/  /' >&2
  exit 1
}

new='sys.version_info >= (3, 12)'
python=${PYTHON:-}
for candidate in python3.12 python3.13 python3 "$HOME"/.pyenv/versions/3.1[23].*/bin/python; do
  [ -z "$python" ] || break
  if "$candidate" -c "import sys; sys.exit(not $new)" 2>/dev/null; then python=$candidate; fi
done
[ -n "$python" ] || { echo "install.sh: no Python of 3.12 or newer; set PYTHON" >&2; exit 1; }

mkdir -p "$root"
exec 9>"$root/.lock"
if command -v flock >/dev/null; then flock 9; fi # one installation at a time
: >"$log"
uv=$("$here/../uv.sh" 2>>"$log") || fail "no uv, which makes the environments"

[ $# -gt 0 ] || set -- aiperf inference-perf sglang llm-d-planner aibrix ai-dynamo
for asked in "$@"; do
  check= tool=${asked%%=*}
  case $tool in
    aiperf) version=0.13.0 check='import aiperf' ;;
    inference-perf) version=0.7.0 check='import inference_perf' ;;
    sglang) version=0.5.6 ;; # the last whose load generator is one file
    llm-d-planner) version=0.3.3 ;;
    aibrix) version=0.8.0 ;;
    ai-dynamo) version=1.6.1 check='import msgspec, numpy, pydantic' ;;
    *) fail "$tool: expected aiperf, inference-perf, sglang, llm-d-planner, aibrix or ai-dynamo" ;;
  esac
  [ "$asked" = "$tool" ] || version=${asked#*=}
  venv=$root/$tool-$version
  if [ ! -e "$venv/.complete" ]; then # an installation that was cut off begins again
    "$uv" venv --quiet --clear --python "$python" "$venv" >>"$log" 2>&1 || fail "cannot make a virtual environment in $venv"
    install() { "$uv" pip install --quiet --python "$venv/bin/python" "$@" >>"$log" 2>&1 || fail "cannot install $tool $version"; }
    case $tool in
      sglang)
        install --no-deps "sglang==$version"
        install aiohttp numpy requests tqdm transformers pybase64 pillow datasets
        ;;
      llm-d-planner | aibrix) install --no-deps "$tool==$version" ;;
      ai-dynamo)
        install --no-deps "ai-dynamo==$version"
        install msgspec numpy pydantic
        ;;
      *) install "$tool==$version" ;;
    esac
    "$venv/bin/python" -c "${check:-pass}" >>"$log" 2>&1 || fail "$tool $version is installed and cannot be imported"
    touch "$venv/.complete"
  fi
  echo "$venv/bin/python"
done

if [ ! -e "$root/tokenizer/tokenizer_config.json" ]; then
  "$python" "$here/../guidellm/tokenizer.py" "$root/tokenizer" >>"$log" 2>&1 || fail "cannot make the tokenizer"
fi

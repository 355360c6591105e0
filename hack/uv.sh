#!/usr/bin/env bash
# uv.sh: prints the path of uv, which makes virtual environments whose files are
# links into one cache. Where the machine has none, it is installed from the Python
# package index into the cache of this user.
#
# WFGEN_CACHE   where (default: $XDG_CACHE_HOME/wfgen, or ~/.cache/wfgen)
# PYTHON        which Python, 3.10 or newer (default: python3)
set -euo pipefail

python=${PYTHON:-python3}
fail() {
  echo "uv.sh: $*" >&2
  exit 1
}

command -v "$python" >/dev/null || fail "no $python; install Python 3.10 or newer, or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$("$python" --version) is too old: 3.10 or newer is needed; set PYTHON"
if command -v uv; then exit; fi

root=${WFGEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wfgen}/uv
mkdir -p "$root"
exec 9>"$root/.lock"
if command -v flock >/dev/null; then flock 9; fi # one installation at a time
if ! "$root/bin/uv" --version >/dev/null 2>&1; then
  "$python" -m venv --clear "$root" >&2 || fail "cannot make a virtual environment with $python"
  "$root/bin/pip" install --quiet uv >&2 || fail "cannot install uv: is a Python package index reachable?"
fi
echo "$root/bin/uv"

#!/usr/bin/env bash
# install.sh [VERSION...]: installs guidellm, unmodified and with its real
# dependencies, from the Python package index: each version into a virtual
# environment of its own, kept in the cache of this user, and beside them a
# tokenizer for which one word is one token. Prints the path of each guidellm.
#
#   hack/guidellm/install.sh            # 0.3.1 0.5.4 0.6.1 0.7.3 0.8.1
#   hack/guidellm/install.sh 0.3.1      # without torch: 0.4 GB; later ones 5.6 GB,
#                                       # most of it shared between versions
#
# WFGEN_CACHE   where (default: $XDG_CACHE_HOME/wfgen, or ~/.cache/wfgen)
# PYTHON        which Python, 3.10 or newer (default: python3)
# UV_TORCH_BACKEND=cpu takes the small build of torch, where its index can be reached.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=${WFGEN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wfgen}/guidellm
python=${PYTHON:-python3}
log=$root/install.log

venv=
fail() {
  echo "install.sh: $*" >&2
  [ -z "$venv" ] || [ -e "$venv/.complete" ] || rm -rf "$venv"
  [ ! -s "$log" ] || tail -n 15 "$log" | sed 's/^/  /' >&2
  exit 1
}

[ $# -gt 0 ] || set -- 0.3.1 0.5.4 0.6.1 0.7.3 0.8.1
for version in "$@"; do
  [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+[a-z0-9.]*$ ]] || fail "$version is no version; expected numbers such as 0.7.3"
done

mkdir -p "$root"
exec 9>"$root/.lock"
if command -v flock >/dev/null; then flock 9; fi # one installation at a time
: >"$log"

uv=$("$here/../uv.sh" 2>>"$log") || fail "no uv, which makes the environments"

# Without these, a version installs and then cannot be imported.
pins() {
  case $1 in
    0.[1-4].* | 0.5.[0-3]) echo 'transformers<5' ;;
  esac
}

for version in "$@"; do
  venv=$root/$version
  if [ ! -e "$venv/.complete" ]; then # an installation that was cut off begins again
    "$uv" venv --quiet --clear --python "$python" "$venv" >>"$log" 2>&1 || fail "cannot make a virtual environment in $venv"
    mapfile -t pinned < <(pins "$version")
    "$uv" pip install --quiet --python "$venv/bin/python" "guidellm==$version" "${pinned[@]}" >>"$log" 2>&1 ||
      fail "cannot install guidellm $version"
    "$venv/bin/python" -c 'import guidellm.__main__' >>"$log" 2>&1 || fail "guidellm $version is installed and does not start"
    touch "$venv/.complete"
  fi
  echo "$venv/bin/guidellm"
done

if [ ! -e "$root/tokenizer/tokenizer_config.json" ] || [ "$here/tokenizer.py" -nt "$root/tokenizer/tokenizer_config.json" ]; then
  "$python" "$here/tokenizer.py" "$root/tokenizer" >>"$log" 2>&1 || fail "cannot make the tokenizer"
fi

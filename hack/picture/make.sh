#!/usr/bin/env bash
# make.sh FILE.png: runs the demo and pictures the top of its report, as a browser
# 1200 pixels wide shows it. Needs chromium: hack/chromium/install.sh.
set -euo pipefail

out=$(realpath "$1")
bin=$(realpath "$(dirname "$0")/../../bin")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && "$bin/wfgen" run --simulate --accelerators A100,H100 --run demo --step "$bin/step")
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
  --window-size=1200,1330 --screenshot="$out" "file://$work/out/runs/demo/report/index.html" 2>/dev/null

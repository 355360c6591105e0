#!/usr/bin/env bash
# install.sh: installs Chromium from the package archive of Debian or Ubuntu, for the
# test that looks at reports in it. Does nothing where it is installed already; where
# there is no such archive, or nobody may install from it, it says so and ends well:
# the test then skips.
set -euo pipefail

if command -v chromium >/dev/null; then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo 'chromium: there is no apt-get here; install it by hand' >&2
  exit 0
fi
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
if ! { $sudo apt-get update -qq && $sudo apt-get install -y -qq chromium; } >/dev/null; then
  echo 'chromium: cannot be installed; the test that needs it will skip' >&2
fi

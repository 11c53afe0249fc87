#!/usr/bin/env bash
# Programs of the system that some tests use, where apt and the right to install are there: a browser for the web pages, Prometheus
# for the exporter. Without them those tests are skipped, with the reason.
set -euo pipefail

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v promtool >/dev/null || missing+=(prometheus)
if ((!${#missing[@]})); then
  echo "chromium and prometheus are installed"
elif command -v apt-get >/dev/null && [[ "$(id -u)" == 0 ]]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  echo "installed: ${missing[*]}"
else
  echo "not installed: ${missing[*]}; as root: apt-get install ${missing[*]}"
fi

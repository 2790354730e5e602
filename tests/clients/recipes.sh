#!/usr/bin/env bash
# Runs Claude Code, Codex CLI and Gemini CLI over poolgate, each set up by nothing but what `poolgate env` prints,
# in front of a simulated vendor, and looks for the vendor's answer in what they say. They see no network but a
# loopback of their own. Not a part of `make test`: the three are 500 MB.
#
#   tests/clients/recipes.sh [POOLGATE [FOLDER]]      FOLDER keeps the installed clients; needs node and npm
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${RECIPES_ALONE:-}" ]; then
  poolgate=$(realpath "${1:-target/release/poolgate}")
  clients=${2:-target/recipes}
  mkdir -p "$clients"
  clients=$(realpath "$clients")
  if [ ! -x "$clients/node_modules/.bin/gemini" ]; then
    npm install --silent --no-audit --no-fund --prefix "$clients" @anthropic-ai/claude-code @openai/codex @google/gemini-cli
  fi
  exec env RECIPES_ALONE=1 unshare --net --map-root-user bash "$0" "$poolgate" "$clients"
fi

poolgate=$1
PATH=$2/node_modules/.bin:$PATH:/usr/sbin:/sbin
ip link set lo up
folder=$(mktemp -d)
started=()
leave() {
  kill "${started[@]}" 2>/dev/null || true
  wait
  rm -rf "$folder"
}
trap leave EXIT
cd "$folder"
cat >poolgate.yaml <<'Y'
clients: {open: false, keys: [{name: me, key: sk-of-mine}]}
pools: {default: {accounts: [{id: a, upstream: "http://127.0.0.1:9101", credential: {api_key: invented}}]}}
Y
"$poolgate" mock --port 9101 --name recipe >mock.log 2>&1 &
started+=($!)
"$poolgate" run >gateway.log 2>&1 &
started+=($!)
for _ in $(seq 100); do
  curl -sf http://127.0.0.1:8080/readyz >/dev/null && break
  sleep 0.1
done

export HOME=$folder/home DISABLE_TELEMETRY=1
mkdir -p "$HOME/.codex" "$HOME/.gemini" empty
cd empty
lines() { # CLIENT
  "$poolgate" env "$1" -c ../poolgate.yaml | sed 's/YOUR_KEY/sk-of-mine/'
}
for client in claude codex gemini; do
  eval "$(lines $client)"
done
lines codex | sed -n '/config.toml/,$p' | sed '1d; s/^# //' >"$HOME/.codex/config.toml"
lines gemini | sed -n 's/^# {/{/p' >"$HOME/.gemini/settings.json"

failed=0
recipe() { # NAME COMMAND…
  local name=$1 said
  shift
  said=$(timeout 120 "$@" </dev/null 2>said.log) || true
  case $said in
    *"Hello from recipe"*) echo "ok      $name $(${1} --version 2>/dev/null | head -1)" ;;
    *)
      failed=1
      echo "FAILED  $name: $said $(tail -5 said.log)"
      ;;
  esac
}
recipe claude claude -p "Say hello"
recipe codex codex exec --skip-git-repo-check "Say hello"
# Without a model it first asks another one which to take, and the simulated vendor has no opinion.
recipe gemini gemini --skip-trust -m gemini-3-pro-preview -p "Say hello"
exit $failed

#!/usr/bin/env bash
# make demo: packs real pictures, pretrains a small CLIP on them with two data-parallel workers, shows what it learned.
#   STEPS=n   optimizer steps instead of the recipe's own number
#   KILL=1    kills one worker in the middle third of the run, after a checkpoint
#   FRESH=1   trains anew although a finished run of this recipe, STEPS, KILL and build is there
#   BIN=dir   where weft and weft-worker are (default build/release/bin)
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${BIN:-build/release/bin}
recipe=recipes/clip/demo.textproto
data=build/demo/data
reports=build/reports
say() { printf '\n== %s\n' "$*"; }

# A number between $1 and $2 that the arguments after them pick: the same arguments, the same number.
pick() {
  local low=$1 high=$2 hash
  hash=$(printf '%s' "${*:3}" | cksum | cut -d' ' -f1)
  echo $((low + hash % (high - low + 1)))
}

say "Pictures and captions (Debian package openclipart-png)"
"$bin/weft" data pack openclipart --out "$data" --short 96 --cache build/demo/cache
"$bin/weft" data vocab --captions-from "$data/train-{000000..000007}.tar" --size 2562 --out "$data/vocab.txt"

# recipe_number FIELD: what the recipe says, defaults filled in.
recipe_number() {
  "$bin/weft" train "$recipe" --print-recipe | sed -n "s/^ *$1: *\([0-9]*\).*/\1/p"
}
steps=${STEPS:-$(recipe_number steps)}
case $steps in
'' | *[!0-9]*) echo "demo: STEPS must be a number of steps, not '$steps'" >&2 && exit 2 ;;
esac
if [ "$steps" -lt 12 ]; then
  echo "demo: STEPS must be at least 12, so that a checkpoint comes before the middle third" >&2
  exit 2
fi
# The warm-up never takes more than a third of a shortened run.
warmup=$(recipe_number warmup_steps)
if [ "$warmup" -gt $((steps / 3)) ]; then warmup=$((steps / 3)); fi
# A commit each sixth of the run: the first one lies before the middle third.
every=$((steps / 6))
build=$(cat "$bin/weft" "$bin/weft-worker" "$recipe" | sha256sum | cut -c1-8)
name=clip-demo-steps$steps${KILL:+-kill}-$build
run=build/demo/runs/$name
inject=()
if [ -n "${KILL:-}" ]; then
  inject=(--inject "kill:rank=$(pick 0 1 rank "$steps"),step=$(pick $((steps / 3 + 1)) $((steps * 2 / 3)) step "$steps")")
fi

[ -n "${FRESH:-}" ] && rm -rf "$run"
mkdir -p "$(dirname "$run")" "$reports"
say "Training: $steps steps, two workers, run directory $run"
"$bin/weft" train "$recipe" --run-dir "$run" --set "steps=$steps" --set "schedule.warmup_steps=$warmup" \
  --set "run.checkpoint_every=$every" "${inject[@]}"

say "What it learned"
"$bin/weft" report "$run" --html "$reports/demo.html" --json "$reports/demo.json"
echo "demo: open $reports/demo.html in a browser; the figures are in $reports/demo.json"

#!/usr/bin/env bash
# make bench-step: what schedules are worth (simulated blocks, four pipeline ranks), and a real model under a few layouts.
# One JSON a run under build/reports/.
set -euo pipefail
weft=$1
reports=build/reports
mkdir -p "$reports"
for schedule in GPIPE ONE_F_ONE_B ZB_H1; do
  "$weft" bench step --simulate 20 --layout "pp=4,schedule=$schedule" --json "$reports/bench-step-$schedule.json"
done
"$weft" bench step --simulate 20 --layout pp=4,virtual_stages=2,schedule=INTERLEAVED_1F1B \
  --json "$reports/bench-step-INTERLEAVED_1F1B.json"
for layout in dp=1 dp=2 dp=2,zero_stage=3 dp=1,pp=2 dp=1,tp=2; do
  "$weft" bench step recipes/roberta/tiny.textproto --layout "$layout" --json "$reports/bench-step-${layout//[=,]/-}.json"
done

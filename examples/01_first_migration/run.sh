#!/usr/bin/env bash
# Every command of README.md, in its order.
set -euo pipefail
cd "$(dirname "$0")"

python build.py
xbtmigrate init --url path:qdrant --collection pictures --config found.toml
xbtmigrate plan
xbtmigrate train-projector --kind procrustes,ridge
xbtmigrate backfill --fraction 0.3
xbtmigrate backfill --online --fraction 0.3
xbtmigrate status
xbtmigrate evaluate --queries queries.parquet
xbtmigrate backfill --online --fraction 1
python search.py "2 dead frogs, kwaakwaa, squeleton, froggies"

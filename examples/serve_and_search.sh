#!/usr/bin/env bash
# Exports a run, serves it, embeds a folder of videos through the server and searches it: by the
# given words, or else by the first video of the index and by its sound.
#
#   examples/serve_and_search.sh RUN VIDEOS [QUERY ...]
#
# The commands are those that one types; the port is a free one, and the server ends with the script.
set -euo pipefail
python=${PYTHON:-python}
run=$1
videos=$2
shift 2

"$python" -m vatt_tf.export --run_dir="$run" --out="$run/served"

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
log=$(mktemp)
"$python" -m vatt_tf.serving --models="$run/served" --port="$port" > "$log" 2>&1 &
server=$!
trap 'kill $server; wait $server 2> /dev/null || true; rm -f "$log"' EXIT
# Ready when the port takes connections.
for _ in $(seq 120); do
  if (: < "/dev/tcp/localhost/$port") 2> /dev/null; then break; fi
  kill -0 $server 2> /dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.5
done

# The index of an earlier export makes way: --replace removes what embed wrote, and nothing else.
"$python" -m vatt_tf.embed --videos="$videos" --out="$run/index" --server="localhost:$port" --replace
search=("$python" -m vatt_tf.search --index="$run/index" --server="localhost:$port" --top=3)
for query in "$@"; do
  "${search[@]}" "$query"
done
if [ $# = 0 ]; then
  # The name of a video in the index, by which clips like it are found. It may have no sound.
  example=$videos/$("$python" - "$run/index" << 'END'
import sys
from vatt_tf.search_index.folder import open_index
print(next(e.file for e in open_index(sys.argv[1]).entries.values() if e.times))
END
)
  "${search[@]}" --video="$example"
  if [ -d "$run/served/audio" ]; then
    "${search[@]}" --audio="$example" || echo "(the search by sound needs a file that has sound)"
  fi
fi

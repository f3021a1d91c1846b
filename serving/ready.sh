#!/bin/bash
# Exit code 0 if the server on this machine embeds a text: status alone does not show that a graph
# runs. Needs bash only, which the image of the server has (no curl, no Python).
#   ready.sh [REST_PORT] [MODEL] [ROW]
port=${1:-8501}
model=${2:-text}
body="{\"instances\": [${3:-\"ready\"}]}"
exec 3<>"/dev/tcp/localhost/${port}" || exit 1
printf 'POST /v1/models/%s:predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s' \
  "${model}" "${#body}" "${body}" >&3
read -r -t 10 protocol code rest <&3
[[ ${code} == 200 ]]

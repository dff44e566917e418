#!/bin/sh
# Whether calls are served here as well as anywhere: keepalived's second vrrp_script. Only /fit's 503 says no; whether anybody
# answers at all is for check.sh to say.
url=http://127.0.0.1:9060   # [http] listen; with [http.tls] https://
[ "$(curl -ks --max-time 1 -o /dev/null -w '%{http_code}' "$url/fit")" != 503 ]

#!/bin/sh
# Whether calls are served here as well as anywhere: keepalived's second vrrp_script. Only /fit's 503 says no; whether anybody
# answers at all is for check.sh to say.
[ "$(curl -s --max-time 1 -o /dev/null -w '%{http_code}' http://127.0.0.1:9060/fit)" != 503 ]

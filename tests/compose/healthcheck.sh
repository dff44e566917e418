#!/bin/sh
# healthcheck.sh --connect --innodb_initialized: somebody answers by TCP.
exec mariadb-admin --no-defaults --protocol=tcp --host=127.0.0.1 --user=healthcheck ping

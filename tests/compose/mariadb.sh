#!/bin/bash
# The start of MariaDB: at the first one a database is made, and *.sql of /docker-entrypoint-initdb.d run in it.
set -eu
data=/var/lib/mysql
run=(mariadbd --no-defaults --datadir="$data" --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/mysqld.pid)
if [ ! -d "$data/mysql" ]; then
    mariadb-install-db --no-defaults --skip-test-db --auth-root-authentication-method=normal --datadir="$data" >/dev/null
    {
        printf '%s;\n' "FLUSH PRIVILEGES" "CREATE USER healthcheck@127.0.0.1" "CREATE DATABASE $MARIADB_DATABASE" "USE $MARIADB_DATABASE"
        cat /docker-entrypoint-initdb.d/*.sql
    } | "${run[@]}" --bootstrap --skip-networking
fi
exec "${run[@]}" --bind-address=0.0.0.0 "$@"

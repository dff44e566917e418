#!/bin/sh
# Tells the system's log what keepalived did. Tandem is not told: it sees by itself which addresses are here.
# $1 INSTANCE, $2 the instance, $3 MASTER, BACKUP, FAULT or STOP, $4 the priority
exec logger -t tandem-vip "$2 is $3 (priority $4)"
